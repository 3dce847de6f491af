"""The command that compares: what it writes, where, and what it says when it cannot."""

import html
import re
import sys
from pathlib import Path

import pytest

from tireid.cli.compare import main
from tireid.comparison.table import markdown, table
from tireid.runs.results import Result, read_csv, write_csv


def kept(path, label, r1):
    fields = {
        "dataset": "synthetic",
        "seed": 1,
        "selection": "val",
        "steps": 200,
        "seconds": 10.0,
        "images_per_second": 100.0,
        "parameters": 2_340_000,
        "test_data": "f00",
        "settings": "5e7",
        "commit": "",
    }
    write_csv([Result(label=label, metrics={"test/R1": r1}, **fields)], path, ["test/R1"])
    return path


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs the command in a folder of its own."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["tireid compare", *map(str, words)])
        main()
        return place

    return command


def test_a_report_of_files_is_written_here_and_of_a_folder_into_it(run, tmp_path):
    place = run(kept(tmp_path / "a.csv", "a", 50.0))
    assert sorted(path.name for path in place.iterdir()) == ["report.html", "report.md"]
    text = (place / "report.md").read_text(encoding="utf-8")
    assert "| a | 1 | 50.0 | 2.3 | 200 | val |" in text  # alone it is nobody's control
    assert "a.csv" in text
    run(kept(tmp_path / "a.csv", "a", 50.0), "--out", tmp_path / "there" / "deep")
    assert (tmp_path / "there" / "deep" / "report.html").is_file()


def test_a_trained_run_gets_its_report_into_its_folder(run, copied_run):
    place = run(copied_run)
    assert not list(place.iterdir())
    page = (copied_run / "report.html").read_text(encoding="utf-8")
    assert "Where methods disagree" not in page  # there is one row
    assert "Similarities" in page
    assert "R@1 by number of attributes in the caption" in page


def test_one_call_fills_several_tables_and_may_leave_the_report_out(run, tmp_path):
    files = [kept(tmp_path / f"{name}.csv", name, r1) for name, r1 in (("a", 40.0), ("b", 60.0))]
    page = tmp_path / "page.md"
    page.write_text("<!-- a -->\n<!-- /a -->\nbetween\n<!-- b -->\nold\n<!-- /b -->\n")
    place = run(*files, "--fill", page, "--no-page")
    expected = [markdown(*table(read_csv(file))) for file in files]
    assert page.read_text() == (
        f"<!-- a -->\n{expected[0]}\n<!-- /a -->\nbetween\n<!-- b -->\n{expected[1]}\n<!-- /b -->\n"
    )
    assert "40.0" in expected[0]
    assert not list(place.iterdir())


def test_nothing_is_filled_if_a_marker_is_missing(run, tmp_path, capsys):
    files = [kept(tmp_path / f"{name}.csv", name, 1.0) for name in "ab"]
    page = tmp_path / "page.md"
    page.write_text("<!-- a -->\n<!-- /a -->\n")
    with pytest.raises(SystemExit):
        run(*files, "--fill", page)
    assert "expected one <!-- b -->" in capsys.readouterr().err
    assert page.read_text() == "<!-- a -->\n<!-- /a -->\n"


def test_the_control_is_named_on_the_command_line(run, tmp_path, capsys):
    sources = [kept(tmp_path / f"{name}.csv", name, 1.0) for name in "ab"]
    place = run(*sources, "--control", "b")
    assert "| b (control) |" in (place / "report.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        run(*sources, "--control", "c")
    assert "expected one of a; b; got 'c'" in capsys.readouterr().err


LABELS = [
    "a [/bold] b",
    "parts=[a,b] [red]x",
    "a | b",
    "<!-- /t --> <b>",
    "two\nlines",
    "$x_1$ *y* \N{CJK UNIFIED IDEOGRAPH-884C}",
]


@pytest.mark.parametrize("label", LABELS)
def test_a_label_may_be_anything(run, tmp_path, capsys, label):
    file = kept(tmp_path / "t.csv", label, 50.0)
    target = tmp_path / "page.md"
    target.write_text("<!-- t -->\n<!-- /t -->\n")
    for _ in range(2):
        place = run(file, "--fill", target, "--picture", tmp_path / "t.png")
    shown = capsys.readouterr().out
    assert all(line in shown for line in label.splitlines())
    lines = target.read_text().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("<!-- t -->", "<!-- /t -->", 5)
    unescaped = html.unescape(re.sub(r"\\(.)", r"\1", lines[3]))
    assert unescaped.startswith(f"| {' '.join(label.split())} | 1 | 50.0 |")
    page = (place / "report.html").read_text(encoding="utf-8")
    assert f'width="40">{html.escape(label, quote=False)}</th>' in page


def test_an_error_is_said_as_it_is(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path / "[/x] [bold]y")
    assert "[/x] [bold]y: expected a folder of runs" in capsys.readouterr().err


def test_a_folder_that_cannot_hold_the_report_is_told_before_anything_is_read(
    run, tmp_path, capsys
):
    file = kept(tmp_path / "a.csv", "a", 50.0)
    with pytest.raises(SystemExit):
        run(file, "--out", file / "inside")
    said = capsys.readouterr()
    assert "a.csv/inside: expected a folder to write the report into" in said.err
    assert not said.out


def test_settings_of_a_report_that_is_left_out_are_refused(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(kept(tmp_path / "a.csv", "a", 50.0), "--no-page", "--control", "a")
    assert "--no-page" in capsys.readouterr().err


def test_a_missing_source_is_named(run, capsys):
    with pytest.raises(SystemExit):
        run(Path("nowhere"))
    assert "nowhere: expected a folder of runs, or a CSV file" in capsys.readouterr().err
