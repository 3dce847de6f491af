import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tireid
from tireid.data import images
from tireid.data.image_source import ImageSource
from tireid.data.images import (
    check_image_size,
    decode,
    read_image,
    resampling,
    verify_images,
)

BICUBIC = Image.Resampling.BICUBIC


def test_reads_height_before_width_and_channels_first(tmp_path, noise):
    pixels = noise(8, 5, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", (8, 5), BICUBIC)
    assert image.dtype == torch.uint8
    assert np.array_equal(image.numpy(), pixels.transpose(2, 0, 1))


def test_resizes_as_pillow_does(tmp_path, noise):
    picture = Image.fromarray(noise(40, 20, 3))
    picture.save(tmp_path / "a.png")
    expected = np.asarray(picture.resize((9, 24), BICUBIC)).transpose(2, 0, 1)
    assert np.array_equal(read_image(tmp_path / "a.png", (24, 9), BICUBIC).numpy(), expected)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 90, (90, 90, 90)),
        ("1", 1, (255, 255, 255)),
        ("LA", (90, 128), (90, 90, 90)),
        ("RGBA", (10, 20, 30, 128), (10, 20, 30)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, mode, colour, expected):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (4, 6), colour).save(path)
    image = decode(path)
    assert image.mode == "RGB"
    assert image.getpixel((1, 1)) == expected


@pytest.mark.parametrize(("name", "order"), [("a.png", "<"), ("a.tif", "<"), ("a.tif", ">")])
def test_16_bit_grey_is_scaled_to_8_bits(tmp_path, noise, name, order):
    grey = noise(6, 4)
    picture = Image.fromarray((grey.astype(np.uint16) * 257).astype(f"{order}u2"))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    picture.save(tmp_path / name, exif=exif)
    turned = np.asarray(decode(tmp_path / name))
    assert np.array_equal(turned, np.repeat(grey[::-1, ::-1, None], 3, axis=2))
    pixels = read_image(picture, (6, 4), BICUBIC)
    assert np.array_equal(pixels[0].numpy(), grey)


@pytest.mark.parametrize(
    ("values", "save"),
    [
        (np.full((6, 4), 2**31 - 1, np.int32), {}),
        (np.full((6, 4), 0.5, np.float32), {}),
        (np.full((6, 4), 700, np.uint16), {"tiffinfo": {262: 0}}),  # white is zero
    ],
    ids=["32-bit", "float", "inverted"],
)
def test_grey_of_an_unknown_range_is_refused_by_name(tmp_path, values, save):
    picture = Image.fromarray(values)
    picture.save(tmp_path / "a.tif", **save)
    with pytest.raises(ValueError, match=r"a\.tif: expected a readable image; .*save it with 8"):
        decode(tmp_path / "a.tif")
    if not save:
        with pytest.raises(ValueError, match=r"expected 8 bits a channel or 16 .*got mode '[IF]'"):
            read_image(picture, (6, 4), BICUBIC)


@pytest.mark.parametrize("kind", ["EPS", "PPM", "PDF"])
def test_formats_that_may_start_programs_are_not_opened(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: pytest.fail("started a program"))
    Image.new("RGB", (4, 6)).save(tmp_path / "a", kind)
    (tmp_path / "a").rename(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg: expected a readable image; .*cannot identify"):
        decode(tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "MPO"])
def test_the_usual_formats_are_read_whatever_their_name(tmp_path, kind):
    Image.new("RGB", (4, 6), "white").save(tmp_path / "a", kind)
    assert decode(tmp_path / "a").getpixel((1, 1)) == (255, 255, 255)


