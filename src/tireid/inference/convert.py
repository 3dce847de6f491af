"""Make a run folder, for `tireid evaluate`, from a checkpoint of a method's official code."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from tireid.console import say
from tireid.encoders.pretrained import misfit
from tireid.files import write_json, write_text
from tireid.inference.build import build_encoders, build_model
from tireid.inference.export import check_new_folder
from tireid.inference.official_file import official_file
from tireid.runs.checkpoint import write_checkpoint
from tireid.runs.official import OfficialWeights
from tireid.runs.record import RECORD_FILE
from tireid.runs.settings import CONFIG_FILE
from tireid.runs.weights import TOKENIZER_FOLDER

CHECKPOINT = "official.ckpt"
OWN_SETTINGS = ("official", "member", "output", "tokenizer", "bert", "source")


def convert(cfg: DictConfig) -> Path:
    """Convert one checkpoint.

    Args:
        cfg: Composed from `conf/convert.yaml`, with a source of `conf/source/`.

    Returns:
        The run folder.

    Raises:
        ValueError: If a setting is wrong, or the checkpoint does not have the config's sizes.
        FileNotFoundError: If the checkpoint or the tokenizer is missing.
    """
    required = {"official": f"a checkpoint, {cfg.source.file}", "output": "a new folder"}
    for name, what in required.items():
        if not cfg[name]:
            raise ValueError(f"{name}: expected {what}; set {name}=...")
    output = check_new_folder(cfg.output)
    read = instantiate(cfg.source.read, _convert_="all")
    with official_file(str(cfg.official), cfg.member) as official:
        weights: OfficialWeights = read(official, num_train_pids=cfg.num_train_pids)
    if not weights.lacking:
        cfg.text_encoder.pretrained = False
    tokenizer = instantiate(cfg.text_encoder.tokenizer, _convert_="all")
    if tokenizer.vocab_size != cfg.source.word_pieces:
        raise ValueError(
            f"tokenizer: expected the {cfg.source.word_pieces} word pieces that the text encoder "
            f"has, got {tokenizer.vocab_size} in {cfg.tokenizer}; set tokenizer=..."
        )
    model = build_model(cfg, build_encoders(cfg), weights.num_train_pids)
    state = weights.state
    if weights.lacking:
        built = model.state_dict()
        state = {name: built[name] for name in built if name.startswith(weights.lacking)} | state
    if faults := misfit(model.state_dict(), state):
        raise ValueError(f"{cfg.official}: does not have the config's sizes: {faults}")
    model.load_state_dict(state)

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    for name in OWN_SETTINGS:
        settings.pop(name, None)
    settings["num_train_pids"] = weights.num_train_pids
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / CONFIG_FILE, OmegaConf.to_yaml(settings))
    tokenizer.save(output / TOKENIZER_FOLDER)
    write_checkpoint({"state_dict": model.state_dict()}, output / "checkpoints" / CHECKPOINT)
    record = {
        "tested_checkpoint": CHECKPOINT,
        "converted_from": Path(cfg.member or cfg.official).name,
        "official_code": cfg.source.code,
    }
    write_json(output / RECORD_FILE, record)
    identities = f"; {weights.num_train_pids:,} identities" if weights.num_train_pids else ""
    say(f"run folder: {output}{identities}")
    say(f"terms of the data that the weights were trained on: {cfg.dataset.terms}")
    return output
