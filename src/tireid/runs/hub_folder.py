"""Check a folder of the model hub's layout before the library reads it, which bounds nothing."""

import zipfile
from pathlib import Path

from tireid.runs.checkpoint import check_archive
from tireid.runs.foreign import LARGEST_TEXT, check, read_json, regular_file

_TEXTS = (".txt", ".model", ".jinja")  # vocabularies and templates
WEIGHTS = (".safetensors", ".bin")


def check_hub_folder(folder: Path) -> None:
    """Check the files of a folder that the library may read.

    Raises:
        ValueError: If one is no regular file, lies elsewhere, is too large or nested too deep,
            unpacks to more than its size, or names weights elsewhere; names it.
    """
    for file in sorted(folder.iterdir()):
        if file.suffix == ".json":
            content = read_json(file, "settings", dict | list, inside=folder)
            names = content.get("weight_map") if isinstance(content, dict) else None
            named = check(names, {str: str}, file, "weight_map").values() if names else ()
            for name in set(named):
                if name != Path(name).name:
                    raise ValueError(f"{file}: weight_map: expected names of files, got {name!r}")
        elif file.suffix in (*_TEXTS, *WEIGHTS):
            largest = LARGEST_TEXT if file.suffix in _TEXTS else None
            regular_file(file, inside=folder, largest=largest)
            if file.suffix == ".bin" and zipfile.is_zipfile(file):
                try:
                    check_archive(file)
                except zipfile.BadZipFile as error:
                    raise ValueError(f"{file}: damaged ({error})") from error
