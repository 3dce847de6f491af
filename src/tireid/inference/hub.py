"""A CLIP or SigLIP 2 of the model hub as it is, without training, by its name or local folder.

Its image processor is honoured: CLIP's cuts out the middle square of an image. `NAME@384x128`
resizes the whole image to that height and width instead, and the table of positions with it.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from tireid.data.images import check_image_size
from tireid.data.tokenizers import CaptionTokenizer
from tireid.encoders.pretrained import quiet_library
from tireid.inference.build import SETTINGS_ERRORS, build_encoders, build_model
from tireid.inference.restore import outlined
from tireid.methods.base import RetrievalModule
from tireid.runs.foreign import read_json
from tireid.runs.hub_folder import WEIGHTS, check_hub_folder
from tireid.runs.settings import CONFIG_FILE

_MODEL_FILE = "config.json"
_IMAGE_FILES = ("preprocessor_config.json", "processor_config.json")
_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_WITH_SIZE = re.compile(r"(?P<source>.+?)(?:@(?P<height>\d+)x(?P<width>\d+))?", re.DOTALL)
_LONGEST_REASON = 500


class _Family(NamedTuple):
    """What differs between the two families.

    Attributes:
        encoders: Classes of the image and the text encoder.
        config: Name of the library's config.
        processor: Name of the library's image processor.
        lowercase: Whether captions must be lower-cased for it.
        fixed: Settings of either tower that the encoders build in.
    """

    encoders: tuple[str, str]
    config: str
    processor: str
    lowercase: bool
    fixed: dict[str, Any]


_FAMILIES = {
    "clip": _Family(
        ("clip.ClipImageEncoder", "clip.ClipTextEncoder"),
        "CLIPConfig",
        "CLIPImageProcessorPil",
        lowercase=False,
        fixed={"layer_norm_eps": 1e-5, "num_channels": 3},
    ),
    "siglip": _Family(
        ("siglip.SiglipImageEncoder", "siglip.SiglipTextEncoder"),
        "SiglipConfig",
        "SiglipImageProcessorPil",
        lowercase=True,
        fixed={
            **{"layer_norm_eps": 1e-6, "num_channels": 3, "vision_use_head": True},
            "hidden_act": "gelu_pytorch_tanh",
        },
    ),
}


def is_hub_model(path: str | Path) -> bool:
    """Return whether this is a folder of the library, or a name `owner/model` that is no path."""
    source, _ = _parts(path)
    place = Path(source)
    if place.is_dir():
        return (place / _MODEL_FILE).is_file() and not (place / CONFIG_FILE).exists()
    in_a_folder_here = place.parent.is_dir() and place.parent != Path()
    return bool(_NAME.fullmatch(source)) and not place.exists() and not in_a_folder_here


def hub_model_path(name: str) -> Path:
    """Return what `hub_config` takes, which means the same in any folder."""
    source, _ = _parts(name)
    return Path(name).absolute() if Path(source).is_dir() else Path(name)


def hub_config(path: str | Path) -> DictConfig:
    """Return the config of a dual encoder that embeds as a model of the hub does.

    Args:
        path: `owner/model`, or a folder that `save_pretrained` wrote; `@HEIGHTxWIDTH` behind it
            replaces the size and the cut of its image processor.

    Raises:
        FileNotFoundError: If it is neither in a folder, nor in the hub's cache, nor on the hub.
        ValueError: If it is no CLIP or SigLIP of fixed resolution, or has settings that the
            encoders do not know.
    """
    source, image_size = _parts(path)
    if (folder := Path(source)).is_dir():
        check_hub_folder(folder)
    file = _file(source, _MODEL_FILE)
    content = read_json(file, "a model's settings")
    kind = content.get("model_type")
    if kind not in _FAMILIES:
        raise ValueError(
            f"{file}: model_type: expected clip, or siglip as SigLIP 2 of fixed resolution has, "
            f"got {kind!r}"
        )
    family = _FAMILIES[kind]
    library = _built(family.config, content, file)
    vision, text = library.vision_config, library.text_config
    _check_fixed(vision, text, family, file)
    images = _image_settings(source, family)
    if image_size is not None:
        images |= {"image_size": list(check_image_size(image_size)), "shortest_edge": None}
    size = images.pop("image_size")
    image, words = _towers(source, kind, vision, text)
    tokenizer = {
        "_target_": "tireid.data.tokenizers.HubTokenizer",
        "name_or_path": source,
        "max_length": text.max_position_embeddings,
        "lowercase": family.lowercase,
    }
    targets = [f"tireid.encoders.{name}" for name in family.encoders]
    return OmegaConf.create(
        {
            "model": _METHOD | {"embedding_dim": words["out_dim"]},
            "image_encoder": images
            | {"module": {"_target_": targets[0], "image_size": size, **image}},
            "text_encoder": {"module": {"_target_": targets[1], **words}, "tokenizer": tokenizer},
            "dataset": {"name": "hub", "image_size": size},
            "trainer": {"precision": "32-true", "deterministic": None},
        }
    )


_METHOD = {
    "_target_": "tireid.methods.baseline.Baseline",
    "alignment": {"_target_": "tireid.losses.contrastive.InfoNceLoss"},
    "projection": "pretrained",
    "identity_weight": 0.0,
}


def build_hub_model(cfg: DictConfig) -> tuple[RetrievalModule, CaptionTokenizer]:
    """Build the model of `hub_config` with its weights, and its tokenizer.

    Raises:
        FileNotFoundError: If there is no tokenizer.
        ValueError: If weights are missing or do not fit, or the tokenizer is none of the
            `tokenizers` library.
    """
    try:
        tokenizer = instantiate(cfg.text_encoder.tokenizer, _convert_="all")
        pad_id = tokenizer.pad_id
    except (ImportError, AttributeError, *SETTINGS_ERRORS) as error:  # SigLIP 1: sentencepiece
        raise ValueError(
            f"{cfg.text_encoder.tokenizer.name_or_path}: expected a tokenizer of the tokenizers "
            f"library, as CLIP and SigLIP 2 have, got {error.__cause__ or error}"
        ) from error
    cfg = cfg.copy()
    if "pad_id" in cfg.text_encoder.module:
        cfg.text_encoder.module.pad_id = pad_id
    source, known = cfg.text_encoder.module.pretrained, cfg.text_encoder.module.vocab_size
    if tokenizer.vocab_size > known:
        raise ValueError(
            f"{source}: expected a tokenizer of at most vocab_size={known} ids, as {_MODEL_FILE} "
            f"has, got {tokenizer.vocab_size}"
        )
    try:
        with torch.random.fork_rng(devices=[]):
            if Path(source).is_dir():
                _check_sizes(cfg, Path(source))
            return build_model(cfg, build_encoders(cfg), num_train_pids=1), tokenizer
    except SETTINGS_ERRORS as error:
        reason = " ".join(str(error.__cause__ or error).split())[:_LONGEST_REASON]
        raise ValueError(f"{source}: expected a model that can be built: {reason}") from error


def _check_sizes(cfg: DictConfig, folder: Path) -> None:
    """Check without memory that weights of the settings' sizes can be in the files."""
    empty = cfg.copy()
    for tower in (empty.image_encoder.module, empty.text_encoder.module):
        tower.pretrained = False
    with outlined():
        model = build_model(empty, build_encoders(empty), num_train_pids=1)
    numbers = sum(parameter.numel() for parameter in model.parameters())
    held = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in WEIGHTS)
    if numbers > held:
        raise ValueError(
            f"{folder}: expected weights of the sizes in {_MODEL_FILE}, {numbers:,} numbers, got "
            f"files of {held:,} bytes"
        )


