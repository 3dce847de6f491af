"""Damage to files of any kind, to images, to arrays and to saved weights."""

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from values import mutate_document, mutate_text, places

REFUSED = "refused"  # by a right reading, whatever the message
ANY = "any"  # accepted or refused
_BOMB_MIB = 4096
_HOLE = 2**34  # bytes of a file without content
_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 60\n%%EndComments\nshowpage\n"
_SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'


def mutate_kind(file: Path, rng: Random, outside: Path | None) -> tuple[str, str]:
    """Put something else in the place of a file, which no reader may take for it.

    Args:
        file: Is replaced.
        rng: Draws by what.
        outside: Folder that a link may lead to; None: none does.

    Returns:
        What was done, and what is expected.
    """
    content = file.read_bytes()
    file.unlink()
    kinds: dict[str, Callable[[], Any]] = {
        "missing": lambda: None,
        "a folder": file.mkdir,
        "a FIFO": lambda: os.mkfifo(file),
        "a link to itself": lambda: file.symlink_to(file),
        "a link to nothing": lambda: file.symlink_to(file.with_name("nobody")),
        "a link to /dev/zero": lambda: file.symlink_to("/dev/zero"),
        "a link to /dev/null": lambda: file.symlink_to("/dev/null"),
        "16 GiB of zeros": lambda: (file.touch(), os.truncate(file, _HOLE)),
    }
    if outside is not None:
        twin = outside / f"twin{file.suffix}"
        kinds["a link to its copy outside"] = lambda: (
            twin.write_bytes(content),
            file.symlink_to(twin),
        )
        kinds["a link to a secret outside"] = lambda: file.symlink_to(outside / "secret.txt")
    what = rng.choice(list(kinds))
    kinds[what]()
    return what, ANY if what in ("missing", "a link to nothing") else REFUSED


def mutate_bytes(file: Path, rng: Random) -> tuple[str, str]:
    """Cut a file, flip bytes in it, or replace its content."""
    content = bytearray(file.read_bytes())
    at = rng.randrange(len(content) or 1)
    if rng.random() < 0.5:
        content = content[:at]
        file.write_bytes(content)
        return f"cut at byte {at}", ANY
    what = rng.choice(["flipped", "random", "empty", "zeros", "pickle", "gzip"])
    if what == "flipped":
        for _ in range(rng.choice([1, 10, 1000])):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    contents = {
        "flipped": bytes(content),
        "random": rng.randbytes(1000),
        "empty": b"",
        "zeros": bytes(100_000),
        "pickle": b"cos\nsystem\n(S'touch executed'\ntR.",
        "gzip": b"\x1f\x8b\x08" + rng.randbytes(100),
    }
    file.write_bytes(contents[what])
    return what, ANY


def mutate_text_file(file: Path, rng: Random, outside: Path) -> tuple[str, str]:
    """Damage a JSON, YAML or other text file."""
    text = file.read_text()
    if file.suffix in (".json", ".yaml"):
        text, what = mutate_document(text, rng, str(outside), is_yaml=file.suffix == ".yaml")
    else:
        text, what = mutate_text(text, rng)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    return what, ANY


