"""Read image files at a fixed size, and check them before training."""

import hashlib
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional as F

from tireid.data.content import describe_content
from tireid.files import available_cores

LARGEST_SIDE = 4096
# Pixels of a file. None takes more than 1 GiB: those above _WHOLE are decoded one at a time, and
# a JPEG at half, a quarter or an eighth of its sides, line by line if it is stored so.
LARGEST_IMAGE = 2**26
LARGEST_JPEG = 2**28
_WHOLE = 2**25
# Pillow knows more, some of which start other programs: EPS runs Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
_BITS_PER_SAMPLE, _PHOTOMETRIC, _BLACK_IS_ZERO = 258, 262, 1  # of TIFF 6.0
_EIGHT_BITS = np.rint(np.arange(2**16) / 257).astype(np.uint8)  # of 16
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # of EXIF: height and width change places
_JPEG, _SEQUENTIAL, _SCAN = b"\xff\xd8\xff", (0xC0, 0xC1), 0xDA  # ITU-T T.81, table B.1
DECODERS = ("pillow", "fast")
_TORCH_FILTERS = {Image.Resampling.BICUBIC: "bicubic", Image.Resampling.BILINEAR: "bilinear"}
SHOWN = 5  # images that a message names
_SHOW_PROGRESS_FROM = 500

Item = TypeVar("Item")
_large_image = threading.Lock()


def check_image_size(image_size: object) -> tuple[int, int]:
    """Return `(height, width)` in pixels.

    Raises:
        ValueError: If they are not two integers from 1 to 4096.
    """
    size = tuple(image_size) if isinstance(image_size, Sequence) else ()
    if len(size) != 2 or not all(
        isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= LARGEST_SIDE
        for side in size
    ):
        raise ValueError(
            "image_size: expected [height, width], two integers from 1 to"
            f" {LARGEST_SIDE}, got {image_size}"
        )
    return size[0], size[1]


def resampling(interpolation: str) -> Image.Resampling:
    """Return Pillow's filter of this name.

    Raises:
        ValueError: If there is none.
    """
    names = {filter_.name.lower(): filter_ for filter_ in Image.Resampling}
    if interpolation not in names:
        raise ValueError(f"interpolation: expected one of {sorted(names)}, got {interpolation!r}")
    return names[interpolation]


def check_decoder(decoder: object) -> str:
    """Return the name of a way to decode and resize.

    Raises:
        ValueError: If there is none of this name.
    """
    if decoder not in DECODERS:
        raise ValueError(f"decode: expected {' or '.join(DECODERS)}, got {decoder!r}")
    return str(decoder)


def decode(path: Path, least: tuple[int, int] | None = None) -> Image.Image:
    """Return the image in RGB, upright by its EXIF orientation; 16-bit grey is scaled to 8 bits.

    One of more than 2**25 pixels is returned at a fraction of its size.

    Args:
        path: The file.
        least: Height and width that are enough: a JPEG at least twice as large is decoded at a
            half, a quarter or an eighth of its sides. None: all of its pixels are wanted.

    Raises:
        ValueError: If the file is missing, empty, cut off, too large or no image of a kind that is
            read: JPEG, PNG, BMP, GIF, TIFF or WebP, of 8 bits a channel or 16 bits of grey. Names
            the file.
    """
    try:
        _check_file(path)
        with _opened(path) as image:
            if image.width * image.height <= _WHOLE:
                if least is not None and isinstance(image, JpegImageFile):
                    is_turned = image.getexif().get(_ORIENTATION, 1) in _TURNED
                    height, width = least[::-1] if is_turned else least
                    image.draft(None, (width, height))
                return _upright_rgb(image, own=True)
            _check_pixels(path, image)
            with _large_image:
                return _shrunk(image)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files.
        reason = str(error) if type(error) is ValueError else repr(error)
        raise ValueError(f"{path}: expected a readable image; {reason}") from error


