"""The blocks of a report, which are rendered as HTML or as Markdown."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph.

    Attributes:
        text: Plain text.
        warning: Whether it is highlighted.
        lead: Whether it stands out as what the page says first.
    """

    text: str
    warning: bool = False
    lead: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a table.

    Attributes:
        cells: Plain text; the first one names the line.
        mark: `control`, `published`, `oracle`, `warning` or nothing.
        swatch: Image of the row's line and marker in the figures, as a data URI.
        bars: Length in [0, 1] of the bars in its cells, by the number of the cell.
        best: Numbers of the cells that are the best of their column.
    """

    cells: Sequence[str]
    mark: str = ""
    swatch: str = ""
    bars: Mapping[int, float] = field(default_factory=dict)
    best: Set[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Table:
    """A table with text at its sides and numbers in between.

    Attributes:
        head: Names of the columns.
        lines: Lines with a cell for each column.
        caption: Title of the table, also its accessible name.
        left: Number of text columns at the left.
        right: Number of text columns at the right.
    """

    head: Sequence[str]
    lines: Sequence[Line]
    caption: str
    left: int = 1
    right: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot or an image.

    Attributes:
        source: Its content as a data URI.
        alt: Text that stands for it.
        title: Text below it; may be empty.
        width: Largest width on a page, in pixels.
        correct: Of an image in a ranking, whether it shows the identity of the query.
    """

    source: str
    alt: str
    title: str = ""
    width: int = 460
    correct: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures side by side if there is room.

    Attributes:
        figures: The figures.
        key: Their legend: name and swatch of each row.
    """

    figures: Sequence[Figure]
    key: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The ranking of one method for a query.

    Attributes:
        method: Name of the method.
        rank: Text about the rank of the first correct image.
        images: The best images, best first; their titles are their similarities.
    """

    method: str
    rank: str
    images: Sequence[Figure]


@dataclass(frozen=True, slots=True)
class Query:
    """A query and the answers of several methods.

    Attributes:
        caption: The query.
        described: The image that it describes; None if that is not in the gallery.
        answers: The answer of each method.
    """

    caption: str
    described: Figure | None
    answers: Sequence[Answer]


@dataclass(frozen=True, slots=True)
class Fold:
    """Blocks that can be unfolded.

    Attributes:
        summary: The line that is always shown.
        blocks: The blocks inside.
        opened: Whether they are unfolded at first.
    """

    summary: str
    blocks: "Sequence[Block]"
    opened: bool = False


Block = Note | Table | Figures | Query | Fold


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a report.

    Attributes:
        anchor: Name for links.
        title: Heading.
        blocks: Blocks in order.
    """

    anchor: str
    title: str
    blocks: Sequence[Block]
