"""Names and labels of foreign files reach the terminal without what could steer it."""

import warnings

import pytest
from rich.table import Table
from rich.text import Text

from tireid.console import complain, printable, say, show, show_warnings_in_one_line

HOSTILE = "a\x1b[2J\x1b]0;title b\x9b1m\u202egnp.\x7f\ud800"
HARMLESS = "a?[2J?]0;title b?1m?gnp.??"


def test_printable_text_keeps_its_lines_and_letters():
    assert printable(HOSTILE) == HARMLESS
    assert printable("ä\tb\n猫 🙂 \u200d[red]") == "ä\tb\n猫 🙂 \u200d[red]"


@pytest.mark.parametrize("printed", ["line", "table", "error", "warning"])
def test_no_control_character_is_printed(printed, capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    if printed == "line":
        say(HOSTILE)
    elif printed == "table":
        table = Table()
        table.add_column(Text(HOSTILE))
        table.add_row(Text(HOSTILE))
        show(table, uncut=True)
    elif printed == "error":
        complain(HOSTILE, HOSTILE)
    else:
        show_warnings_in_one_line()
        warnings.showwarning(HOSTILE, UserWarning, "file", 1)
    out, err = capsys.readouterr()
    assert HARMLESS[:20] in out + err  # a table is as wide as what was in it
    assert printable(out + err) == out + err


def test_what_is_warned_of_again_is_printed_once(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    for _ in range(2):  # two commands in one process
        show_warnings_in_one_line()
        for text in ("one", "one", "another"):
            warnings.showwarning(text, UserWarning, "file", 1)
    assert capsys.readouterr().err == 2 * "warning: one\nwarning: another\n"


def test_an_error_is_cut_where_it_repeats_an_endless_value(capsys):
    complain("expected a name, got " + "x" * 100_000)
    said = capsys.readouterr().err
    assert "expected a name, got xxx" in said
    assert "... (100,021 characters)" in said
    assert len(said) < 2100