def mutate_image(file: Path, rng: Random) -> tuple[str, str]:
    """Write an image of another format, depth or size, or what only looks like one."""
    image = Image.open(file)
    wide = (rng.choice([1, 7, 20_000]), rng.choice([1, 9]))
    depth = np.asarray(image.convert("I")) * 200
    choices: dict[str, tuple[Callable[[], Any], str]] = {
        "EPS": (lambda: file.write_bytes(_EPS), REFUSED),
        "SVG": (lambda: file.write_bytes(_SVG), REFUSED),
        "pixels without end": (lambda: file.write_bytes(png_bomb(60_000)), REFUSED),
        "pixels below the limit": (lambda: file.write_bytes(png_bomb(9_000)), ANY),
        "16-bit grey": (lambda: Image.fromarray(depth.astype(np.uint16)).save(file), ANY),
        "palette": (lambda: image.convert("P").save(file), "accepted"),
        "transparent": (lambda: image.convert("RGBA").save(file), "accepted"),
        "grey": (lambda: image.convert("L").save(file), "accepted"),
        "black and white": (lambda: image.convert("1").save(file), "accepted"),
        "JPEG called PNG": (lambda: image.save(file, "JPEG"), "accepted"),
        "CMYK": (lambda: image.convert("CMYK").save(file, "TIFF"), ANY),
        "GIF": (lambda: image.save(file, "GIF", save_all=True, append_images=[image]), ANY),
        f"{wide} pixels": (lambda: image.resize(wide).save(file), ANY),
        "ICO": (lambda: image.save(file, "ICO"), ANY),
        "PDF": (lambda: image.save(file, "PDF"), REFUSED),
    }
    what = rng.choice(list(choices))
    write, expected = choices[what]
    write()
    return what, expected


def png_bomb(side: int) -> bytes:
    """Return a small PNG file of so many white pixels a side."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = b"\x78\x01" + zeros_deflated(side * (3 * side + 1) // 2**20 + 1)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def zeros_deflated(mebibytes: int) -> bytes:
    """Return a raw deflate stream of zeros, which takes no time to write, only to read."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * mebibytes + b"\x03\x00"


def mutate_zip(file: Path, rng: Random) -> tuple[str, str]:
    """Change an entry of a zip archive: a bomb, another size, a name that leaves the folder."""
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(entries))
    what = rng.choice(["bomb", "missing", "doubled", "empty", "../", "random"])
    if what == "bomb":
        _write_bomb(file, entries, name)
        return f"{name} is {_BOMB_MIB:,} MiB of zeros", REFUSED
    changed = {
        "missing": {n: v for n, v in entries.items() if n != name},
        "doubled": entries | {name: entries[name] * 2},
        "empty": entries | {name: b""},
        "../": entries | {f"../../{name}": b"x"},
        "random": entries | {name: rng.randbytes(len(entries[name]))},
    }
    with zipfile.ZipFile(file, "w") as archive:
        for entry, content in changed[what].items():
            archive.writestr(entry, content)
    return f"{name} {what}", ANY


def _write_bomb(file: Path, entries: dict[str, bytes], bomb: str) -> None:
    """Write an archive with one entry of zeros; `zipfile` would need seconds to pack it."""
    packed, size = zeros_deflated(_BOMB_MIB), _BOMB_MIB * 2**20
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            if name != bomb:
                archive.writestr(name, content)
                continue
            info = zipfile.ZipInfo(name)
            info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, size - 1
            info.CRC = 0
            info.compress_size, info.header_offset = len(packed), archive.fp.tell()
            archive.fp.write(info.FileHeader(zip64=False))
            archive.fp.write(packed)
            archive.start_dir = archive.fp.tell()
            archive.filelist.append(info)
            archive.NameToInfo[name] = info


def mutate_arrays(file: Path, rng: Random) -> tuple[str, str]:
    """Change an array of an npz file: its type, size, values or header."""
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    choices: dict[str, Any] = {
        "missing": None,
        "objects": np.array([{"a": 1}], dtype=object),
        "texts": np.array(["a", "b"]),
        "scalar": np.array(3),
        "empty": np.zeros(0, array.dtype),
        "one more": np.concatenate([np.atleast_1d(array)] * 2),
        "another dimension": array[None],
        "negative": -np.ones_like(array) if array.dtype.kind in "if" else array,
        "huge": np.full_like(array, 2**31 - 1) if array.dtype.kind in "if" else array,
        "not a number": np.full(array.shape, np.nan),
        "complex": np.zeros(array.shape, complex),
    }
    what = rng.choice(list(choices))
    arrays[name] = choices[what]
    if rng.random() < 0.2:
        with zipfile.ZipFile(file, "w") as archive:
            items = 10 ** rng.choice([11, 18, 30])
            head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({items},), }}"
            head = head.ljust(117) + "\n"
            prefix = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head))
            archive.writestr(f"{name}.npy", prefix + head.encode())
        return f"{name}: a header of many items", ANY
    np.savez(file, **{n: v for n, v in arrays.items() if v is not None})
    return f"{name}: {what}", ANY


