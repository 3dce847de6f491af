"""What a report is made of, whether it becomes a page or plain text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph.

    Attributes:
        text: Plain text.
        warning: Whether it has to be seen.
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
        swatch: Picture of the line's colour and marker in the figures, as a data URI.
    """

    cells: Sequence[str]
    mark: str = ""
    swatch: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose columns are numbers but for those at its sides.

    Attributes:
        head: Names of the columns.
        lines: As many cells each.
        words: Number of columns, from the left, that are no numbers.
        tail: Likewise, from the right.
        caption: What it shows; its accessible name too.
    """

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    lines: Sequence[Line]
    caption: str
    words: int = 1
    tail: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture.

    Attributes:
        source: A data URI.
        alt: What it shows, for those who do not see it.
        title: Stands below; may be empty.
        width: In pixels of a page; it shrinks where there is less room.
    """

    source: str
    alt: str
    title: str = ""
    width: int = 460


@dataclass(frozen=True, slots=True)
class Figures:
    """Pictures side by side where there is room."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True)
class Key:
    """What the colours and markers of figures stand for.

    Attributes:
        rows: Name and swatch of each row.
    """

    kind: ClassVar[str] = "key"
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Found:
    """An image that a method found.

    Attributes:
        figure: The image.
        right: Whether it shows the person that was asked for.
        score: Its similarity to the query.
    """

    figure: Figure
    right: bool
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The best images of one method for a query.

    Attributes:
        method: Its name.
        rank: What is said of the rank of the first right image.
        found: Best first.
    """

    method: str
    rank: str
    found: Sequence[Found]


@dataclass(frozen=True, slots=True)
class Query:
    """A query and what methods answer.

    Attributes:
        caption: The query.
        own: The image it was written for; None if that is not in the gallery.
        answers: A method each.
    """

    kind: ClassVar[str] = "query"
    caption: str
    own: Figure | None
    answers: Sequence[Answer]


@dataclass(frozen=True, slots=True)
class Fold:
    """Blocks that are shown when asked for.

    Attributes:
        summary: What stands for them.
        blocks: Inside.
        opened: Whether they are shown at first.
    """

    kind: ClassVar[str] = "fold"
    summary: str
    blocks: "Sequence[Block]"
    opened: bool = False


Block = Note | Table | Figures | Key | Query | Fold


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report under a heading of its own.

    Attributes:
        anchor: Its name in links.
        title: Its heading.
        blocks: In order.
    """

    anchor: str
    title: str
    blocks: Sequence[Block] = field(default_factory=list)
