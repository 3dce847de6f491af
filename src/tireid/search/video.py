"""Frames of videos, upright and with their times, read by PyAV."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from tireid.data.images import LARGEST_IMAGE

if TYPE_CHECKING:
    import av
    import av.container

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".asf", ".flv", ".3gp", ".ogv"),
)
# Playlists are missing on purpose: they name other files and addresses.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,mpegvideo,asf,flv,ogg,h264,hevc"


def is_video(path: str) -> bool:
    """Return whether a file's name is that of a video."""
    return path.lower().endswith(SUFFIXES)


def frames(
    path: Path, every: float, after: float | None = None
) -> Iterator[tuple[float, float, Image.Image]]:
    """Yield the first frame of each interval of a video.

    Args:
        path: The video.
        every: Seconds of an interval.
        after: Time of a frame; those up to it are left out.

    Yields:
        Seconds from the beginning, the share of the video that is done, and the frame.

    Raises:
        ValueError: If it is no video that can be read, or PyAV is missing; names the file.
    """
    interval = -1 if after is None else _interval(after, every)
    with _opened(path) as (container, stream):
        if after is not None:
            _seek(container, stream, after)
        length = (container.duration or 0) / 1e6
        for second, frame in _timed(container, stream):
            if _interval(second, every) > interval:
                interval = _interval(second, every)
                yield second, min(1.0, second / length) if length else 0.0, _image(frame)


def frame_at(path: Path, second: float) -> Image.Image:
    """Return the frame of a video at a time that `frames` has given.

    Raises:
        ValueError: If it cannot be read; names the file.
    """
    with _opened(path) as (container, stream):
        _seek(container, stream, second)
        for time, frame in _timed(container, stream):
            if time >= second:
                return _image(frame)
        raise ValueError(f"it has no frame at {second} s")


def _interval(second: float, every: float) -> int:
    return int(second / every + 1e-6)  # 0.3 / 0.1 is less than 3


@contextmanager
def _opened(path: Path) -> "Iterator[tuple[av.container.InputContainer, av.VideoStream]]":
    try:
        import av
        import av.error
    except ImportError as error:
        raise ValueError(f"{path}: a video needs PyAV; type: pip install -e '.[video]'") from error
    try:
        with av.open(str(path), options={"format_whitelist": _FORMATS}) as container:
            if not container.streams.video:
                raise ValueError("it has no images")
            stream = container.streams.video[0]
            if stream.width * stream.height > LARGEST_IMAGE:
                raise ValueError(f"its frames have more than {LARGEST_IMAGE:,} pixels")
            stream.thread_type = "AUTO"
            yield container, stream
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{path}: expected a readable video; {reason}") from error


def _seek(container: Any, stream: Any, second: float) -> None:
    """Go to the last key frame before a time, a little early: times are rounded."""
    start = stream.start_time or 0
    container.seek(max(start, start + int((second - 0.5) / stream.time_base)), stream=stream)


def _timed(container: Any, stream: Any) -> Iterator[tuple[float, Any]]:
    start = (stream.start_time or 0) * stream.time_base
    for frame in container.decode(stream):
        if frame.pts is not None:
            yield round(max(0.0, float(frame.pts * frame.time_base - start)), 3), frame


def _image(frame: Any) -> Image.Image:
    image: Image.Image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image
