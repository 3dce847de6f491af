"""The file of a test's queries, written by the first process only."""

import numpy as np

from tireid.callbacks.query_record import QueryRecord, query_results_of
from tireid.retrieval.query_results import query_results, read_queries


def test_the_file_holds_the_best_images_of_each_query(split, after_test, model, tmp_path):
    record = QueryRecord(str(tmp_path), "queries.npz", top_k=3)
    trainer = after_test(record)
    assert query_results_of(trainer) is None
    record.on_test_end(trainer, model)
    expected = query_results(*split, k=3)
    assert expected.found.shape == (12, 3)
    for results in (read_queries(tmp_path / "queries.npz"), query_results_of(trainer)):
        np.testing.assert_array_equal(results.found, expected.found)
        np.testing.assert_array_equal(results.first_rank, expected.first_rank)


def test_without_a_test_or_on_another_process_nothing_is_written(after_test, model, tmp_path):
    record = QueryRecord(str(tmp_path))
    record.on_test_end(after_test(embeddings=None), model)
    record.on_test_end(after_test(is_global_zero=False), model)
    assert list(tmp_path.glob("*.npz")) == []
    assert record.results is None


def test_without_the_callback_there_are_no_results(stub_trainer):
    assert query_results_of(stub_trainer()) is None
