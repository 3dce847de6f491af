"""`tireid index` and `tireid search`, as typed."""

import io
import json
import sys

import pytest
from PIL import Image

from tireid.cli import index as index_command
from tireid.cli import search as search_command


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Return a function that runs a command in `tmp_path` and returns code and outputs."""
    monkeypatch.chdir(tmp_path)

    def run(command, *words):
        monkeypatch.setattr(sys, "argv", [f"tireid {command}", *map(str, words)])
        code = 0
        try:
            {"index": index_command, "search": search_command}[command].main()
        except SystemExit as exit_:
            code = exit_.code
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def gallery(typed, pictures, model):
    code, out, _ = typed("index", pictures, "--model", model, "--workers", 0, "--device", "cpu",
                         "--name-pattern", r"_c(?P<camera>\d+)_(?P<time>\d{6})")  # fmt: skip
    assert code == 0
    assert out == (
        "gallery: 12 images (12 added, 0 updated, 0 removed, 0 unchanged; 12 embedded)\n"
    )


def test_a_table_shows_rank_score_fields_and_file(typed, gallery):
    code, out, err = typed("search", "a woman in red", "-k", 3)
    assert code == 0
    assert "a woman in red" in out
    assert out.splitlines()[1].split() == ["rank", "score", "camera", "time", "file"]
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["1", "2", "3"]
    assert err.count("synthetic people") == 1


def test_json_holds_every_field(typed, gallery):
    _, out, _ = typed("search", "a woman", "a man", "--json", "-k", 2, "--where", "camera=1")
    found = json.loads(out)
    assert [one["query"] for one in found] == ["a woman", "a man"]
    assert set(found[0]["results"][0]) == {"rank", "score", "path", "id", "fields"}
    assert found[0]["results"][0]["fields"]["camera"] == 1


def test_sentences_come_from_standard_input(typed, gallery, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a woman\n\na man\n"))
    _, out, _ = typed("search", "-", "--json", "-k", 1)
    assert [one["query"] for one in json.loads(out)] == ["a woman", "a man"]


def test_an_image_alone_is_a_query(typed, gallery, pictures):
    path = sorted(pictures.rglob("*.png"))[4]
    _, out, _ = typed("search", "--image", path, "--json", "-k", 1)
    (found,) = json.loads(out)
    assert found["query"] == path.name
    assert found["results"][0]["path"] == str(path)


def test_a_sheet_shows_all_results_also_of_files_that_are_gone(typed, gallery, pictures):
    sorted(pictures.rglob("*.png"))[0].unlink()
    _, _, err = typed("search", "a woman", "a man", "-k", 12, "--sheet", "sheet.png")
    assert "written: sheet.png" in err
    with Image.open("sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 10 * 96
        assert sheet.height > 4 * 240


def test_open_shows_a_sheet(typed, gallery, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    typed("search", "a woman", "--open")
    assert opened[0].startswith("file:///")
    assert opened[0].endswith("sheet.png")


def test_names_of_files_cannot_break_the_table(typed, pictures, draw, model):
    draw(pictures / "[red]a\nb\x1b[31m.png")
    typed("index", pictures, "--model", model, "--workers", 0, "--device", "cpu")
    _, out, _ = typed("search", "a [bold]woman", "-k", 13)
    assert r"[red]a\nb\x1b[31m.png" in out
    assert "a [bold]woman" in out
    assert len(out.splitlines()) == 15


def test_images_of_an_empty_folder_are_kept_and_it_says_how_to_remove_them(
    typed, gallery, pictures, model
):
    for path in (pictures / "day 0").iterdir():
        path.unlink()
    _, out, _ = typed("index", pictures, "--device", "cpu")
    assert "gallery: 12 images (0 added" in out
    assert f"6 images are kept though {pictures / 'day 0'} is empty" in " ".join(out.split())
    _, out, _ = typed("index", pictures, "--device", "cpu", "--prune")
    assert "6 removed" in out


def test_files_that_are_not_indexed_are_counted_and_their_list_named(typed, pictures, model):
    (pictures / "text.jpg").write_text("no image")
    code, out, _ = typed("index", pictures, "--model", model, "--workers", 0, "--device", "cpu")
    assert code == 0
    assert "1 files are not in it; reasons: gallery/unreadable.csv" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "a", "--in", "nowhere"], "error: nowhere: expected an index"),
        (["index", "nowhere"], "error: nowhere: expected a folder"),
        (["index", ".", "--model", "lgru"], "error: model: expected a path or a word"),
    ],
)
def test_wrong_input_is_one_message_and_code_1(typed, words, message):
    code, out, err = typed(*words)
    assert (code, out) == (1, "")
    assert err.startswith(message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["index", ".", "--stroage", "int8"], "got '--stroage'; did you mean --storage?"),
        (["search", "a", "--wehre=b"], "did you mean --where?"),
        (["index"], "expected a SOURCE or --split"),
        (["search"], "expected a SENTENCE or --image"),
        (["index", ".", "--storage", "int4"], "invalid choice: 'int4'"),
    ],
)
def test_a_wrong_option_is_answered_with_code_2(typed, words, message):
    code, _, err = typed(*words)
    assert code == 2
    assert message in err


@pytest.mark.usefixtures("gallery")
def test_a_search_that_finds_nothing_says_so(typed):
    _, out, _ = typed("search", "a woman", "--in", "gallery", "--where", "path ~ nowhere")
    assert out == "a woman: no image; the index is empty, or none passes --where\n"


def test_a_folder_without_images_is_said(typed, tmp_path, model):
    (tmp_path / "none").mkdir()
    _, out, _ = typed("index", tmp_path / "none", "--model", model, "--out", tmp_path / "empty")
    assert "expected images in" in out
