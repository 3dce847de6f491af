"""A person in a scene: part of an image or of a video's frame, as the fields of a row say it."""

import hashlib
from datetime import datetime, time, timedelta
from typing import NamedTuple

from tireid.search.detectors.interface import Box
from tireid.search.engines.interface import Row
from tireid.search.fields import TIME
from tireid.search.where import Value

BOX, SCORE, SECOND, START = "box", "detector_score", "second", "start"


class Part(NamedTuple):
    """Where in a file a person is.

    Attributes:
        box: In pixels of the upright image or frame.
        second: Time of the frame from the beginning of the video; None in an image.
    """

    box: Box
    second: float | None = None


def image_id(path: str, part: Part | None = None) -> int:
    """Return the id of an image: 63 bits of a hash of its path, the same on every machine.

    Args:
        path: The file.
        part: The person in it; None: the whole image.
    """
    name = path if part is None else f"{path}\0{part.second}\0{_text(part.box)}"
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def part_digest(digest: str, part: Part) -> str:
    """Return the digest of a person from that of the whole file."""
    return hashlib.sha256(f"{digest} {part}".encode()).hexdigest()


def part_of(key: int, path: str, fields: dict[str, Value]) -> Part | None:
    """Return the part that a row stands for; None if it is the whole image.

    Args:
        key: The row's id: fields of these names that a user has chosen mean nothing.
        path: Its file.
        fields: Its fields.
    """
    numbers = str(fields.get(BOX, "")).split(",")
    if len(numbers) != len(Box._fields) or not all(n.isdecimal() for n in numbers):
        return None
    second = fields.get(SECOND)
    part = Part(Box(*map(int, numbers)), second if isinstance(second, int | float) else None)
    return part if image_id(path, part) == key else None


def part_fields(scene: dict[str, Value], part: Part, score: Value) -> dict[str, Value]:
    """Return the fields of a person's row.

    Args:
        scene: Fields of the whole file; a `time` in them is when a video begins.
        part: The person.
        score: Of the detector.
    """
    fields = scene | {BOX: _text(part.box), SCORE: score}
    if part.second is None:
        return fields
    start = scene.get(TIME)
    fields |= {SECOND: part.second, TIME: _later(start, part.second)}
    return fields if start is None else fields | {START: start}


def scene_fields(fields: dict[str, Value]) -> dict[str, Value]:
    """Return the fields of the whole file from those of a person's row."""
    added = {BOX, SCORE, SECOND, START} | ({TIME} if SECOND in fields else set())
    scene = {name: value for name, value in fields.items() if name not in added}
    return scene | ({TIME: fields[START]} if START in fields else {})


def known_person(person: Row, scene: Row) -> Row:
    """Return the row of a person as it is after its scene was looked at again.

    Args:
        person: Its row.
        scene: Source, size, time of change and fields of the file.
    """
    part = part_of(person.id, person.path, person.fields)
    score = person.fields.get(SCORE)
    fields = scene.fields if part is None else part_fields(scene.fields, part, score)
    return scene._replace(id=person.id, digest=person.digest, fields=fields)


def _text(box: Box) -> str:
    return ",".join(map(str, box))


def _later(start: Value, second: float) -> Value:
    """Return a time some seconds after another; without one, since 00:00:00."""
    passed = timedelta(seconds=second)
    try:
        if start is not None and "-" in str(start):
            return (datetime.fromisoformat(str(start)) + passed).isoformat(" ")[:23]
        begin = time() if start is None else time.fromisoformat(str(start))
    except ValueError:
        return start
    return (datetime.combine(datetime.min, begin) + passed).time().isoformat()[:12]
