"""Write a run's model, without its identity heads, into a folder that `tireid.load` takes."""

import shlex
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from tireid.console import printable, say
from tireid.data.records import captions_of
from tireid.data.synthetic import SYNTHETIC
from tireid.files import write_json, write_text
from tireid.inference.model_card import model_card
from tireid.inference.onnx_model import check_installed, write_onnx
from tireid.inference.push import check_push, push
from tireid.inference.restore import (
    restore_datamodule,
    restore_model,
    restore_tokenizer,
)
from tireid.inference.retriever import Retriever, load, retriever_of
from tireid.inference.saved_config import evaluation_config, inference_config
from tireid.methods.base import RetrievalModule, embedding_weights
from tireid.retrieval import evaluate_embeddings
from tireid.runs.record import EVALUATION, RECORD_FILE, read_record
from tireid.runs.settings import CONFIG_FILE, method_name, read_overrides, read_settings
from tireid.runs.weights import (
    CARD_FILE,
    TOKENIZER_FOLDER,
    WEIGHTS_FILE,
    find_run,
    write_weights,
)

FORMATS = ("safetensors", "onnx")
_UNKNOWN = "not recorded"


def export(cfg: DictConfig) -> Path:
    """Export one checkpoint, and push it to the model hub if that is asked for.

    Args:
        cfg: Composed from `conf/export.yaml`.

    Returns:
        The folder.

    Raises:
        ValueError: If a setting is wrong, or the run's files are damaged or do not fit together.
        FileNotFoundError: If the run lacks a file.
    """
    if cfg.format not in FORMATS:
        raise ValueError(f"format: expected {' or '.join(FORMATS)}, got {cfg.format!r}")
    _check_idle(cfg)
    if cfg.format == "onnx":
        check_installed("onnx", "onnxscript", "onnxruntime")
    if not cfg.output:
        raise ValueError("output: expected a new folder; set output=...")
    if cfg.push is not None:
        check_push(cfg.push, cfg.private)
    output = check_new_folder(cfg.output)
    _write_export(cfg, output)
    if cfg.push is not None:
        push(output, cfg.push, private=cfg.private)
    if cfg.wandb:
        from tireid.tracking.logger import log_export  # late: with it comes Lightning

        folder, _ = find_run(cfg.run)
        log_export(folder, read_settings(folder), output)
    return output


def _check_idle(cfg: DictConfig) -> None:
    """Check that no setting is without effect beside the others."""
    needed = {
        "int8": (cfg.int8, cfg.format == "onnx", "format=onnx"),
        "dataset_root": (cfg.dataset_root, cfg.int8, "format=onnx int8=true"),
        "private": (cfg.private is False, cfg.push, "push=OWNER/NAME"),
    }
    for name, (is_set, counts, beside) in needed.items():
        if is_set and not counts:
            raise ValueError(f"{name}: does nothing without {beside}, got {cfg[name]!r}")


def _write_export(cfg: DictConfig, output: Path) -> None:
    """Write what an export holds into a new folder."""
    folder, checkpoint = find_run(cfg.run)
    config, record = inference_config(folder), read_record(folder)
    model = restore_model(config, folder, checkpoint)
    state = embedding_weights(model, model.state_dict())
    tokenizer = restore_tokenizer(config, folder)
    retriever = retriever_of(config, model, tokenizer, checkpoint, "cpu")
    retriever.encode_pixels(torch.zeros(1, 3, *retriever.image_size, dtype=torch.uint8))
    dim = retriever.dim  # these two refuse weights that embed nothing

    output.mkdir(parents=True, exist_ok=True)
    write_weights(output / WEIGHTS_FILE, state)
    write_text(output / CONFIG_FILE, OmegaConf.to_yaml(config))
    tokenizer.save(output / TOKENIZER_FOLDER)
    facts = _facts(folder, config, record)
    size = sum(value.numel() for value in state.values())
    facts["size"] = f"{size:,} weights; embeddings of {dim}"
    if cfg.format == "onnx":
        # Restored anew: a retriever may have changed the first one's precision.
        anew = restore_model(config, folder, checkpoint)
        facts["ONNX"] = _write_onnx(anew, output, load(output, "cpu"), cfg)
    exported = _record(folder, checkpoint, record)
    write_json(output / RECORD_FILE, exported)
    origin = {
        "converted_from": record.get("converted_from"),
        "official_code": record.get("official_code", "LGUR"),  # earlier versions converted no other
        "version": record.get("versions", {}).get("tireid"),
    }
    method, dataset = method_name(config.model._target_), config.dataset.name
    licence = cfg.license or _licence(config, read_settings(folder), origin)
    card = model_card(method, dataset, facts, exported | origin, licence)
    write_text(output / CARD_FILE, printable(card))
    megabytes = (output / WEIGHTS_FILE).stat().st_size / 1e6
    say(f"exported: {output} ({method} on {dataset}, {checkpoint.name}, {megabytes:.1f} MB)")
    if exported["selection"] == "test":
        say("Its checkpoint was chosen on the test split.", style="bold red")


def _licence(config: DictConfig, settings: dict[str, Any], origin: dict[str, Any]) -> str:
    """Return the licence of a model whose weights come from this package alone, or `other`."""
    encoders = (settings[name] for name in ("image_encoder", "text_encoder"))
    is_own = not any(encoder.get("pretrained") for encoder in encoders)
    is_own = is_own and config.dataset.name == SYNTHETIC and not origin["converted_from"]
    return "mit" if is_own else "other"


def _write_onnx(model: RetrievalModule, output: Path, retriever: Retriever, cfg: DictConfig) -> str:
    """Write the ONNX files of an export, and return what the card says of them."""
    size, fingerprint = retriever.image_size, retriever.fingerprint
    write_onnx(model.eval(), output, size, fingerprint, int8=cfg.int8)
    if not cfg.int8:
        return "`image.onnx` and `text.onnx`"
    try:
        before, after = (_val_recall(r, cfg) for r in (retriever, load(output, runtime="onnx")))
    except (ValueError, OSError) as error:
        changed = f"change of R@1 not measured: {error}; dataset_root=... says where the data are"
    else:
        changed = f"R@1 on the validation split {after:.2f} instead of {before:.2f}"
    say(f"8-bit weights: {changed}")
    return f"`image.onnx` and `text.onnx`, of 8-bit weights; {changed}"


def _val_recall(retriever: Retriever, cfg: DictConfig) -> float:
    """Return R@1 on the validation split of a run's data, in percent."""
    folder, _ = find_run(cfg.run)
    config = evaluation_config(folder)
    data = restore_datamodule(config, folder, dataset_root=cfg.dataset_root)
    data.prepare_data()
    data.setup("validate")
    records = data.records("val")
    images = retriever.encode_image([record.image_path for record in records])
    texts = retriever.encode_text(captions_of(records))
    pids = torch.tensor([record.pid for record in records])
    asked = torch.tensor([record.pid for record in records for _ in record.captions])
    return evaluate_embeddings(texts, images, asked, pids)["R1"]


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
