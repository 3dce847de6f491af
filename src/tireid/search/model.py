"""The model that an index is made and searched with, named by a path, a word or nothing."""

from pathlib import Path
from typing import NamedTuple

from tireid.console import say
from tireid.data.synthetic import SYNTHETIC
from tireid.inference.hub import hub_model_path, is_hub_model
from tireid.inference.retriever import Retriever, load
from tireid.inference.saved_config import inference_config
from tireid.runs.folder import LATEST, RUNS, runs_below
from tireid.runs.hub import is_hub_address
from tireid.runs.weights import find_saved

HUB = "hub"


class SearchModel(NamedTuple):
    """A model, loaded.

    Attributes:
        path: Run folder, checkpoint, export or folder of a hub model, absolute; or a name or an
            address on the hub.
        retriever: Embeds images and sentences.
        trained_on: Name of the data set it was trained on; `hub` for a model of the hub.
    """

    path: Path
    retriever: Retriever
    trained_on: str


def find_model(name: str | None, runs: Path = RUNS) -> Path:
    """Return the run folder, checkpoint, export or hub model that a name stands for.

    Args:
        name: Its path; or a word, for the newest run with it in its path below `runs`, as in
            `lgur`; or a CLIP or SigLIP 2 on the hub, as in `openai/clip-vit-base-patch16`;
            or an export there, `hf://OWNER/NAME`; None or `latest`: the newest run.
        runs: Folder that trainings write to.

    Raises:
        FileNotFoundError: If there is none.
    """
    if name is not None and Path(name).expanduser().exists():
        return Path(name).expanduser().absolute()
    if name is not None and is_hub_address(name):
        return Path(name)
    if name is not None and is_hub_model(name):
        return hub_model_path(name)
    wanted = None if name == LATEST else name
    found = [one for one in runs_below(runs) if wanted is None or _is_in(wanted, one, runs)]
    if not found:
        wanted = "a run" if name is None else f"a path or a word in a run's path, got {name!r}"
        raise FileNotFoundError(
            f"model: expected {wanted}; there is none below {runs}/: `tireid train` makes one"
        )
    newest = found[-1].absolute()
    say(f"model: {newest} (the newest of {len(found)} runs)", to_stderr=True)
    return newest


def load_model(path: Path, device: str | None = None, runtime: str = "torch") -> SearchModel:
    """Load a model, and say so if it knows nothing but synthetic people.

    Args:
        path: As `find_model` returns it.
        device: Device to compute on; None: a GPU if there is one.
        runtime: `torch` or `onnx`, as `tireid.load` takes it.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or does not fit the others.
    """
    trained_on = HUB if is_hub_model(path) else inference_config(find_saved(path)[0]).dataset.name
    if trained_on == SYNTHETIC:
        say(
            "This model was trained on synthetic people: on photographs its results mean nothing.",
            style="yellow",
            to_stderr=True,
        )
    return SearchModel(path, load(path, device, runtime), trained_on)


def _is_in(word: str, folder: Path, runs: Path) -> bool:
    return word in folder.relative_to(runs).parts
