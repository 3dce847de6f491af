"""The images of a run's own data set, for an index of them."""

from pathlib import Path

from tireid.inference.restore import restore_datamodule
from tireid.inference.saved_config import evaluation_config
from tireid.runs.weights import find_run
from tireid.search.model import find_model
from tireid.search.settings import FILE, read_settings
from tireid.search.sources import Found


def run_of_split(model: str | None, folder: Path) -> Path:
    """Return the run whose split is indexed: the one given, the index's, or the newest.

    Args:
        model: As `find_model` takes it; None: none is given.
        folder: Of the index, which may be new.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the index is damaged.
    """
    if model is None and (folder / FILE).is_file():
        model = read_settings(folder).model
    return find_model(model)


def split_images(model: str | None, split: str) -> list[Found]:
    """Return the images of a split of the data set that a run was trained on.

    Args:
        model: The run, as `find_model` takes it.
        split: `val` or `test`.

    Returns:
        The images in the order of the split, with the identity as field `pid`.

    Raises:
        FileNotFoundError: If the run or its data are missing.
        ValueError: If the model is no run: an export does not say where its data are.
    """
    path = find_model(model)
    if not path.is_file() and not (path / "checkpoints").is_dir():
        raise ValueError(f"split: expected a run, whose data set is known, got {path}")
    folder, _ = find_run(str(path))
    datamodule = restore_datamodule(evaluation_config(folder), folder)
    datamodule.prepare_data()
    datamodule.setup("test" if split == "test" else "validate")
    source = str(Path(folder).absolute() / split)
    return [
        Found(str(record.image_path.absolute()), source, {"pid": record.pid})
        for record in datamodule.records(split)
    ]
