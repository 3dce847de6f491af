"""Images a CPU second of the ways from a JPEG file to a normalised training image of 384x128.

    make bench-input ARGS="--rounds 5"

This package's ways, the way of IRRA's code (Pillow decodes and resizes, bilinear, then a float
tensor is normalised) and others take turns in one process, on painted images of two sizes, without
augmentation and with it. CPU seconds of one thread: compare the ratios.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from measured import LOAD, show_and_write
from tireid.data.image_source import ImageSource
from tireid.data.images import decode, read_image, resampling
from tireid.data.transforms import Normalise, TrainTransform, as_bytes, keyed_generator
from tireid.runs.environment import device_name
from tireid.world import WorldSettings, ensure_world

SIZES = ((160, 480), (400, 1000))  # width and height of the files
IMAGE_SIZE, WIDTH_FIRST = (384, 128), (128, 384)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OURS = "pillow"
BICUBIC, BILINEAR = resampling("bicubic"), resampling("bilinear")
Read = Callable[[int], Tensor]


def painted(folder: Path, count: int) -> list[list[Path]]:
    """Paint people, and write each of them as a JPEG of every size."""
    world = WorldSettings(
        image_size=(1000, 400), num_train_ids=count, num_val_ids=1, num_test_ids=1, images_per_id=1
    )
    files = sorted(ensure_world(folder, world, progress=False).rglob("*.jpg"))[:count]
    written: list[list[Path]] = []
    for size in SIZES:
        place = folder / "x".join(map(str, size))
        place.mkdir()
        written.append([place / f"{number}.jpg" for number in range(count)])
        for file, path in zip(files, written[-1], strict=True):
            decode(file).resize(size, BICUBIC).save(path, "JPEG", quality=90)
    return written


def draft(path: Path) -> Tensor:
    """Decode at a fraction of the size where that is enough, and resize with Pillow."""
    with Image.open(path, formats=("JPEG",)) as image:
        image.draft("RGB", WIDTH_FIRST)
        resized = image.convert("RGB").resize(WIDTH_FIRST, BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()


def torch_resized(path: Path) -> Tensor:
    """Decode with Pillow, and resize with torch's antialiased bicubic filter on bytes."""
    with Image.open(path, formats=("JPEG",)) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
    return F.interpolate(pixels, IMAGE_SIZE, mode="bicubic", antialias=True)[0].contiguous()


def irra(path: Path, draws: torch.Generator | None) -> Tensor:
    """Resize, flip, pad and crop, scale to [0, 1] and normalise as IRRA's transforms do."""
    with Image.open(path, formats=("JPEG",)) as image:
        resized = image.convert("RGB").resize(WIDTH_FIRST, BILINEAR)
    if draws is not None and torch.rand(1, generator=draws) < 0.5:
        resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    values = np.array(resized)
    if draws is not None:
        top, left = torch.randint(21, (2,), generator=draws).tolist()
        values = np.pad(values, ((10, 10), (10, 10), (0, 0)))
        values = values[top : top + IMAGE_SIZE[0], left : left + IMAGE_SIZE[1]]
    pixels = torch.from_numpy(values).permute(2, 0, 1).contiguous().float().div(255)
    mean, std = (torch.tensor(three)[:, None, None] for three in (MEAN, STD))
    return pixels.sub_(mean).div_(std)


def ways(paths: list[Path], cache: Path, *, augmented: bool) -> dict[str, Read]:
    """Return what is compared, by name: a position to a normalised image."""
    transform = TrainTransform(Normalise(MEAN, STD))
    plain = TrainTransform(Normalise(MEAN, STD), 0, 0.0, 0.0)

    def normalised(read: Callable[[int], Tensor]) -> Read:
        chosen = transform if augmented else plain
        return lambda index: chosen(read(index), keyed_generator(1, index))

    packed = ImageSource(paths, IMAGE_SIZE, "bicubic", decoder="fast")
    packed.pack(cache, progress=False)
    to_bytes = TrainTransform(as_bytes) if augmented else TrainTransform(as_bytes, 0, 0.0)
    return {
        OURS: normalised(lambda i: read_image(paths[i], IMAGE_SIZE, BICUBIC)),
        "fast": normalised(lambda i: read_image(paths[i], IMAGE_SIZE, BICUBIC, decoder="fast")),
        "packed": normalised(lambda i: packed[i]),
        "packed, as bytes": lambda i: to_bytes(packed[i], keyed_generator(1, i)).contiguous(),
        "IRRA's": lambda i: irra(paths[i], keyed_generator(1, i) if augmented else None),
        "Pillow's draft": normalised(lambda i: draft(paths[i])),
        "Pillow, torch resizes": normalised(lambda i: torch_resized(paths[i])),
    }


def timed(read: dict[str, Read], count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return each way's median images a CPU second, and their ratio to `pillow`'s by round."""
    seconds: dict[str, list[float]] = {name: [] for name in read}
    for number in range(rounds + 1):
        for name, one in read.items():
            repeats = 10 if name.startswith("packed") else 1
            began = time.process_time()
            for _ in range(repeats):
                for index in range(count):
                    one(index)
            if number:  # the first round warms up
                seconds[name].append((time.process_time() - began) / repeats)
    summary = {}
    for name, own in seconds.items():
        by_round = [floor / mine for mine, floor in zip(own, seconds[OURS], strict=True)]
        summary[name] = {
            "images_per_second": count / statistics.median(own),
            "ratio": statistics.median(by_round),
            "lowest": min(by_round),
            "highest": max(by_round),
        }
    return summary


def changed_pixels(paths: list[Path]) -> dict[str, float]:
    """Return how far the bytes of `fast` are from those of `pillow`."""
    both = [
        torch.stack([read_image(path, IMAGE_SIZE, BICUBIC, decoder=one) for path in paths]).int()
        for one in (OURS, "fast")
    ]
    distance = (both[0] - both[1]).abs()
    return {"mean": float(distance.float().mean()), "largest": int(distance.max())}


def main() -> None:
    """Measure, show and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--output", type=Path, default=Path("runs/bench/input.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(title="Input, images a CPU second", title_justify="left", caption_justify="left")
    for name in ("files", "way", "images/CPU s", "times pillow's", "lowest, highest"):
        table.add_column(name, justify="left" if name in ("files", "way") else "right")
    found: dict[str, object] = {}
    notes = [f"{device_name(torch.device('cpu'))}, load {LOAD:.1f} before"]
    with tempfile.TemporaryDirectory() as folder:
        for size, paths in zip(SIZES, painted(Path(folder), arguments.images), strict=True):
            label = "x".join(map(str, size))
            change = found[f"{label}, change of pixels"] = changed_pixels(paths)
            kilobytes = statistics.mean(path.stat().st_size for path in paths) / 1e3
            notes.append(
                f"{label}: {kilobytes:.0f} kB; fast differs from pillow by {change['mean']:.2f} of "
                f"255 on average, by {change['largest']} at most"
            )
            for augmented in (False, True):
                read = ways(paths, Path(folder), augmented=augmented)
                name = f"{label}{', augmented' if augmented else ''}"
                rows = found[name] = timed(read, len(paths), arguments.rounds)
                for way, row in rows.items():
                    spread = f"{row['lowest']:.2f}, {row['highest']:.2f}"
                    rate = f"{row['images_per_second']:,.0f}"
                    table.add_row(name, way, rate, f"{row['ratio']:.2f}", spread)
                    name = ""
    table.caption = "\n".join(notes)
    show_and_write(arguments.output, table, found=found)


if __name__ == "__main__":
    main()
