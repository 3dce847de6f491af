"""Tell what a file holds by its first bytes, where it is not what it should be."""

from pathlib import Path

_STARTS = {
    b"version https://git-lfs": "a Git LFS pointer; git lfs pull fetches the file itself",
    b"%pdf": "a PDF",
    b"pk\x03\x04": "a ZIP archive",
    b"rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x1f\x8b": "a gzip archive",
    b"\xff\xfe": "text in UTF-16; save it as UTF-8",
    b"\xfe\xff": "text in UTF-16; save it as UTF-8",
    b"<!doctype html": "a web page, as servers send instead of a file",
    b"<html": "a web page, as servers send instead of a file",
}
_BRAND = b"ftyp"  # ISO/IEC 14496-12, behind four bytes
_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"avif": "AVIF"}
_LONGEST = 64  # bytes that are looked at
_PRINTED = (b"[{'", b"{'")  # of Python


def describe_content(file: Path) -> str | None:
    """Return what a file that should be something else is; None if that is not known.

    Args:
        file: A regular file.
    """
    with file.open("rb") as opened:
        start = opened.read(_LONGEST).lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if start.startswith(_PRINTED):
        return "what Python prints, with ' for \"; write it with json.dump"
    if start[4:8] == _BRAND and start[8:12] in _BRANDS:
        return f"an image in {_BRANDS[start[8:12]]}; save it as JPEG"
    return next((told for mark, told in _STARTS.items() if start.startswith(mark)), None)