def test_nothing_else_opens_image_files_and_never_as_any_format():
    files = {
        path.name: path.read_text().count("Image.open(")
        for path in Path(tireid.__file__).parent.rglob("*.py")
        if "Image.open(" in path.read_text() or "imread(" in path.read_text()
    }
    assert files == {"images.py": 1, "query_images.py": 1}  # the second: a plot in memory
    jpeg = [p for p in Path(tireid.__file__).parent.rglob("*.py") if "JpegImage" in p.read_text()]
    assert [path.name for path in jpeg] == ["images.py"]
    for name in ("data/images.py", "callbacks/query_images.py"):
        assert re.search(
            r"Image\.open\(\w+, formats=", (Path(tireid.__file__).parent / name).read_text()
        )


def test_pipes_and_devices_are_refused_without_being_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "zero.jpg"):
        with pytest.raises(ValueError, match=rf"{name}: .* is a pipe, a socket or a device"):
            decode(tmp_path / name)


@pytest.mark.parametrize("size", [(8192, 8193), (20000, 20000)])
def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path, size):
    write_png_header(tmp_path / "a.png", *size)
    with pytest.raises(ValueError, match=r"a\.png: .*it has .*more than 67,108,864.*; shrink it"):
        decode(tmp_path / "a.png")


def write_png_header(path, width, height):
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + content + struct.pack(">I", zlib.crc32(content))
    empty = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + empty)


def write_jpeg_header(path, width, height, *, progressive):
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "JPEG", progressive=progressive)
    content = bytearray(picture.getvalue())
    frame = content.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("size", "progressive", "message"),
    [((9000, 9000), True, "67,108,864; .*not progressive"), ((20000, 20000), False, "268,435,456")],
)
def test_a_jpeg_beyond_the_bound_of_its_kind_is_refused(tmp_path, size, progressive, message):
    write_jpeg_header(tmp_path / "a.jpg", *size, progressive=progressive)
    with pytest.raises(ValueError, match=rf"a\.jpg: .*it has {size[0]} x {size[1]} pix.*{message}"):
        decode(tmp_path / "a.jpg")


@pytest.fixture
def small_limits(monkeypatch):
    """Make images of a few thousand pixels count as those of a phone."""
    monkeypatch.setattr(images, "_WHOLE", 32 * 32)
    monkeypatch.setattr(images, "LARGEST_IMAGE", 64 * 64)


