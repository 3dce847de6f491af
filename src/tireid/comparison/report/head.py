"""What was compared, when and how, and what has to be known before figures are read."""

from tireid.comparison.report.blocks import Block, Line, Note, Section, Table
from tireid.comparison.report.material import Material
from tireid.comparison.report.words import plural
from tireid.comparison.write import STATES


def head(material: Material, *, when: str, command: str) -> Section:
    """Return the facts of a comparison, with what went wrong.

    Args:
        material: The comparison.
        when: Date and time.
        command: What was typed.
    """
    runs = [run for row in material.rows for run in row.runs]
    chosen = sorted({run.result.selection for run in runs})
    commits = sorted({_short(run.result.commit) for run in runs} - {""})
    failed = sum(run.state == "failed" for run in material.unfinished)
    others = len(material.unfinished) - failed
    count = plural(len(runs), "run") + f" in {plural(len(material.rows), 'row')}"
    count += f"; {failed} failed" if failed else ""
    count += f"; {others} without a result" if others else ""
    facts = {
        "compared": ", ".join(material.sources),
        "runs": count,
        "data": ", ".join(material.datasets),
        "checkpoints chosen on": ", ".join(chosen),
        "commits": ", ".join(commits),
        "written": when,
        "command": command,
    }
    blocks: list[Block] = []
    on_test = [row.name for row in material.rows if row.first.selection == "test"]
    if on_test:
        blocks.append(
            Note(
                "CHOSEN ON TEST: the checkpoints of these rows were chosen on the test split, so "
                "that their figures are too good, and are not to be compared with others: "
                f"{'; '.join(on_test)}.",
                warning=True,
            )
        )
    lines = [Line([name, value]) for name, value in facts.items() if value]
    blocks.append(Table(["", ""], lines, "What was compared", 2))
    blocks += [Note(note, warning=True) for note in material.notes]
    if material.unfinished:
        blocks.append(_unfinished(material))
    return Section("about", "", blocks)


def _short(commit: str) -> str:
    return commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")


def _unfinished(material: Material) -> Table:
    lines = [
        Line(
            [run.name, STATES[run.state], " ".join(run.reason.split())],
            "warning" if run.state == "failed" else "",
        )
        for run in material.unfinished
    ]
    return Table(["run", "state", "reason"], lines, "Runs without a result", 3)
