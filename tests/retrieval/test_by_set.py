import torch
from torch.nn.functional import normalize

from tireid.retrieval.by_set import values_by_set
from tireid.retrieval.collection import SplitEmbeddings
from tireid.retrieval.evaluation import evaluate_embeddings


def test_each_set_is_ranked_as_if_it_were_alone():
    rng = torch.Generator().manual_seed(0)
    image_pids = torch.tensor([0, 5, 0, 1, 5, 6, 1, 6])
    image_index = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 1])
    texts, images = (normalize(torch.randn(n, 4, generator=rng), dim=1) for n in (9, 8))
    split = SplitEmbeddings(texts, images, image_pids[image_index], image_pids, image_index)
    found = values_by_set(split, {"a": {0, 1}, "b": {5, 6}})
    for name, chosen in (("a", [0, 2, 3, 6]), ("b", [1, 4, 5, 7])):
        mine = [t for t in range(9) if int(image_index[t]) in chosen]
        expected = evaluate_embeddings(
            texts[mine],
            images[chosen],
            split.text_pids[mine],
            image_pids[chosen],
            paired=torch.tensor([chosen.index(int(image_index[t])) for t in mine]),
        )
        assert {f"{name}/{key}": value for key, value in expected.items()} == {
            key: value for key, value in found.items() if key.startswith(f"{name}/")
        }
