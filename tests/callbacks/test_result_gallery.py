"""The figure of test queries: which rows it has, and what keeps it from being drawn."""

import pytest
from PIL import Image

from tireid.callbacks.result_gallery import ResultGallery
from tireid.retrieval import top_k


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn: rows, title and warning of each figure."""
    figures = []
    monkeypatch.setattr(
        "tireid.callbacks.result_gallery.draw_gallery",
        lambda rows, path, title, *, warning: figures.append((rows, title, warning)),
    )
    return figures


def test_a_row_has_the_captions_image_and_the_best_images_with_scores(
    after_test, model, split, records, drawn, tmp_path
):
    ResultGallery(str(tmp_path), num_queries=5, top_k=3).on_test_end(after_test(), model)
    captions = [caption for record in records for caption in record.captions]
    (rows, *_) = drawn[0]
    queries = [captions.index(row.caption) for row in rows]
    assert len(set(queries)) == 5
    for query, row in zip(queries, rows, strict=True):
        assert row.own_image == records[query // 2].image_path
        scores, best = top_k(split.texts[[query]], split.images, 3)
        assert row.found == [records[position].image_path for position in best[0].tolist()]
        assert row.scores == scores[0].tolist()
        assert row.right == [records[n].pid == query // 4 for n in best[0].tolist()]


def test_a_link_in_the_figures_place_is_not_followed(after_test, model, tmp_path):
    run, outside = tmp_path / "run", tmp_path / "outside"
    run.mkdir()
    outside.write_text("mine")
    (run / "gallery_test.png").symlink_to(outside)
    ResultGallery(str(run), num_queries=1, top_k=1).on_test_end(after_test(), model)
    assert outside.read_text() == "mine"
    assert not (run / "gallery_test.png").is_symlink()


def test_the_figure_is_drawn(after_test, model, tmp_path):
    ResultGallery(str(tmp_path), num_queries=2, top_k=2).on_test_end(after_test(), model)
    with Image.open(tmp_path / "gallery_test.png") as image:
        assert min(image.size) > 100
        assert image.mode == "P"  # of few colours: a third of the size


def test_a_choice_on_the_test_split_is_written_in_red(after_test, model, drawn, tmp_path):
    for selection in ("val", "test"):
        gallery = ResultGallery(str(tmp_path), num_queries=3, selection=selection)
        gallery.on_test_end(after_test(), model)
    (_, plain, none), (_, marked, warning) = drawn
    assert plain.startswith("3 test captions drawn at random")
    assert "6 best of 6" in plain  # no more than the gallery has
    assert marked == plain
    assert (none, warning) == ("", "Checkpoint CHOSEN ON THE TEST SPLIT.")


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
    with pytest.warns(
        UserWarning, match=r"gallery_test\.png was not drawn: ValueError.*does not exist"
    ):
        ResultGallery(str(tmp_path)).on_test_end(after_test(), model)
