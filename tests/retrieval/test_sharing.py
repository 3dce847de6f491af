"""Ranking shared among processes: the same bits for any number, each ranks its part."""

import numpy as np
import pytest
import torch

from tireid.retrieval import embedding_values
from tireid.retrieval.sharing import shared_embedding_values


def made(queries=11):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(9, 5, generator=generator)
    image_pids = torch.arange(9) % 4
    paired = torch.randint(9, (queries,), generator=generator)
    texts = images[paired] + torch.randn(queries, 5, generator=generator)
    return texts, images, image_pids[paired], image_pids, paired


def ranked(rank, queries):
    texts, images, text_pids, image_pids, paired = made(queries)
    seen = []
    import tireid.retrieval.sharing as sharing

    plain = sharing.embedding_values
    sharing.embedding_values = lambda texts, *rest, **names: (
        seen.append(len(texts)) or plain(texts, *rest, **names)
    )
    values = shared_embedding_values(texts, images, text_pids, image_pids, paired=paired)
    return {name: value.numpy() for name, value in values.items()}, seen, failed()


def failed():
    texts, *rest, _ = made()
    texts[0] = torch.nan  # in the share of the first process
    try:
        shared_embedding_values(texts, *rest)
    except ValueError as error:
        return str(error)
    return "nothing"


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize(("processes", "queries", "share"), [(2, 11, 6), (3, 2, 1)])
def test_every_process_has_the_bits_of_one(on_ranks, processes, queries, share):
    texts, images, text_pids, image_pids, paired = made(queries)
    expected = embedding_values(texts, images, text_pids, image_pids, paired=paired)
    for values, seen, error in on_ranks(processes, ranked, queries):
        assert seen == [share]
        assert list(values) == list(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(values[name], value.numpy())
        assert error == "1 of 11 text embeddings contain NaN or Inf"