def _parts(path: str | Path) -> tuple[str, tuple[int, int] | None]:
    found = _WITH_SIZE.fullmatch(str(path))
    if found is None or found["height"] is None or Path(path).exists():
        return str(path), None
    return found["source"], (int(found["height"]), int(found["width"]))


def _towers(source: str, kind: str, vision: Any, text: Any) -> tuple[dict[str, Any], ...]:
    image, words = (
        {
            "pretrained": source,
            "dim": tower.hidden_size,
            "depth": tower.num_hidden_layers,
            "heads": tower.num_attention_heads,
            "mlp_dim": tower.intermediate_size,
        }
        for tower in (vision, text)
    )
    image["patch_size"] = vision.patch_size
    words |= {"vocab_size": text.vocab_size, "max_positions": text.max_position_embeddings}
    if kind == "clip":
        image |= {"out_dim": vision.projection_dim, "activation": vision.hidden_act}
        words |= {"out_dim": text.projection_dim, "activation": text.hidden_act}
    else:
        words |= {"out_dim": text.projection_size, "pad_id": 0}
    return image, words


def _check_fixed(vision: Any, text: Any, family: _Family, file: Path) -> None:
    for name, expected in family.fixed.items():
        for tower in (vision, text):
            if (got := getattr(tower, name, expected)) != expected:
                raise ValueError(f"{file}: {name}: expected {expected}, got {got!r}")


