"""Results of queries: hand-computed ranks, equal to the evaluation, whole after writing."""

import dataclasses
import pickle
import zipfile

import numpy as np
import pytest
import torch

from tireid.retrieval import embedding_values, top_k
from tireid.retrieval.query_results import queries_content, query_results, read_queries


@pytest.fixture
def made():
    generator = torch.Generator().manual_seed(5)
    texts = torch.randn(37, 6, generator=generator)
    images = torch.randn(23, 6, generator=generator)
    text_pids = torch.randint(0, 7, (37,), generator=generator)
    image_pids = torch.arange(23) % 6  # person 6 has no image
    own = torch.tensor(
        [next((i for i in range(23) if image_pids[i] == pid), -1) for pid in text_pids]
    )
    return texts, images, text_pids, image_pids, own


def test_by_hand():
    # Similarities 1, 0.6, 0: person 4 is second, and the query's own image is that one.
    texts = torch.tensor([[1.0, 0.0]])
    images = torch.tensor([[0.0, 1.0], [0.6, 0.8], [1.0, 0.0]])
    own = torch.tensor([1])
    found = query_results(texts, images, torch.tensor([4]), torch.tensor([3, 4, 3]), own, k=2)
    assert found.first_rank.tolist() == [2]
    assert found.found.tolist() == [[2, 1]]
    assert found.scores[0] == pytest.approx([1.0, 0.6], abs=1e-6)
    assert found.right.tolist() == [[False, True]]
    assert found.values["mAP"] == pytest.approx([0.5])
    assert found.positives.sum() == 1
    assert found.edges[found.positives.argmax()] == pytest.approx(0.6, abs=0.01)
    assert found.negatives[-1] == 1
    assert found.negatives.sum() == 2


def test_equal_to_the_evaluation_in_blocks(made):
    whole, blocks = query_results(*made), query_results(*made, block_size=5)
    expected = embedding_values(*made[:4], paired=made[4])
    for name, value in expected.items():
        np.testing.assert_allclose(whole.values[name], value.numpy(), rtol=1e-6)
    np.testing.assert_array_equal(whole.found, top_k(made[0], made[1], 10)[1])
    for field in dataclasses.fields(whole):
        np.testing.assert_equal(getattr(whole, field.name), getattr(blocks, field.name))


def test_ranks_agree_with_recall_and_pairs_are_all_counted(made):
    found = query_results(*made)
    ranked = found.first_rank > 0
    assert ranked.tolist() == (made[2] < 6).tolist()
    np.testing.assert_array_equal(found.values["R5"][ranked], found.first_rank[ranked] <= 5)
    assert found.positives.sum() == (made[2][:, None] == made[3]).sum()
    assert found.positives.sum() + found.negatives.sum() == 37 * 23


def test_gallery_smaller_than_k(made):
    texts, images, text_pids, image_pids, own = made
    found = query_results(texts, images[:4], text_pids, image_pids[:4], own.clamp_max(3), k=10)
    assert found.found.shape == (37, 4)


def test_written_and_read(made, tmp_path):
    found = query_results(*made)
    path = tmp_path / "queries.npz"
    path.write_bytes(queries_content(found))
    again = read_queries(path)
    for field in dataclasses.fields(found):
        np.testing.assert_equal(getattr(again, field.name), getattr(found, field.name))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", pickle.dumps({"a": 1})])
def test_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "queries.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"queries\.npz: expected the results of queries"):
        read_queries(path)


def test_foreign_archive_is_named(tmp_path):
    path = tmp_path / "queries.npz"
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(ValueError, match=r"queries\.npz: expected the results of queries"):
        read_queries(path)


SHAPES = {
    "edges": np.linspace(-1, 1, 3),
    "positives": np.zeros(7, np.int64),
    "pids": np.zeros(3, np.int64),
    "found": np.zeros((37, 4), np.int32),
    "right": np.zeros((37, 10)),
    "value/R1": np.zeros((37, 2), np.float32),
}


@pytest.mark.parametrize("name", SHAPES)
def test_arrays_that_do_not_fit_the_others_are_named(made, tmp_path, name):
    path = tmp_path / "queries.npz"
    path.write_bytes(queries_content(query_results(*made)))
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    np.savez(path, **(arrays | {name: SHAPES[name]}))
    with pytest.raises(ValueError, match=r"queries\.npz: "):
        read_queries(path)


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "queries.npz"
    np.savez_compressed(path, pids=np.zeros(40_000_000, np.int64))
    assert path.stat().st_size < 2**20
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(ValueError, match="got 305 MiB in it"):
        read_queries(path)


def test_a_header_that_promises_endless_numbers_is_refused(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000,), }"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "queries.npz", "w") as archive:
        archive.writestr("pids.npy", content)
    with pytest.raises(ValueError, match=r"queries\.npz: expected the results of queries"):
        read_queries(tmp_path / "queries.npz")
