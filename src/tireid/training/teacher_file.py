"""A teacher's file: its weights, and with what they were trained, which a student must share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from omegaconf import DictConfig, OmegaConf

from tireid.inference.restore import load_weights
from tireid.methods.lcr2s import Lcr2sTeacher
from tireid.runs.checkpoint import read_checkpoint, write_checkpoint
from tireid.runs.settings import flat_settings
from tireid.runs.weights import read_weights

# What a teacher's features depend on, though weights of the same shapes would fit other values too.
_MADE_WITH = (
    "model.teacher.fusion",
    "model.teacher.share_fusion",
    "model.teacher.source",
    "model.dual",
    "image_encoder.module",
    "image_encoder.mean",
    "image_encoder.std",
    "image_encoder.interpolation",
    "text_encoder.module",
    "dataset.image_size",
)
_TRAINING = ("pretrained", "optimizer", "schedule", "learning_rates", "alignment")
_TRAINING_VALUES = (
    "alignment_weight",
    "identity_weight",
    "use_guidance",
    "prototype_order",  # the same result
    "drop_path_rate",
    "dropout",
    "frozen",
    "frozen_dropout",
)


def write_teacher(
    teacher: Lcr2sTeacher, file: Path, settings: str, cfg: DictConfig, datamodule: Any
) -> None:
    """Write a trained teacher.

    Args:
        teacher: Trained.
        file: Where to.
        settings: Fingerprint of all that it depends on.
        cfg: The training config.
        datamodule: What it was trained on.
    """
    content = {"state_dict": teacher.state_dict(), "settings": settings}
    write_checkpoint(content | _description(cfg, datamodule), file)


def load_given_teacher(teacher: Lcr2sTeacher, file: Path, cfg: DictConfig, datamodule: Any) -> None:
    """Load a teacher that another run has trained.

    The heads of its identities come along where the data are the same.

    Args:
        teacher: As this run's config makes it.
        file: What `write_teacher` left.
        cfg: A composed training config.
        datamodule: After `setup`; what the student is trained on.

    Raises:
        ValueError: If the file holds no such teacher, or its features would mean something else.
    """
    state = read_weights(file)
    if "classifier.weight" not in state or not any(name.startswith("dual.") for name in state):
        raise ValueError(
            f"teaching.checkpoint: {file}: expected a teacher, got the weights of something else; "
            "a run's teacher is teacher/teacher.ckpt in its folder, its student in checkpoints/"
        )
    known, asked = read_checkpoint(file), _description(cfg, datamodule)
    made, wanted = known.get("made_with"), asked["made_with"]
    if isinstance(made, Mapping):  # older files do not say
        for name in sorted(made.keys() | wanted.keys()):
            if made.get(name) != wanted.get(name):
                raise ValueError(
                    f"teaching.checkpoint: {file} was trained with {name}={made.get(name)!r}, got "
                    f"{wanted.get(name)!r}; set it alike, or train another teacher"
                )
    if known.get("vocabulary", asked["vocabulary"]) != asked["vocabulary"]:
        raise ValueError(
            f"teaching.checkpoint: {file} knows another vocabulary, learnt from other captions "
            f"({known.get('dataset')}), in which words have other numbers; train a teacher on this "
            "data set, or start from that teacher's run, which brings it along: init_weights=..."
        )
    load_weights(teacher, file)
    if known.get("data") == asked["data"]:
        teacher.load_state_dict(state)
    elif "data" in known:
        rank_zero_warn(
            f"teaching.checkpoint: {file} was trained on other images or captions "
            f"({known.get('dataset')}) than the student's; the heads of its identities are left out"
        )


def _description(cfg: DictConfig, datamodule: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name in _MADE_WITH:
        node = OmegaConf.select(cfg, name)
        is_node = OmegaConf.is_config(node)
        made[name] = OmegaConf.to_container(node, resolve=True) if is_node else node
    return {
        "made_with": {
            name: value for name, value in flat_settings(made).items() if not _trains(name)
        },
        "vocabulary": datamodule.tokenizer.fingerprint(),
        "data": datamodule.fingerprints()["train"],
        "dataset": datamodule.name,
    }


def _trains(name: str) -> bool:
    parts = name.split(".")
    return parts[-1] in _TRAINING_VALUES or any(part in _TRAINING for part in parts)