@pytest.mark.parametrize(("side", "scale"), [(32, 1), (33, 2), (64, 2), (128, 4), (250, 8)])
def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path, small_limits, side, scale):
    picture = Image.new("RGB", (side, side), "white")
    picture.paste("red", (0, 0, side // 2, side))
    exif = Image.Exif()
    exif[0x0112] = 6  # left becomes top
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = decode(tmp_path / "a.jpg")
    assert image.size == (-(-side // scale), -(-side // scale))
    assert image.mode == "RGB"
    assert image.getpixel((2, 0))[1] < 60
    assert min(image.getpixel((2, image.height - 1))) > 200


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "I;16"])
def test_a_large_image_of_another_kind_is_halved_once_decoded(tmp_path, small_limits, mode):
    if mode == "I;16":
        picture = Image.fromarray(np.full((64, 40), 0xFFFF, np.uint16))
    else:
        picture = Image.new("RGB", (40, 64), "white").convert(mode)
    picture.save(tmp_path / "a.png")
    image = decode(tmp_path / "a.png")
    assert (image.size, image.mode) == ((20, 32), "RGB")
    assert image.getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("size", [(24, 9), (96, 50), (40, 20)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
def test_the_fast_way_resizes_as_pillow_does_but_for_rounding(tmp_path, noise, size, interpolation):
    Image.fromarray(noise(40, 20, 3)).save(tmp_path / "a.png")
    both = [
        read_image(tmp_path / "a.png", size, resampling(interpolation), decoder=decoder).int()
        for decoder in ("pillow", "fast")
    ]
    assert (both[0] - both[1]).abs().max() <= (0 if interpolation == "lanczos" else 2)
    if size == (40, 20):
        assert torch.equal(*both)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("size", "scale"), [((96, 30), 1), ((48, 15), 2), ((12, 6), 8)])
def test_the_fast_way_decodes_a_large_jpeg_at_a_fraction_that_is_enough(
    tmp_path, size, scale, orientation
):
    picture = Image.new("RGB", (60, 96), "white")
    picture.paste("red", (0, 0, 60, 48))  # the upper half, once it is turned
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture if orientation == 1 else picture.transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = decode(tmp_path / "a.jpg", size)
    assert image.size == (-(-60 // scale), -(-96 // scale))
    fast = read_image(tmp_path / "a.jpg", size, BICUBIC, decoder="fast").int()
    plain = read_image(tmp_path / "a.jpg", size, BICUBIC).int()
    assert (fast - plain).abs().float().mean() < 3  # the two meet in one row
    assert fast[1, 1].max() < 60
    assert fast[1, -2].min() > 200


@pytest.mark.parametrize("mode", ["RGBA", "L", "LA", "P", "1", "CMYK", "I;16"])
def test_the_fast_way_reads_every_mode(tmp_path, noise, mode):
    if mode == "I;16":
        picture = Image.fromarray(noise(40, 20).astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(noise(40, 20, 3)).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture.save(path)
    plain, fast = (read_image(path, (24, 9), BICUBIC, None, way) for way in ("pillow", "fast"))
    assert (plain.int() - fast.int()).abs().max() <= 2
    assert torch.equal(fast, read_image(picture, (24, 9), BICUBIC, decoder="fast"))


@pytest.mark.parametrize("decoder", ["pillow", "fast"])
@pytest.mark.parametrize("size", [(20, 40), (40, 20)])
def test_the_middle_is_cut_out_of_an_image_whose_shorter_edge_is_given(
    tmp_path, noise, size, decoder
):
    picture = Image.fromarray(noise(*size, 3))
    picture.save(tmp_path / "a.png")
    width, height = (10, 20) if size == (40, 20) else (20, 10)
    whole = picture.resize((width, height), BICUBIC)
    left, top = (width - 8) // 2, (height - 6) // 2
    expected = np.array(whole.crop((left, top, left + 8, top + 6))).transpose(2, 0, 1)
    found = read_image(tmp_path / "a.png", (6, 8), BICUBIC, 10, decoder).numpy()
    assert np.abs(found.astype(int) - expected).max() <= (0 if decoder == "pillow" else 2)
    with pytest.raises(ValueError, match="shortest_edge: expected 12 or more, got 10"):
        read_image(tmp_path / "a.png", (12, 12), BICUBIC, 10, decoder)


def test_the_way_to_decode_is_checked(pictures):
    with pytest.raises(ValueError, match="decode: expected pillow or fast, got 'quick'"):
        ImageSource(pictures, (24, 9), "bicubic", decoder="quick")


def test_an_image_of_the_caller_is_left_as_it_was(noise):
    picture = Image.fromarray(noise(6, 4, 3))
    picture.getexif()[0x0112] = 6
    read_image(picture, (4, 6), BICUBIC)
    assert picture.size == (4, 6)
    assert picture.getexif()[0x0112] == 6


@pytest.mark.parametrize("transparency", [None, 0, b"\x00\x80\xff"])
def test_palette_becomes_rgb(tmp_path, transparency):
    picture = Image.new("P", (4, 6), 1)
    picture.putpalette([0, 0, 0, 200, 100, 50, 9, 9, 9])
    extra = {} if transparency is None else {"transparency": transparency}
    picture.save(tmp_path / "a.png", **extra)
    assert decode(tmp_path / "a.png").getpixel((1, 1)) == (200, 100, 50)


def test_exif_orientation_is_applied(tmp_path):
    picture = Image.new("RGB", (32, 16))
    picture.paste((255, 0, 0), (0, 0, 16, 16))  # the left half is red
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: left becomes top
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = decode(tmp_path / "a.jpg")
    assert upright.size == (16, 32)
    top, bottom = upright.getpixel((8, 4)), upright.getpixel((8, 28))
    assert top[0] > 200
    assert bottom[0] < 50


@pytest.mark.parametrize("size", [[384], [384, 128, 3], [0, 128], [384, -1], [9999, 9]])
def test_image_size_is_checked(size):
    with pytest.raises(ValueError, match=r"image_size: expected \[height, width\]"):
        check_image_size(size)


def test_interpolation_is_checked():
    assert resampling("bicubic") is BICUBIC
    with pytest.raises(ValueError, match=r"interpolation: expected one of .*'bicubic'"):
        resampling("cubic")


@pytest.fixture
def pictures(tmp_path, noise) -> list[Path]:
    paths = [tmp_path / f"{number}.jpg" for number in range(4)]
    for path in paths:
        Image.fromarray(noise(60, 30, 3)).save(path)
    return paths


def test_cached_images_equal_those_read(pictures):
    plain = ImageSource(pictures, (24, 9), "bicubic")
    cached = ImageSource(pictures, (24, 9), "bicubic")
    cached.fill()
    pictures[0].unlink()  # proof that the cache is used
    assert torch.equal(cached[1], plain[1])
    assert cached[0].shape == (3, 24, 9)


def test_filling_names_the_broken_image(pictures):
    pictures[2].write_text("no image")
    with pytest.raises(ValueError, match=r"1 of 4 images cannot be read.*\n.*2\.jpg"):
        ImageSource(pictures, (24, 9), "bicubic").fill()


def test_broken_image_found_late_is_named(pictures):
    source = ImageSource(pictures, (24, 9), "bicubic")
    pictures[3].write_bytes(pictures[3].read_bytes()[:200])
    with pytest.raises(ValueError, match=r"3\.jpg: expected a readable image"):
        source[3]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_text("<html>404</html>"), "cannot identify image file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-300]), "truncated"),
        (lambda path: (path.unlink(), path.mkdir()), "IsADirectoryError"),
    ],
    ids=["empty", "missing", "text", "truncated", "folder"],
)
def test_verification_counts_and_names_damage(pictures, tmp_path, damage, reason):
    damage(pictures[1])
    damage(pictures[3])
    with pytest.raises(ValueError, match="2 of 4 images cannot be read") as error:
        verify_images(pictures, tmp_path / "memory")
    assert "1.jpg" in str(error.value)
    assert reason in str(error.value)
    assert not (tmp_path / "memory").exists()


def test_verification_names_the_first_few_only(tmp_path):
    paths = [tmp_path / f"{number:02d}.jpg" for number in range(20)]
    with pytest.raises(ValueError, match="20 of 20") as error:
        verify_images(paths, None)
    assert "04.jpg" in str(error.value)
    assert "05.jpg" not in str(error.value)


def test_verification_names_missing_folders(pictures, tmp_path):
    paths = [*pictures, tmp_path / "Market/a.jpg", tmp_path / "Market/b.jpg"]
    with pytest.raises(ValueError, match=r"2 of 6 images are missing.* 1 folders: .*Market;"):
        verify_images(paths, None)


def test_verification_is_remembered_until_a_file_changes(pictures, tmp_path, monkeypatch):
    memory = tmp_path / "memory"
    verify_images(pictures, memory)
    with monkeypatch.context() as patch:
        patch.setattr("tireid.data.images.decode", lambda path: pytest.fail("decoded again"))
        verify_images(pictures, memory)
    pictures[0].write_text("no image")
    with pytest.raises(ValueError, match="1 of 4 images cannot be read"):
        verify_images(pictures, memory)


def test_memory_that_cannot_be_written_is_not_fatal(pictures, tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="will be checked again next time"):
        verify_images(pictures, tmp_path / "file" / "memory")


def test_a_path_as_on_windows_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"does not exist; its name holds \\, as on Windows"):
        decode(tmp_path / "cam_a\\1.png")
