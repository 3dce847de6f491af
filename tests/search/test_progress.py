"""Progress of an indexing in a file; on a terminal rich draws it."""

from tireid.search import progress


def test_a_file_gets_a_line_a_minute_with_rate_and_time_left(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.shown_progress("indexing", 10_000) as advance:
        for _ in range(5):
            now[0] += 30
            advance(600)
    assert capsys.readouterr().err.splitlines() == [
        "indexing: 1,200 of 10,000   left 7 min   20 files/s",
        "indexing: 2,400 of 10,000   left 6 min   20 files/s",
    ]


def test_nothing_is_said_of_what_is_quickly_done(capsys):
    with progress.shown_progress("looking at files") as advance:
        advance(500)
    assert capsys.readouterr() == ("", "")
