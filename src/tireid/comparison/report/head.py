"""The head of a report: what was compared, when and how, with warnings and failed runs."""

from tireid.comparison.report.blocks import Block, Line, Note, Section, Table
from tireid.comparison.report.loading import Comparison
from tireid.comparison.report.verdict import verdicts
from tireid.runs.results import STATES


def head(comparison: Comparison, *, when: str, command: str) -> Section:
    """Return the facts of a comparison, and what went wrong.

    Args:
        comparison: The comparison.
        when: Date and time.
        command: The command that was run.
    """
    runs = [run for row in comparison.rows for run in row.runs]
    chosen = sorted({run.result.selection for run in runs})
    commits = sorted({_short(run.result.commit) for run in runs} - {""})
    failed = sum(run.state == "failed" for run in comparison.unfinished)
    others = len(comparison.unfinished) - failed
    count = f"{_plural(len(runs), 'run')} in {_plural(len(comparison.rows), 'row')}"
    count += f"; {failed} failed" if failed else ""
    count += f"; {others} without a result" if others else ""
    facts = {
        "sources": ", ".join(comparison.sources),
        "runs": count,
        "data sets": ", ".join(comparison.datasets),
        "checkpoints chosen on": ", ".join(chosen),
        "commits": ", ".join(commits),
        "date": when,
        "command": command,
    }
    blocks: list[Block] = [Note(text, lead=True) for text in verdicts(comparison)]
    on_test = [row.name for row in comparison.rows if row.first.selection == "test"]
    if on_test:
        blocks.append(
            Note(
                "CHOSEN ON TEST: the checkpoints of these rows were chosen on the test split, so "
                "their results are too good and do not compare with others: "
                f"{'; '.join(on_test)}.",
                warning=True,
            )
        )
    lines = [Line([name, value]) for name, value in facts.items() if value]
    blocks.append(Table(["", ""], lines, "What was compared", 2))
    blocks += [Note(note, warning=True) for note in comparison.notes]
    unfinished = [
        Line(
            [run.name, STATES[run.state], " ".join(run.reason.split())],
            "warning" if run.state == "failed" else "",
        )
        for run in comparison.unfinished
    ]
    if unfinished:
        blocks.append(Table(["run", "state", "reason"], unfinished, "Runs without a result", 3))
    return Section("about", "", blocks)


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _short(commit: str) -> str:
    return commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")
