"""A report as Markdown: the same tables; figures and pictures are left to the page."""

from collections.abc import Iterator, Sequence

from tireid.comparison.report.blocks import Block, Figures, Fold, Note, Query, Section, Table
from tireid.comparison.table import escaped, markdown


def as_text(title: str, sections: Sequence[Section]) -> str:
    """Return a report in Markdown.

    Args:
        title: Its heading.
        sections: In order.
    """
    parts = [f"# {escaped(title)}"]
    for section in sections:
        if section.title:
            parts.append(f"## {escaped(section.title)}")
        parts += [part for block in section.blocks for part in _block(block)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Note):
        yield f"**{escaped(block.text)}**" if block.warning else escaped(block.text)
    elif isinstance(block, Table):
        yield f"{escaped(block.caption)}:"
        lines = [line.cells for line in block.lines]
        yield markdown(block.head, lines, words=block.words, tail=block.tail)
    elif isinstance(block, Figures):
        titles = [escaped(figure.title) for figure in block.figures if figure.title]
        if titles:
            yield f"Figures in the page: {'; '.join(titles)}."
    elif isinstance(block, Query):
        answers = "; ".join(f"{one.method}: {one.rank}" for one in block.answers)
        yield f"> {escaped(block.caption)}\n>\n> {escaped(answers)}"
    elif isinstance(block, Fold):
        yield f"### {escaped(block.summary)}"
        for inner in block.blocks:
            yield from _block(inner)