def mutate_checkpoint(file: Path, rng: Random, outside: Path) -> tuple[str, str]:
    """Change a value of a checkpoint, and save it again as torch does."""
    content = torch.load(file, weights_only=True)
    others = list(places(content, ""))
    weights = [place for place in others if isinstance(place[0][place[1]], torch.Tensor)]
    if rng.random() < 0.7:
        holder, key, name = rng.choice(weights)
        what, value, expected = _other_tensor(holder[key], rng)
        if not name.startswith("state_dict."):
            expected = ANY
    else:
        holder, key, name = rng.choice(others)
        value = rng.choice(
            [None, "", "x" * 1000, -1, 10**18, float("nan"), [], {}, [[]], True, torch.zeros(3)]
        )
        what, expected = f"{value!r:.40}", ANY
    holder[key] = value
    if rng.random() < 0.1:
        content[rng.choice([3, (1, 2), "\x1b[2J"])] = 1
    torch.save(content, file)
    return f"{name} = {what}", expected


def mutate_safetensors(file: Path, rng: Random) -> tuple[str, str]:
    """Change a tensor of a safetensors file, or its header."""
    state = load_file(file)
    if rng.random() < 0.5:
        content = file.read_bytes()
        length = struct.unpack("<Q", content[:8])[0]
        header, what = mutate_document(content[8 : 8 + length].decode(), rng, "", is_yaml=False)
        raw = header.encode("utf-8", "surrogatepass")
        size = rng.choice([len(raw), len(raw), len(raw), 2**40, 2**63, 0])
        file.write_bytes(struct.pack("<Q", size) + raw + content[8 + length :])
        return f"header: {what}", ANY
    name = rng.choice(sorted(state))
    what, value, expected = _other_tensor(state[name], rng)
    if value.layout != torch.strided or value.is_meta or value.numel() > 2**30:
        value, expected = torch.zeros(0), REFUSED
    state[name] = value.contiguous()
    save_file(state, file)
    return f"{name} = {what}", expected


def _other_tensor(tensor: torch.Tensor, rng: Random) -> tuple[str, Any, str]:
    """Return a change, the changed tensor, and whether a model may take it for a weight."""
    real = tensor.float()
    choices: dict[str, tuple[Any, str]] = {
        "not a number": (torch.full_like(real, float("nan")), REFUSED),
        "infinite": (torch.full_like(real, float("inf")), REFUSED),
        "integers": (torch.ones_like(tensor, dtype=torch.int64), ANY),
        "complex": (real + 1j, REFUSED),
        "booleans": (torch.ones_like(tensor, dtype=torch.bool), ANY),
        "half": (real.half(), ANY),
        "another shape": (torch.zeros(3, 5, 7), REFUSED),
        "a scalar": (torch.tensor(1.0), ANY),
        "empty": (torch.zeros(0), REFUSED),
        "sparse": (real.to_sparse(), REFUSED),
        "without memory": (torch.empty(real.shape, device="meta"), REFUSED),
        "expanded": (torch.zeros(1).expand(2**40), REFUSED),
        "huge numbers": (torch.full_like(real, 1e38), ANY),
    }
    what = rng.choice(list(choices))
    return what, *choices[what]


def write_outside(folder: Path) -> None:
    """Write files whose reading from a case is noticed."""
    folder.mkdir()
    (folder / "secret.txt").write_text(f"{os.environ.get('TIREID_FUZZ_SECRET', '')}\n")
    (folder / "metrics.json").write_text(json.dumps({"finished": True}))
    Image.new("RGB", (12, 24)).save(folder / "image.png")
