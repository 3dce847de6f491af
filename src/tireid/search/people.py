"""Find the people in scenes and index each as an image of its own."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tireid.data.images import decode
from tireid.files import file_sha256
from tireid.inference.retriever import Retriever
from tireid.search.crops import crop
from tireid.search.detectors.interface import Detector
from tireid.search.engines.interface import Engine, Row
from tireid.search.parts import Part, image_id, known_person, part_digest, part_fields
from tireid.search.reading import ReadBatch, file_state
from tireid.search.scenes import Scenes, SceneState, remove_others
from tireid.search.video import frames, is_video
from tireid.search.writing import IndexReport, write_batch

_MOST_UNKEPT = 256  # scenes: what a kill loses


class PeopleIndexer:
    """Looks through scenes, and writes the people in them in batches.

    A scene counts as done after its people are kept; a video that was stopped goes on at the last
    frame whose people are.

    Args:
        engine: Holds the rows.
        scenes: What has been looked through.
        retriever: Embeds people.
        detector: Finds them.
        every: Seconds between frames of a video.
        batch_size: People embedded at once.
        report: What is counted.
    """

    def __init__(
        self,
        engine: Engine,
        scenes: Scenes,
        retriever: Retriever,
        detector: Detector,
        *,
        every: float,
        batch_size: int,
        report: IndexReport,
    ) -> None:
        self._engine = engine
        self._scenes = scenes
        self._retriever = retriever
        self._detector = detector
        self._every = every
        self._batch_size = batch_size
        self._report = report
        self._rows: list[Row] = []
        self._pixels: list[Tensor] = []
        self._states: dict[str, SceneState] = {}
        self._unkept = 0

    def run(self, wanted: Iterable[Row], advance: Callable[[float], None]) -> None:
        """Look through scenes.

        Args:
            wanted: A row for each: path, source and fields.
            advance: Told the part of a scene that is done, as it goes on.
        """
        for row in wanted:
            done = 0.0
            try:
                for share in self._look_through(row):
                    advance(share - done)
                    done = share
            except (ValueError, OSError) as error:
                self._keep()
                part = self._readable_part(row.path)
                self._report.removed += remove_others(self._engine, row.path, part)
                reason = str(error).removeprefix(f"{row.path}: ")
                self._report.failures.append((row.path, reason))
            advance(1 - done)
        self._keep()

    def _look_through(self, row: Row) -> Iterator[float]:
        before = file_state(row.path)
        now = SceneState(row.path, *before, file_sha256(Path(row.path)))
        known = self._scenes.get(row.path)
        same = known if known is not None and known.digest == now.digest else None
        if same is not None and same.until is None:  # touched, not changed
            rows = self._engine.of_files([row.path])
            seen = row._replace(**before._asdict())
            self._engine.update([known_person(person, seen) for person in rows])
            self._scenes.keep(now)
            self._report.unchanged += len(rows)
            return
        resumed = same.until if same and (same.size, same.mtime_ns) == before else None
        for second, share, image in self._images(row.path, resumed):
            self._find(row._replace(**before._asdict(), digest=now.digest), second, image)
            self._states[row.path] = replace(now, until=second)
            if len(self._rows) >= self._batch_size or self._unkept >= _MOST_UNKEPT:
                self._keep()
            yield share
        if file_state(row.path) != before:
            raise ValueError("changed while it was read; run the command again")
        self._states[row.path] = now

    def _images(
        self, path: str, after: float | None
    ) -> Iterator[tuple[float | None, float, Image.Image]]:
        if is_video(path):
            yield from frames(Path(path), self._every, after)
        else:
            yield None, 1.0, decode(Path(path))

    def _find(self, scene: Row, second: float | None, image: Image.Image) -> None:
        self._unkept += 1
        self._report.scenes += 1
        for box, score in self._detector(image):
            part = Part(box, second)
            digest = part_digest(scene.digest, part)
            fields = part_fields(scene.fields, part, score)
            key = image_id(scene.path, part)
            self._rows.append(scene._replace(id=key, digest=digest, fields=fields))
            self._pixels.append(self._retriever.read_pixels(crop(image, box)))

    def _keep(self) -> None:
        """Write all people found so far, then that their scenes were looked through."""
        if self._rows:
            batch = ReadBatch(self._rows, torch.stack(self._pixels), [], [])
            write_batch(self._engine, batch, self._retriever, self._report)
        for path, state in self._states.items():
            if state.until is None:
                self._report.removed += remove_others(self._engine, path, state)
            self._scenes.keep(state)
        self._rows, self._pixels, self._states, self._unkept = [], [], {}, 0

    def _readable_part(self, path: str) -> SceneState | None:
        """Return the state of a video of which a part was read, and the rest cannot be."""
        state = self._scenes.get(path)
        try:
            if state is not None and (state.size, state.mtime_ns) == file_state(path):
                return state
        except ValueError:  # it is gone
            pass
        self._scenes.drop(path)
        return None
