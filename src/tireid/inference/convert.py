"""Make a run folder, for `tireid evaluate`, from a checkpoint of LGUR's official code."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from tireid.console import say
from tireid.encoders.pretrained import misfit
from tireid.files import write_json, write_text
from tireid.inference.build import build_encoders, build_model
from tireid.inference.export import check_new_folder
from tireid.methods.lgur.official import BERT, convert_official, read_official
from tireid.runs.checkpoint import write_checkpoint
from tireid.runs.record import RECORD_FILE
from tireid.runs.settings import CONFIG_FILE
from tireid.runs.weights import TOKENIZER_FOLDER

CHECKPOINT = "official.ckpt"
OWN_SETTINGS = ("official", "output", "tokenizer", "bert")


def convert(cfg: DictConfig) -> Path:
    """Convert one checkpoint.

    Args:
        cfg: Composed from `conf/convert.yaml`.

    Returns:
        The run folder.

    Raises:
        ValueError: If a setting is wrong, or the checkpoint does not have the config's sizes.
        FileNotFoundError: If the checkpoint or the tokenizer is missing.
    """
    for name, what in (("official", "a checkpoint, best.pth.tar"), ("output", "a new folder")):
        if not cfg[name]:
            raise ValueError(f"{name}: expected {what}; set {name}=...")
    official, output = Path(cfg.official), check_new_folder(cfg.output)
    parts = read_official(official)
    try:
        state = convert_official(
            **parts,
            num_train_pids=cfg.num_train_pids,
            trunk_depth=cfg.image_encoder.module.trunk_depth,
        )
    except ValueError as error:
        raise ValueError(f"{official}: {error}") from error
    if any(name.startswith(BERT) for name in state):
        cfg.text_encoder.pretrained = False
    elif not cfg.bert:
        raise ValueError(f"{official}: holds no weights of BERT; set bert=bert-base-uncased")
    tokenizer = instantiate(cfg.text_encoder.tokenizer, _convert_="all")
    word_pieces = cfg.text_encoder.module.embedding.vocab_size
    if tokenizer.vocab_size != word_pieces:
        raise ValueError(
            f"tokenizer: expected the {word_pieces} word pieces that BERT has, got "
            f"{tokenizer.vocab_size} in {cfg.tokenizer}; set tokenizer=..."
        )
    num_train_pids = state["classifier_weight"].shape[1]
    model = build_model(cfg, build_encoders(cfg), num_train_pids)
    bert = {name: value for name, value in model.state_dict().items() if name.startswith(BERT)}
    state = state if cfg.text_encoder.pretrained is False else bert | state
    if faults := misfit(model.state_dict(), state):
        raise ValueError(f"{official}: does not have the config's sizes: {faults}")
    model.load_state_dict(state)

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    for name in OWN_SETTINGS:
        del settings[name]
    settings["num_train_pids"] = num_train_pids
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / CONFIG_FILE, OmegaConf.to_yaml(settings))
    tokenizer.save(output / TOKENIZER_FOLDER)
    write_checkpoint({"state_dict": model.state_dict()}, output / "checkpoints" / CHECKPOINT)
    record = {"tested_checkpoint": CHECKPOINT, "converted_from": official.name}
    write_json(output / RECORD_FILE, record)
    say(f"run folder: {output}; {num_train_pids:,} identities")
    return output