def _image_settings(source: str, family: _Family) -> dict[str, Any]:
    """Return what the image processor does, as `image_encoder` and `dataset` of a config say it."""
    file = _file(source, *_IMAGE_FILES)
    content = read_json(file, "the settings of an image processor")
    processor = _built(family.processor, content.get("image_processor", content), file)
    for name, expected in (("do_resize", True), ("do_rescale", True), ("do_normalize", True)):
        if getattr(processor, name) != expected:
            raise ValueError(f"{file}: {name}: expected {expected}")
    if abs(255 * processor.rescale_factor - 1) > 1e-6:
        raise ValueError(f"{file}: rescale_factor: expected 1/255, got {processor.rescale_factor}")
    size, crop = processor.size, processor.crop_size if processor.do_center_crop else None
    shortest_edge = size.shortest_edge
    wanted = crop or size
    if wanted.height is None or wanted.width is None or (crop and not shortest_edge):
        raise ValueError(
            f"{file}: expected size: {{height, width}}, or size: {{shortest_edge}} with a crop_size"
        )
    if crop and shortest_edge < max(crop.height, crop.width):
        raise ValueError(f"{file}: crop_size: expected at most {shortest_edge}, got {crop}")
    return {
        "mean": [float(value) for value in processor.image_mean],
        "std": [float(value) for value in processor.image_std],
        "interpolation": Image.Resampling(processor.resample).name.lower(),
        "image_size": list(check_image_size([wanted.height, wanted.width])),
        "shortest_edge": shortest_edge,
    }


def _built(name: str, content: dict[str, Any], file: Path) -> Any:
    """Return a settings class of the library, made of a file's content."""
    import transformers

    try:
        with quiet_library():
            return getattr(transformers, name)(**content)
    except Exception as error:  # the library checks with several kinds of errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{file}: expected the settings of a {name}, got {reason}") from error


def _file(source: str, *names: str) -> Path:
    """Return the first of some files that a model has; cached ones first, without a network."""
    folder = Path(source)
    if folder.is_dir():
        for name in names:
            if (folder / name).is_file():
                return folder / name
        raise FileNotFoundError(f"{source}: expected {' or '.join(names)} in it, got none")
    from huggingface_hub import hf_hub_download

    fetch: Callable[..., str] = hf_hub_download
    reason = ""
    for local in (True, False):
        for name in names:
            try:
                return Path(fetch(source, name, local_files_only=local))
            except (OSError, ValueError) as error:
                reason = type(error).__name__
    raise FileNotFoundError(
        f"model {source!r}: expected a run, an export, a local folder, or a CLIP or SigLIP 2 in "
        f"the hub's cache or on the hub, got none ({' and '.join(names)}: {reason}); without a "
        "network give a folder that holds it"
    )
