"""The blocks of a report, which are rendered as HTML or as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph.

    Attributes:
        text: Plain text.
        warning: Whether it is highlighted.
    """

    kind: ClassVar[str] = "note"
    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a table.

    Attributes:
        cells: Plain text; the first one names the line.
        mark: `control`, `published`, `oracle`, `warning` or nothing.
        swatch: Image of the row's line and marker in the figures, as a data URI.
    """

    cells: Sequence[str]
    mark: str = ""
    swatch: str = ""


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

    kind: ClassVar[str] = "table"
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
    """

    source: str
    alt: str
    title: str = ""
    width: int = 460


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures side by side if there is room."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True)
class Key:
    """The legend of the figures.

    Attributes:
        rows: Name and swatch of each row.
    """

    kind: ClassVar[str] = "key"
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class RankedImage:
    """An image in the ranking of a method.

    Attributes:
        figure: The image.
        correct: Whether it shows the identity of the query.
        score: Similarity to the query.
    """

    figure: Figure
    correct: bool
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The ranking of one method for a query.

    Attributes:
        method: Name of the method.
        rank: Text about the rank of the first correct image.
        images: The best images, best first.
    """

    method: str
    rank: str
    images: Sequence[RankedImage]


@dataclass(frozen=True, slots=True)
class Query:
    """A query and the answers of several methods.

    Attributes:
        caption: The query.
        described: The image that it describes; None if that is not in the gallery.
        answers: The answer of each method.
    """

    kind: ClassVar[str] = "query"
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

    kind: ClassVar[str] = "fold"
    summary: str
    blocks: "Sequence[Block]"
    opened: bool = False


Block = Note | Table | Figures | Key | Query | Fold


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
    blocks: Sequence[Block] = field(default_factory=list)
