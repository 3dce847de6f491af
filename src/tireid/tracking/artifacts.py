"""Artifacts of W&B, by which one run's model, data set or export is found in another's lineage.

W&B joins two runs where an artifact that one has logged is used by the other. Offline nothing can
be looked up there, so the other run names the same files again, which have the same checksum.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tireid.files import write_json
from tireid.runs.foreign import read_json

DATASET, MODEL, EXPORT, RESULTS = "dataset", "model", "export", "results"
_FOLDER = "wandb"  # of a run folder
_MODEL_FILE = f"{_FOLDER}/model_artifact.json"
_DATASET_FILE = f"{_FOLDER}/dataset.json"
_KNOWN = {"name": str, "files": {str: str}, "aliases": [str], "metadata": dict}
_ALIASES = {  # by what chose a checkpoint
    "val": ("best", "its checkpoint was the best on validation"),
    "last": ("last", "its checkpoint is that of the last epoch"),
    "test": ("chosen-on-test", "its checkpoint was chosen on the test split"),
}


class Artifact(NamedTuple):
    """Files with a name, as W&B keeps versions of them.

    Attributes:
        name: Name of the artifact.
        kind: Its type, such as `model`.
        files: Paths by their names in the artifact; missing files are left out.
        aliases: Aliases of this version beside `latest`.
        metadata: Metadata of the artifact.
        description: What the aliases mean.
    """

    name: str
    kind: str
    files: Mapping[str, Path]
    aliases: Sequence[str] = ()
    metadata: Mapping[str, Any] = {}
    description: str = ""


def model_artifact(
    name: str, files: Mapping[str, Path], *, selection: str, seed: int, metadata: Mapping[str, Any]
) -> Artifact:
    """Return the artifact of a tested checkpoint, with the alias that says what chose it."""
    alias, meaning = _ALIASES[selection]
    description = (
        f"latest: the newest version. {alias}: the newest of which {meaning}. seed{seed}: the "
        "newest of this seed."
    )
    return Artifact(name, MODEL, files, [alias, f"seed{seed}"], metadata, description)


def dataset_artifact(folder: Path, name: str, splits: Mapping[str, Any]) -> Artifact:
    """Return the artifact of a data set: counts and checksums of its splits, no image or caption.

    Args:
        folder: The run folder, where its one file is written.
        name: Name of the data set.
        splits: What describes each split; runs on the same files share a version.
    """
    file = folder / _DATASET_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"name": name, "splits": dict(splits)})
    return Artifact(name, DATASET, {"splits.json": file}, metadata=splits)


def keep(folder: Path, model: Artifact) -> None:
    """Note in a run folder which model was logged from it, for `kept`."""
    real = folder.resolve()
    paths = {name: path.resolve() for name, path in model.files.items()}
    files = {n: str(p.relative_to(real)) for n, p in paths.items() if p.is_relative_to(real)}
    content = {"name": model.name, "files": files}
    content |= {"aliases": list(model.aliases), "metadata": dict(model.metadata)}
    (folder / _FOLDER).mkdir(exist_ok=True)
    write_json(folder / _MODEL_FILE, content)


def kept(folder: Path) -> Artifact | None:
    """Return the model that was logged from a run folder; None if none was.

    Raises:
        ValueError: If the note cannot be read, or names files elsewhere.
    """
    file = folder / _MODEL_FILE
    if not file.is_file():
        return None
    note = read_json(file, "a note of an artifact", _KNOWN, inside=folder)
    files = {name: folder / path for name, path in note["files"].items()}
    for path in files.values():
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{file}: files: expected paths inside {folder}, got {path}")
    return Artifact(note["name"], MODEL, files, note["aliases"], note["metadata"])
