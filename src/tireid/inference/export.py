"""Write a run's model, without its identity heads, into a folder that `tireid.load` takes."""

import shlex
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save

from tireid.console import printable, say
from tireid.files import replacing, write_json, write_text
from tireid.inference.model_card import model_card
from tireid.inference.restore import embedding_weights, restore_model, restore_tokenizer
from tireid.inference.retriever import retriever_of
from tireid.inference.saved_config import inference_config
from tireid.runs.record import EVALUATION, RECORD_FILE, read_record
from tireid.runs.settings import CONFIG_FILE, read_overrides, read_settings
from tireid.runs.weights import TOKENIZER_FOLDER, WEIGHTS_FILE, find_run

CARD_FILE = "README.md"
_UNKNOWN = "not recorded"


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
    model = restore_model(config, folder, checkpoint)
    state = embedding_weights(model, model.state_dict())
    weights = {name: value.clone().contiguous() for name, value in state.items()}
    tokenizer = restore_tokenizer(config, folder)
    retriever = retriever_of(config, model, tokenizer, checkpoint, "cpu")
    retriever.encode_pixels(torch.zeros(1, 3, *retriever.image_size, dtype=torch.uint8))
    dim = retriever.dim  # these two refuse weights that embed nothing

    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / WEIGHTS_FILE) as file:
        file.write(save(weights, metadata={"format": "pt"}))
    write_text(output / CONFIG_FILE, OmegaConf.to_yaml(config))
    tokenizer.save(output / TOKENIZER_FOLDER)
    facts = _facts(folder, config, record)
    size = sum(value.numel() for value in weights.values())
    facts["size"] = f"{size:,} weights; embeddings of {dim}"
    exported = _record(folder, checkpoint, record)
    write_json(output / RECORD_FILE, exported)
    origin = {
        "converted_from": record.get("converted_from"),
        "version": record.get("versions", {}).get("tireid"),
    }
    method, dataset = type(model).__name__, config.dataset.name
    card = model_card(method, dataset, facts, exported | origin)
    write_text(output / CARD_FILE, printable(card))
    megabytes = (output / WEIGHTS_FILE).stat().st_size / 1e6
    say(f"exported: {output} ({method} on {dataset}, {checkpoint.name}, {megabytes:.1f} MB)")
    if exported["selection"] == "test":
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


def _facts(folder: Path, config: DictConfig, record: dict[str, Any]) -> dict[str, str]:
    """Return what the card says of a model beside its record, by name."""
    settings = read_settings(folder)
    height, width = config.dataset.image_size
    image_encoder = _encoder(settings["image_encoder"], record)
    return {
        "image encoder": f"{image_encoder}; images of {height}x{width} pixels",
        "text encoder": _encoder(settings["text_encoder"], record),
        "size": "",
        "precision": f"`{config.trainer.precision}`",
        "data set": config.dataset.name,
        "terms of the data": config.dataset.terms or "ask its owners",
        "command": _command(folder),
    }


def _record(folder: Path, checkpoint: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return the record of an export: what is known of its checkpoint."""
    return {
        "metrics": _metrics(folder, checkpoint, record),
        "selection": record.get("selection") or str(read_settings(folder).get("selection")),
        **{name: record.get(name) for name in ("seed", "commit", "dirty")},
        "checkpoint": checkpoint.name,
        "tested": record.get("tested_checkpoint") == checkpoint.name,
    }


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
    outermost = str(module.get("_target_", _UNKNOWN)).rpartition(".")[2]
    return [outermost, *(name for names in inner for name in names)]


def _metrics(folder: Path, checkpoint: Path, record: dict[str, Any]) -> dict[str, float | None]:
    """Return the metrics of this checkpoint, from its run or from `tireid evaluate`."""
    if record.get("tested_checkpoint") == checkpoint.name and record.get("metrics"):
        return record["metrics"]
    metrics: dict[str, float | None] = {}
    for split in ("val", "test"):
        name = f"evaluation_{split}_{checkpoint.stem}.json"
        evaluation = read_record(folder, name, EVALUATION)
        metrics |= evaluation.get("metrics", {})
    return metrics


def _command(folder: Path) -> str:
    """Return the command that trained a run, without the paths of that machine."""
    if not (folder / ".hydra").is_dir():
        return _UNKNOWN
    words = ["python", "-m", "tireid", "train"]
    for override in read_overrides(folder):
        name, _, value = override.partition("=")
        if not name.lstrip("+~").startswith("paths."):
            is_path = Path(value.strip("'\"")).expanduser().is_absolute()
            words.append(shlex.quote(f"{name}=DIR" if is_path else override))
    return f"`{' '.join(words)}`"