def read_image(
    source: Path | Image.Image,
    image_size: tuple[int, int],
    filter_: Image.Resampling,
    shortest_edge: int | None = None,
    decoder: str = "pillow",
) -> UInt8[Tensor, "3 height width"]:
    """Return an image resized to `image_size`, without keeping its aspect ratio unless asked to.

    Args:
        source: A file, or an image already decoded.
        image_size: Height and width in pixels.
        filter_: Pillow's filter for the resizing.
        shortest_edge: As CLIP has it: the shorter side becomes this long, the other in proportion,
            and the middle of `image_size` is cut out; None: the whole image is resized.
        decoder: `pillow` decodes all pixels and resizes with Pillow. `fast` decodes a JPEG file
            that is at least twice as large at a fraction of its sides, and resizes with torch's
            filters for bytes. Pixels of painted people differ by 0.1 of 255 on average and 3 at
            most, behind a fraction by 0.4 and 12. Filters that torch lacks stay Pillow's.

    Raises:
        ValueError: If the file cannot be read; names it.
    """
    is_fast = decoder == "fast"
    if isinstance(source, Path):
        edges = image_size if shortest_edge is None else (shortest_edge, shortest_edge)
        image = decode(source, edges if is_fast else None)
    else:
        image = _upright_rgb(source, own=False)
    size = image_size if shortest_edge is None else _scaled(image, shortest_edge)
    if is_fast and filter_ in _TORCH_FILTERS:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]  # torch's quick order
        resized = F.interpolate(pixels, size, mode=_TORCH_FILTERS[filter_], antialias=True)[0]
    else:
        resized = torch.from_numpy(np.array(image.resize((size[1], size[0]), filter_))).permute(
            2, 0, 1
        )
    top, left = ((side - wanted) // 2 for side, wanted in zip(size, image_size, strict=True))
    if min(top, left) < 0:
        raise ValueError(f"shortest_edge: expected {max(image_size)} or more, got {shortest_edge}")
    return resized[:, top : top + image_size[0], left : left + image_size[1]].contiguous()


def verify_images(paths: Sequence[Path], marks: Path | None, *, progress: bool = True) -> None:
    """Decode every image once, so that damaged ones are reported before training starts.

    Args:
        paths: Image files.
        marks: Folder with a mark for each set of files (by path, size and time of change) that has
            passed, so that it is not decoded again; None: there are no marks.
        progress: Whether to show a progress bar on standard error.

    Raises:
        ValueError: If some are missing, empty, cut off or no images; says how many and names the
            first few, and the folders that are missing.
    """
    unique = list(dict.fromkeys(paths))
    if marks is not None and (marks / fingerprint(sorted(unique))).exists():
        return
    missing = [path for path in unique if not path.exists()]
    folders = sorted({str(path.parent) for path in missing if not path.parent.is_dir()})
    if folders:
        shown = ", ".join(folders[:SHOWN]) + (", ..." if len(folders) > SHOWN else "")
        raise ValueError(
            f"{len(missing)} of {len(unique)} images are missing, and with them {len(folders)}"
            f" folders: {shown}; is the data set complete?"
        )
    for_each(decode, unique, "Checking images", progress)
    if marks is not None:
        mark_as_checked(unique, marks)


def unreadable_images(
    paths: Sequence[Path], marks: Path, *, progress: bool = True
) -> dict[Path, str]:
    """Decode every image once, and return those that cannot be read, each with the reason.

    Args:
        paths: Image files.
        marks: As in `verify_images`; bad ones leave no mark, and are decoded again the next time.
        progress: As in `verify_images`.
    """
    unique = list(dict.fromkeys(paths))
    if (marks / fingerprint(sorted(unique))).exists():
        return {}
    bad = dict(failures(decode, unique, "Checking images", progress=progress))
    if not bad:
        mark_as_checked(unique, marks)
    return bad


def mark_as_checked(paths: Sequence[Path], marks: Path) -> None:
    """Let `verify_images` know that all of these files can be decoded.

    Args:
        paths: Image files.
        marks: As in `verify_images`.
    """
    mark = marks / fingerprint(sorted(set(paths)))
    try:
        marks.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        warnings.warn(f"the images will be checked again next time: {error}", stacklevel=2)


def _check_file(path: Path) -> None:
    if not path.exists():
        backward = "; its name holds \\, as on Windows: write / in the annotation file"
        raise ValueError("does not exist" + backward * ("\\" in path.name))
    if not (path.is_file() or path.is_dir()):  # to read a pipe or a device may never end
        raise ValueError("is a pipe, a socket or a device, no regular file")
    if path.stat().st_size == 0:
        raise ValueError("is empty")


def _opened(path: Path) -> Image.Image:
    """Open an image file; unlike other kinds, a JPEG of any number of pixels."""
    with path.open("rb") as file:
        is_jpeg = file.read(len(_JPEG)) == _JPEG
    try:
        return JpegImageFile(path) if is_jpeg else Image.open(path, formats=_FORMATS)
    except Image.DecompressionBombError as error:  # Pillow's limit is higher
        raise ValueError(f"it has more than {LARGEST_IMAGE:,} pixels; shrink it") from error
    except UnidentifiedImageError as error:
        told = describe_content(path) or f"expected one of {', '.join(_FORMATS)}"
        raise ValueError(f"cannot identify image file: {told}") from error


def _check_pixels(path: Path, image: Image.Image) -> None:
    """Check that a large image can be decoded in bounded memory."""
    pixels, size = image.width * image.height, f"{image.width} x {image.height}"
    if pixels > LARGEST_JPEG:
        raise ValueError(f"it has {size} pixels, more than {LARGEST_JPEG:,}; shrink it")
    if pixels > LARGEST_IMAGE and not _is_stored_by_lines(path):
        raise ValueError(
            f"it has {size} pixels, more than {LARGEST_IMAGE:,}; shrink it, or save it as a JPEG "
            "that is not progressive"
        )


def _is_stored_by_lines(path: Path) -> bool:
    """Whether a file is a JPEG with all channels in one scan, as cameras write it."""
    channels = 0
    with path.open("rb") as file:
        if file.read(2) != _JPEG[:2]:
            return False
        while len(segment := file.read(4)) == 4:
            content = file.read(int.from_bytes(segment[2:]) - 2)
            if segment[1] in _SEQUENTIAL:
                channels = content[5]
            elif segment[1] == _SCAN:
                return content[0] == channels
    return False


def _shrunk(image: Image.Image) -> Image.Image:
    if not isinstance(image, JpegImageFile):
        return _upright_rgb(image, own=True).reduce(2)
    scale = next(scale for scale in (2, 4, 8) if image.width * image.height <= scale**2 * _WHOLE)
    image.draft(None, (image.width // scale, image.height // scale))
    return _upright_rgb(image, own=True)


def _scaled(image: Image.Image, shortest_edge: int) -> tuple[int, int]:
    """Return height and width in proportion, the shorter of them as given."""
    shorter, longer = sorted(image.size)
    length = int(shortest_edge * longer / shorter)
    if shortest_edge * length > LARGEST_IMAGE:
        raise ValueError(
            f"expected an image less long than {longer} x {shorter} pixels; cut out the people"
        )
    return (length, shortest_edge) if image.width <= image.height else (shortest_edge, length)


def _upright_rgb(image: Image.Image, *, own: bool) -> Image.Image:
    """Turn an image upright and convert it; its own memory may serve for that, if it is ours."""
    _check_depth(image)
    upright = image
    if own:
        ImageOps.exif_transpose(image, in_place=True)
    else:
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray(_EIGHT_BITS[np.asarray(upright)])
    if upright.mode == "P" and "transparency" in upright.info:
        upright = upright.convert("RGBA")  # Pillow warns without this step
    upright.load()
    return upright if own and upright.mode == "RGB" else upright.convert("RGB")


def _check_depth(image: Image.Image) -> None:
    """Check that grey has 8 bits, or 16 whose range is known: Pillow would cut off the others."""
    if image.mode in ("I", "F"):
        raise ValueError(
            f"expected 8 bits a channel or 16 bits of grey, got mode {image.mode!r} of 32 bits, "
            "whose range is not known; save it with 8 bits"
        )
    tags = getattr(image, "tag_v2", {})
    if tags and image.mode.startswith("I;16"):
        bits, zero = tags.get(_BITS_PER_SAMPLE), tags.get(_PHOTOMETRIC)
        if bits != (16,) or zero != _BLACK_IS_ZERO:
            raise ValueError(
                "expected 16 bits of grey with black at zero, got "
                f"{bits} bits and photometric interpretation {zero}; save it with 8 bits"
            )


def fingerprint(paths: Sequence[Path]) -> str:
    """Return a SHA-256 of files by path, size and time of change, in their order."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            state = path.stat()
            facts = f"{path}\0{state.st_size}\0{state.st_mtime_ns}\0"
        except OSError:
            facts = f"{path}\0missing\0"
        digest.update(facts.encode(errors="surrogateescape"))
    return digest.hexdigest()


def failures(
    function: Callable[[Item], object], items: Sequence[Item], title: str, *, progress: bool = True
) -> list[tuple[Item, str]]:
    """Call a function on every item in threads (Pillow decodes without the interpreter's lock).

    Args:
        function: Raises ValueError where it fails.
        items: What it is called on.
        title: Stands before the progress bar.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The items for which it failed, in their order, each with the message.
    """

    def attempt(item: Item) -> str | None:
        try:
            function(item)
        except ValueError as error:
            return str(error)
        return None

    console = Console(stderr=True)
    hidden = not progress or not console.is_terminal or len(items) < _SHOW_PROGRESS_FROM
    failed: list[tuple[Item, str]] = []
    with (
        ThreadPoolExecutor(min(8, available_cores())) as pool,
        Progress(console=console, transient=True, disable=hidden) as bar,
    ):
        try:
            messages = bar.track(pool.map(attempt, items), total=len(items), description=title)
            for item, message in zip(items, messages, strict=True):
                if message is not None:
                    failed.append((item, message))
        except BaseException:  # an interrupt must not wait for the whole queue
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def for_each(
    function: Callable[[Item], object], items: Sequence[Item], title: str, progress: bool
) -> None:
    """Call a function on every image in threads.

    Args:
        function: As in `failures`.
        items: As in `failures`.
        title: As in `failures`.
        progress: As in `failures`.

    Raises:
        ValueError: If any call raised one; says how many and repeats the first few messages.
    """
    failed = failures(function, items, title, progress=progress)
    if failed:
        shown = "\n  ".join(message for _, message in failed[:SHOWN])
        raise ValueError(
            f"{len(failed)} of {len(items)} images cannot be read; the first are\n  {shown}\n"
            "Download them again, or remove their entries from the annotation file."
        )
