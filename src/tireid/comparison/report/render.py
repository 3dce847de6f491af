"""Render a report as one self-contained HTML file, or its text and tables as Markdown."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tireid.comparison.report.blocks import Block, Figures, Fold, Note, Query, Section, Table
from tireid.comparison.table import escaped, markdown

_TEMPLATE = "page.html.jinja"


def as_page(title: str, sections: Sequence[Section]) -> str:
    """Return a report as HTML without scripts or external files, with all text escaped.

    Args:
        title: Heading of the page.
        sections: Sections in order; the first stands above the table of contents.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    return environment.get_template(_TEMPLATE).render(title=title, sections=sections)


def as_text(title: str, sections: Sequence[Section]) -> str:
    """Return a report as Markdown; of figures only the titles.

    Args:
        title: Heading of the text.
        sections: Sections in order.
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
        yield markdown(block.head, lines, left=block.left, right=block.right)
    elif isinstance(block, Figures):
        titles = [escaped(figure.title) for figure in block.figures if figure.title]
        if titles:
            yield f"Figures on the page: {'; '.join(titles)}."
    elif isinstance(block, Query):
        answers = "; ".join(f"{one.method}: {one.rank}" for one in block.answers)
        yield f"> {escaped(block.caption)}\n>\n> {escaped(answers)}"
    elif isinstance(block, Fold):
        yield f"### {escaped(block.summary)}"
        for inner in block.blocks:
            yield from _block(inner)
