"""Write a run's model, without its identity heads, into a folder that `tireid.load` takes."""

import shlex
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from safetensors.torch import save_file

from tireid.data.tokenizers import load_tokenizer
from tireid.files import write_json
from tireid.inference.model_card import ModelFacts, model_card
from tireid.inference.restore import embedding_weights, restore_model
from tireid.inference.retriever import load
from tireid.inference.saved_config import inference_config, read_settings
from tireid.runs.record import RECORD_FILE, read_record
from tireid.runs.settings import CONFIG_FILE
from tireid.runs.weights import TOKENIZER_FOLDER, WEIGHTS_FILE, find_run

CARD_FILE = "README.md"


OVERRIDES_FILE = Path(".hydra", "overrides.yaml")


OWN_PLACES = ("hydra.", "paths.")


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
    output = Path(cfg.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"output: expected a new or empty folder, got {output}")
    folder, checkpoint = find_run(cfg.run)
    config, settings, record = inference_config(folder), read_settings(folder), read_record(folder)
    metrics, command = _metrics(folder, checkpoint, record), _command(folder)
    model = restore_model(config, folder, checkpoint)
    weights = {name: value.clone().contiguous() for name, value in embedding_weights(model).items()}
    tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)

    output.mkdir(parents=True, exist_ok=True)
    save_file(weights, output / WEIGHTS_FILE, metadata={"format": "pt"})
    OmegaConf.save(config, output / CONFIG_FILE)
    # safetensors keeps its files private; the folder is to be passed on.
    (output / WEIGHTS_FILE).chmod((output / CONFIG_FILE).stat().st_mode)
    tokenizer.save(output / TOKENIZER_FOLDER)
    facts = ModelFacts(
        method=type(model).__name__,
        image_encoder=_encoder(settings["image_encoder"], record),
        text_encoder=_encoder(settings["text_encoder"], record),
        image_size=tuple(config.dataset.image_size),
        dim=load(output, "cpu").dim,
        parameters=sum(value.numel() for value in weights.values()),
        precision=str(config.trainer.precision),
        dataset=config.dataset.name,
        terms=config.dataset.terms,
        checkpoint=checkpoint.name,
        tested=record.get("tested_checkpoint") == checkpoint.name,
        selection=record.get("selection") or str(settings.get("selection")),
        converted_from=record.get("converted_from"),
        metrics=metrics,
        seed=record.get("seed"),
        commit=record.get("commit"),
        dirty=record.get("dirty"),
        version=record.get("versions", {}).get("tireid"),
        command=command,
    )
    kept = ("metrics", "selection", "seed", "commit", "dirty", "checkpoint", "tested")
    write_json(output / RECORD_FILE, {name: getattr(facts, name) for name in kept})
    (output / CARD_FILE).write_text(model_card(facts), encoding="utf-8")

    console = Console(highlight=False, soft_wrap=True)
    megabytes = (output / WEIGHTS_FILE).stat().st_size / 1e6
    console.print(
        f"exported: {output} ({facts.method} on {facts.dataset}, {checkpoint.name}, "
        f"{megabytes:.1f} MB)",
        markup=False,
    )
    if facts.selection == "test":
        console.print("[bold red]Its checkpoint was chosen on the test split.[/bold red]")
    return output


def _encoder(section: dict[str, Any], record: dict[str, Any]) -> str:
    """Return the classes, outermost first, and what their training began from."""
    name = " over ".join(f"`{found}`" for found in _classes(section["module"]))
    pretrained = section.get("pretrained")
    if pretrained:
        place = Path(str(pretrained))
        return f"{name}, from `{place.name if place.is_absolute() else pretrained}`"
    return name if record.get("converted_from") else f"{name}, from random weights"


def _classes(module: dict[str, Any]) -> list[str]:
    inner = [_classes(value) for value in module.values() if isinstance(value, dict)]
    own = str(module["_target_"]).rpartition(".")[2]
    return [own, *(name for names in inner for name in names)]


def _metrics(folder: Path, checkpoint: Path, record: dict[str, Any]) -> dict[str, float | None]:
    """Return the figures of this very checkpoint: its run's, or what `tireid evaluate` wrote."""
    if record.get("tested_checkpoint") == checkpoint.name and record.get("metrics"):
        return record["metrics"]
    found: dict[str, float | None] = {}
    for split in ("val", "test"):
        found |= read_record(folder, f"evaluation_{split}_{checkpoint.stem}.json").get(
            "metrics", {}
        )
    return found


def _command(folder: Path) -> str | None:
    """Return what was typed to train, without the places of files on that machine."""
    file = folder / OVERRIDES_FILE
    if not file.is_file():
        return None
    words = ["python", "-m", "tireid", "train"]
    for override in OmegaConf.load(file):
        name, _, value = str(override).partition("=")
        if not name.lstrip("+~").startswith(OWN_PLACES):
            place = Path(value.strip("'\"")).expanduser().is_absolute()
            words.append(shlex.quote(f"{name}=DIR" if place else str(override)))
    return " ".join(words)
