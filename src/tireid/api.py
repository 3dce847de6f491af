"""The commands as functions: train, evaluate, explain, export, compare, and read a data set.

Settings are those of the commands: names in keywords (`max_epochs=2`), and all that is no Python
name, or Hydra's own, as on a command line (`"model.head.dictionary_size=64"`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, read_write

from tireid.cli import compare as compare_command
from tireid.console import silence_expected_warnings
from tireid.data.datamodule import TireidDataModule
from tireid.explanations import explain as explain_command
from tireid.files import conf_dir
from tireid.inference import export as export_command
from tireid.inference.build import build_datamodule
from tireid.inference.restore import restore_datamodule
from tireid.inference.saved_config import evaluation_config
from tireid.inference.trust import trusting
from tireid.runs.results import Result
from tireid.runs.settings import CONFIG_FILE
from tireid.sweeps.overrides import override_text
from tireid.training import evaluate as evaluate_command
from tireid.training import run as train_command


class Run(NamedTuple):
    """A complete training.

    Attributes:
        folder: The run folder, which `tireid.load`, `evaluate`, `explain`, `export` and `compare`
            take.
        metrics: Validation metrics of the tested checkpoint and test metrics, in percent, by names
            such as `test/R1`.
    """

    folder: Path
    metrics: dict[str, float]


def train(
    *overrides: str,
    model: str = "lgur",
    dataset: str = "synthetic",
    folder: str | Path | None = None,
    **settings: Any,
) -> Run:
    """Train a method, test the chosen checkpoint and leave a run folder, as `tireid train` does.

    Args:
        *overrides: Settings as on a command line.
        model: One of `conf/model`.
        dataset: One of `conf/dataset`.
        folder: The run folder; None: `runs/DATASET/MODEL/TIME`. A complete run of the same settings
            is not trained again, an unfinished one is continued.
        **settings: Other settings by name.

    Returns:
        The run folder and the metrics.

    Raises:
        ValueError: If a setting is out of its range or the data are not as expected.
        FileNotFoundError: If the data, or a run to continue, are missing.

    Example:
        `tireid.train(model="lgur", max_epochs=2, trainer="cpu").metrics["test/R1"]`
    """
    settings = {"model": model, "dataset": dataset} | settings
    with _composed("train", overrides, settings, folder) as cfg:
        metrics = train_command.train(cfg)
        return Run(Path(cfg.paths.output_dir), metrics)


def evaluate(
    run: str | Path,
    *overrides: str,
    split: str = "test",
    trust: Sequence[str] = (),
    **settings: Any,
) -> dict[str, float]:
    """Evaluate a run, a checkpoint or a hub model on a split, as `tireid evaluate` does.

    Args:
        run: A run folder, a checkpoint in one, or a CLIP or SigLIP 2 of the hub.
        *overrides: Settings as on a command line.
        split: `test` or `val`.
        trust: Packages whose classes the run may name, as in `tireid.load`.
        **settings: Other settings by name: `dataset`, `flip`, `batch_size`, `accelerator`, ...

    Returns:
        The metrics in percent, by names such as `test/R1`.

    Raises:
        ValueError: If a setting is wrong or the checkpoint does not fit.
        FileNotFoundError: If the run or its data are missing.
    """
    settings = {"run": str(run), "split": split} | settings
    with trusting(trust), _composed("evaluate", overrides, settings) as cfg:
        return evaluate_command.evaluate(cfg)


def explain(
    run: str | Path, *overrides: str, trust: Sequence[str] = (), **settings: Any
) -> list[Path]:
    """Draw what a run's model looks at into its folder, as `tireid explain` does.

    Args:
        run: A run folder, or a checkpoint in one.
        *overrides: Settings as on a command line.
        trust: Packages whose classes the run may name, as in `tireid.load`.
        **settings: Other settings by name: `split`, `queries`, `images`, ...

    Returns:
        The images written; none if the method has nothing to show.

    Raises:
        ValueError: If a setting is wrong or the checkpoint does not fit.
        FileNotFoundError: If the run or its data are missing.
    """
    with trusting(trust), _composed("explain", overrides, {"run": str(run)} | settings) as cfg:
        return explain_command.explain(cfg)


def export(
    run: str | Path,
    output: str | Path,
    *overrides: str,
    trust: Sequence[str] = (),
    **settings: Any,
) -> Path:
    """Write a run's model into a folder that `tireid.load` takes, as `tireid export` does.

    Args:
        run: A run folder, or a checkpoint in one.
        output: The folder to create.
        *overrides: Settings as on a command line.
        trust: Packages whose classes the run may name, as in `tireid.load`.
        **settings: Other settings by name: `format`, `int8`, ...

    Returns:
        The folder.

    Raises:
        ValueError: If a setting is wrong, or the run's files are damaged or do not fit together.
        FileNotFoundError: If the run lacks a file.
    """
    settings = {"run": str(run), "output": str(output)} | settings
    with trusting(trust), _composed("export", overrides, settings) as cfg:
        return export_command.export(cfg)


def compare(*sources: str | Path, **options: Any) -> list[Result]:
    """Print one table of runs, with means over seeds, as `tireid compare` does.

    Args:
        *sources: Run folders, folders of runs, and CSV files of results.
        **options: Files to write, as `tireid.cli.compare.compare` takes them: `csv`, `picture`,
            `fill`, `out` (the folder of a report), with `control` and `pictures`.

    Returns:
        The results of the complete runs, in the order of the sources.

    Raises:
        FileNotFoundError: If a source is missing.
        ValueError: If none is complete, or one cannot be read.
    """
    files: dict[str, Any] = {
        name: Path(value) if name in ("csv", "picture", "fill", "out") and value else value
        for name, value in options.items()
    }
    return compare_command.compare([Path(source) for source in sources], **files)


def load_dataset(
    dataset: str | Path = "synthetic", *overrides: str, **settings: Any
) -> TireidDataModule:
    """Read a data set as a training would; a synthetic one is drawn if it is missing.

    Args:
        dataset: One of `conf/dataset`; or a run folder, for its data and its vocabulary, without
            other settings.
        *overrides: Settings as on a command line: `"dataset.root=DIR"`.
        **settings: Other settings of a training by name: `model`, `image_encoder`, ...

    Returns:
        The data module with all splits read: `describe()` counts them, `records("test")` are the
        images with their captions, `train_dataloader()` and `tokenizer` those of a training.

    Raises:
        ValueError: If a setting is wrong, or the data are not as expected.
        FileNotFoundError: If the data are missing.
    """
    silence_expected_warnings()
    if (Path(dataset) / CONFIG_FILE).is_file():
        folder = Path(dataset)
        if overrides or settings:
            raise ValueError(f"load_dataset: expected no other settings with a run, got {dataset}")
        datamodule = restore_datamodule(evaluation_config(folder), folder)
    else:
        config = train_config(*overrides, dataset=str(dataset), **settings)
        datamodule = build_datamodule(config)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def train_config(*overrides: str, **settings: Any) -> DictConfig:
    """Return the config of a training, composed and resolved.

    Args:
        *overrides: Settings as on a command line.
        **settings: Settings by name.
    """
    with _composed("train", overrides, settings) as cfg:
        return cast(DictConfig, OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)))


@contextmanager
def _composed(
    command: str,
    overrides: Sequence[str],
    settings: dict[str, Any],
    folder: str | Path | None = None,
) -> Iterator[DictConfig]:
    """Compose a command's config; in the block Hydra knows it as that of a command line.

    What Hydra knew before, if the caller is an application of it, it knows again afterwards.
    """
    texts = [f"{name}={override_text(value)}" for name, value in settings.items()]
    earlier, known = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            whole = compose(command, [*texts, *overrides], return_hydra_config=True)
            HydraConfig.instance().set_config(whole)
            place = str(folder or whole.hydra.run.dir)
            with read_write(whole.hydra):
                whole.hydra.runtime.output_dir = place
            HydraConfig.instance().set_config(whole)
            cfg = OmegaConf.masked_copy(whole, [str(name) for name in whole if name != "hydra"])
            yield cfg
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = earlier, known
