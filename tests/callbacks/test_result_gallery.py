"""The figure of test queries: which rows it has, and what keeps it from being drawn."""

import numpy as np
import pytest
from PIL import Image

from tireid.callbacks.result_gallery import ResultGallery, gallery_rows
from tireid.retrieval import top_k


def test_a_row_has_the_captions_image_and_the_best_images_with_scores(split, records):
    (row, other) = gallery_rows(split, records, np.array([5, 0]), k=3)
    assert (row.caption, row.own_image) == ("caption 1 of image 2", records[2].image_path)
    assert other.own_image == records[0].image_path
    scores, best = top_k(split.texts[[5]], split.images, 3)
    assert row.found == [records[position].image_path for position in best[0].tolist()]
    assert row.scores == scores[0].tolist()
    assert row.right == [records[position].pid == 1 for position in best[0].tolist()]


def test_more_images_than_the_gallery_has_are_not_asked_for(split, records):
    (row,) = gallery_rows(split, records, np.array([0]), k=10)
    assert len(row.found) == len(records)


def test_the_figure_is_drawn(after_test, model, tmp_path):
    ResultGallery(str(tmp_path), num_queries=2, top_k=2).on_test_end(after_test(), model)
    with Image.open(tmp_path / "gallery_test.png") as image:
        assert min(image.size) > 100


def test_a_choice_on_the_test_split_is_written_in_red(after_test, model, tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(
        "tireid.callbacks.result_gallery.draw_gallery",
        lambda rows, path, title, *, title_colour: titles.append((title, title_colour)),
    )
    for selection in ("val", "test"):
        gallery = ResultGallery(str(tmp_path), num_queries=3, selection=selection)
        gallery.on_test_end(after_test(), model)
    (plain, black), (marked, red) = titles
    assert plain.startswith("3 test captions drawn at random")
    assert "6 best of 6" in plain
    assert marked.startswith("Checkpoint CHOSEN ON THE TEST SPLIT. ")
    assert (black, red) == ("black", "red")


def test_a_part_of_the_split_another_process_or_no_test_draws_nothing(
    after_test, model, split, tmp_path
):
    gallery = ResultGallery(str(tmp_path))
    gallery.on_test_end(after_test(embeddings=split._replace(texts=split.texts[:3])), model)
    gallery.on_test_end(after_test(is_global_zero=False), model)
    gallery.on_test_end(after_test(embeddings=None), model)
    assert list(tmp_path.glob("*.png")) == []


def test_a_figure_that_fails_is_a_warning(after_test, model, records, tmp_path):
    for record in records:
        record.image_path.unlink()
    with pytest.warns(UserWarning, match=r"gallery_test\.png was not drawn: FileNotFoundError"):
        ResultGallery(str(tmp_path)).on_test_end(after_test(), model)
