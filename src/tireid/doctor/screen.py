"""An examination on one screen: the data set in a few lines, then what to do, the worst first."""

from collections.abc import Sequence
from itertools import islice

from tireid.console import printable, say
from tireid.doctor.captions import LENGTHS
from tireid.doctor.examination import Examination
from tireid.doctor.findings import Finding, number
from tireid.doctor.words import Words

_MOST_FINDINGS = 6
_MOST_LINES = 3  # of examples
_MOST_ATTRIBUTES = 10
_WIDTH = 200  # characters of a line


def show_examination(result: Examination) -> None:
    """Print an examination."""
    say(f"{result.name} in {result.root}", style="bold")
    for file, sha256 in result.files.items():
        say(f"  {file}, SHA-256 {sha256[:16]}")
    for line in count_lines(result):
        say(f"  {line}")
    if not result.findings:
        say("nothing wrong was found", style="green")
    for finding in result.findings[:_MOST_FINDINGS]:
        _show(finding)
    rest = len(result.findings) - _MOST_FINDINGS
    if rest > 0:
        say(f"and {number(rest, 'finding')} more: --out FOLDER lists all")
    harmful = len(result.harmful)
    if harmful:
        verdict = number(harmful, "problem")
        say(f"{verdict} that {'loses' if harmful == 1 else 'lose'} data or would falsify results")


def count_lines(result: Examination, most: int = _MOST_ATTRIBUTES) -> list[str]:
    """Return a line for each split with its counts, one with what is cut, and two on the words.

    Args:
        result: What was found.
        most: Attributes whose shares are told.
    """
    lines = [
        f"{split}: " + ", ".join(f"{n:,} {name}" for name, n in counts.items())
        for split, counts in result.counts.items()
    ]
    if result.cuts:
        total = sum(cut.captions for cut in result.cuts) // len(LENGTHS)
        cut = {n: sum(c.cut for c in result.cuts if c.length == n) for n in LENGTHS}
        shares = [f"{100 * count / total:.1f} % at {length}" for length, count in cut.items()]
        lines.append(f"captions cut, by the text length in word pieces: {', '.join(shares)}")
    return lines + _word_lines(result.words, most) if result.words else lines


def _word_lines(words: Words, most: int) -> list[str]:
    shares = [
        f"{name.replace('_', ' ')} {share:.0f} %"
        for name, share in islice(words.named.items(), most)
    ]
    examples = ", ".join(f"{word} {count:,}" for word, count in words.examples.items())
    unknown = f"{words.unknown:.1f} % of the words are unknown to {words.vocabulary}"
    return [
        f"captions that name: {', '.join(shares) or 'nothing that is known'}",
        f"{unknown}: {examples}" if examples else unknown,
    ]


def _show(finding: Finding) -> None:
    mark, style = ("problem", "bold red") if finding.harms else ("note", "yellow")
    say(f"{mark}: {_line(finding.title)}", style=style)
    for line in _packed(finding.examples)[:_MOST_LINES]:
        say(f"    {line}", style="dim")
    say(f"    do: {_line(finding.advice)}")


def _packed(examples: Sequence[str]) -> list[str]:
    """Return examples on lines, as many on each as fit."""
    lines: list[str] = []
    for example in map(_line, examples):
        if lines and len(lines[-1]) + len(example) < _WIDTH:
            lines[-1] += f"; {example}"
        else:
            lines.append(example)
    return lines


def _line(text: str) -> str:
    text = " ".join(printable(text).split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
