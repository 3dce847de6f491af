"""Write a run's model, without its identity heads, into a folder that `tireid.load` takes."""

import shlex
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file

from tireid.console import say
from tireid.data.tokenizers import load_tokenizer
from tireid.files import write_json, write_text
from tireid.inference.model_card import ModelFacts, model_card
from tireid.inference.restore import embedding_weights, restore_model
from tireid.inference.retriever import load
from tireid.inference.saved_config import inference_config, read_settings
from tireid.runs.record import RECORD_FILE, read_record
from tireid.runs.settings import CONFIG_FILE
from tireid.runs.weights import TOKENIZER_FOLDER, WEIGHTS_FILE, find_run

CARD_FILE = "README.md"
_OVERRIDES_FILE = Path(".hydra", "overrides.yaml")
_LOCAL = ("hydra.", "paths.")  # overrides that say nothing of a model
_RECORDED = ("metrics", "selection", "seed", "commit", "dirty", "checkpoint", "tested")


def export(cfg: DictConfig) -> Path:
    """Export one checkpoint.

    Args:
        cfg: Composed from `conf/export.yaml`.

    Returns:
        The folder.

    Raises:
        ValueError: If a setting is wrong, or the run's files are damaged or do not fit together.
        FileNotFoundError: If the run lacks a file.
    """
    if not cfg.output:
        raise ValueError("output: expected a new folder; set output=...")
    output = check_new_folder(cfg.output)
    folder, checkpoint = find_run(cfg.run)
    config, record = inference_config(folder), read_record(folder)
    metrics, command = _metrics(folder, checkpoint, record), _command(folder)
    model = restore_model(config, folder, checkpoint)
    weights = {name: value.clone().contiguous() for name, value in embedding_weights(model).items()}
    tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)

    output.mkdir(parents=True, exist_ok=True)
    save_file(weights, output / WEIGHTS_FILE, metadata={"format": "pt"})
    OmegaConf.save(config, output / CONFIG_FILE)
    # safetensors makes its files private; the folder is to be passed on.
    (output / WEIGHTS_FILE).chmod((output / CONFIG_FILE).stat().st_mode)
    tokenizer.save(output / TOKENIZER_FOLDER)
    facts = _facts(
        read_settings(folder),
        record,
        method=type(model).__name__,
        image_size=tuple(config.dataset.image_size),
        dim=load(output, "cpu").dim,
        parameters=sum(value.numel() for value in weights.values()),
        precision=str(config.trainer.precision),
        dataset=config.dataset.name,
        terms=config.dataset.terms,
        checkpoint=checkpoint.name,
        metrics=metrics,
        command=command,
    )
    write_json(output / RECORD_FILE, {name: getattr(facts, name) for name in _RECORDED})
    write_text(output / CARD_FILE, model_card(facts))
    megabytes = (output / WEIGHTS_FILE).stat().st_size / 1e6
    model_name = f"{facts.method} on {facts.dataset}, {checkpoint.name}, {megabytes:.1f} MB"
    say(f"exported: {output} ({model_name})")
    if facts.selection == "test":
        say("Its checkpoint was chosen on the test split.", style="bold red")
    return output


def check_new_folder(path: str) -> Path:
    """Return the path of a folder to write to.

    Raises:
        ValueError: If it exists and is not empty.
    """
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"output: expected a new or empty folder, got {folder}")
    return folder


def _facts(
    settings: dict[str, Any], record: dict[str, Any], *, checkpoint: str, **facts: Any
) -> ModelFacts:
    """Return the facts of a model, with those that its run has recorded."""
    return ModelFacts(
        image_encoder=_encoder(settings["image_encoder"], record),
        text_encoder=_encoder(settings["text_encoder"], record),
        checkpoint=checkpoint,
        tested=record.get("tested_checkpoint") == checkpoint,
        selection=record.get("selection") or str(settings.get("selection")),
        converted_from=record.get("converted_from"),
        seed=record.get("seed"),
        commit=record.get("commit"),
        dirty=record.get("dirty"),
        version=record.get("versions", {}).get("tireid"),
        **facts,
    )


def _encoder(section: dict[str, Any], record: dict[str, Any]) -> str:
    """Return an encoder's classes, outermost first, and its initial weights."""
    name = " over ".join(f"`{class_name}`" for class_name in _classes(section["module"]))
    pretrained = section.get("pretrained")
    if pretrained:
        path = Path(str(pretrained))
        return f"{name}, from `{path.name if path.is_absolute() else pretrained}`"
    return name if record.get("converted_from") else f"{name}, from random weights"


def _classes(module: dict[str, Any]) -> list[str]:
    inner = [_classes(value) for value in module.values() if isinstance(value, dict)]
    outermost = str(module["_target_"]).rpartition(".")[2]
    return [outermost, *(name for names in inner for name in names)]


def _metrics(folder: Path, checkpoint: Path, record: dict[str, Any]) -> dict[str, float | None]:
    """Return the metrics of this checkpoint, from its run or from `tireid evaluate`."""
    if record.get("tested_checkpoint") == checkpoint.name and record.get("metrics"):
        return record["metrics"]
    metrics: dict[str, float | None] = {}
    for split in ("val", "test"):
        evaluation = read_record(folder, f"evaluation_{split}_{checkpoint.stem}.json")
        metrics |= evaluation.get("metrics", {})
    return metrics


def _command(folder: Path) -> str | None:
    """Return the command that trained a run, without the paths of that machine."""
    file = folder / _OVERRIDES_FILE
    if not file.is_file():
        return None
    words = ["python", "-m", "tireid", "train"]
    for override in OmegaConf.load(file):
        name, _, value = str(override).partition("=")
        if not name.lstrip("+~").startswith(_LOCAL):
            is_path = Path(value.strip("'\"")).expanduser().is_absolute()
            words.append(shlex.quote(f"{name}=DIR" if is_path else str(override)))
    return " ".join(words)
