"""Use a trained model: images and sentences in, embeddings out."""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from lightning.pytorch.plugins.precision import (
    DoublePrecision,
    HalfPrecision,
    MixedPrecision,
    Precision,
)
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from tireid.data.datasets import pad_captions
from tireid.data.images import check_decoder, check_image_size, read_image, resampling
from tireid.data.records import is_text
from tireid.data.tokenizers import CaptionTokenizer
from tireid.data.transforms import Normalise
from tireid.inference.build import allow_tf32
from tireid.inference.hub import build_hub_model, hub_config, is_hub_model
from tireid.inference.image_sources import KINDS, ImageSource, as_readable
from tireid.inference.onnx_model import OnnxModel
from tireid.inference.restore import restore_model, restore_tokenizer
from tireid.inference.saved_config import inference_config
from tireid.inference.trust import trusting
from tireid.methods.base import RetrievalModule, embedding_weights
from tireid.retrieval.similarity import NoDirectionError, diverged
from tireid.runs.hub import is_hub_address
from tireid.runs.weights import find_saved

RUNTIMES = ("torch", "onnx")

# As `lightning.Trainer` reads its `precision`, older names included.
_PRECISIONS: dict[str, Callable[[str], Precision]] = {
    "32-true": lambda device: Precision(),
    "64-true": lambda device: DoublePrecision(),
    "16-true": lambda device: HalfPrecision("16-true"),
    "bf16-true": lambda device: HalfPrecision("bf16-true"),
    "16-mixed": lambda device: MixedPrecision("16-mixed", device),
    "bf16-mixed": lambda device: MixedPrecision("bf16-mixed", device),
}
_HALF = 0.5  # further than rounding takes a norm from 1
_ALIASES = {"32": "32-true", "64": "64-true", "16": "16-mixed", "bf16": "bf16-mixed"}


class Retriever:
    """Embeds images and sentences; the dot product of two embeddings is their score.

    The input recipe and the arithmetic are those of `tireid evaluate`: images are turned upright,
    converted to RGB and resized, without keeping their aspect ratio unless the model is CLIP as it
    is; captions are cut to the tokenizer's length.

    Args:
        model: A trained method.
        tokenizer: The tokenizer it was trained with.
        image_size: Height and width in pixels.
        mean: Mean of the image encoder's input, one number a channel, in [0, 1].
        std: Standard deviation of the image encoder's input, one number a channel, in [0, 1].
        interpolation: Filter of the resizing: `bicubic`, `bilinear`, ...
        shortest_edge: As in `tireid.data.images.read_image`.
        decoder: As in `tireid.data.images.read_image`.
        precision: Arithmetic, as `lightning.Trainer` names it: `32-true`, `bf16-mixed`, ...
        tf32: Whether products and convolutions of a GPU may use TensorFloat-32.
        weights: File of the weights, for messages.
        device: Device to compute on.

    Attributes:
        image_size: Height and width in pixels.
        interpolation: Filter of the resizing.
        shortest_edge: As in `tireid.data.images.read_image`.
        decoder: As in `tireid.data.images.read_image`.
        device: Device to compute on.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(
        self,
        model: RetrievalModule,
        tokenizer: CaptionTokenizer,
        *,
        image_size: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        interpolation: str,
        shortest_edge: int | None = None,
        decoder: str = "pillow",
        precision: str | int = "32-true",
        tf32: bool = True,
        weights: Path | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        name = _ALIASES.get(str(precision), str(precision))
        if name not in _PRECISIONS:
            raise ValueError(f"precision: expected one of {list(_PRECISIONS)}, got {precision!r}")
        self.image_size = check_image_size(image_size)
        self.device = _usable(device)
        self._precision = _PRECISIONS[name](self.device.type)
        self._tf32, self._weights = tf32, weights or f"the weights of {type(model).__name__}"
        module: Any = self._precision.convert_module(model)
        self._model: RetrievalModule = module.eval().requires_grad_(False).to(self.device)
        self._tokenizer = tokenizer
        self.interpolation = interpolation
        self.shortest_edge, self.decoder = shortest_edge, check_decoder(decoder)
        self._filter = resampling(interpolation)
        self._normalise = Normalise(mean, std)
        recipe = (self.image_size, tuple(mean), tuple(std), interpolation, name)
        # Only what departs from the rule, so that fingerprints of before stay.
        departures = (shortest_edge, None if decoder == "pillow" else decoder)
        self._recipe = (*recipe, *(value for value in departures if value is not None))

    def __repr__(self) -> str:
        height, width = self.image_size
        return f"Retriever({type(self._model).__name__}, {height}x{width} pixels, {self.device})"

    @cached_property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.encode_text(["a"]).shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that embeddings depend on; a run and its export have the same one."""
        if isinstance(self._model, OnnxModel):
            return self._model.fingerprint
        tokenizer = self._tokenizer
        cut = (tokenizer.max_length, tokenizer.keep_sep, tokenizer.pad_id)
        digest = hashlib.sha256(repr((*self._recipe, tokenizer.fingerprint(), *cut)).encode())
        digest.update(type(self._model).__name__.encode())
        weights = embedding_weights(self._model, self._model.state_dict())
        for name, value in sorted(weights.items()):
            digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
            digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def encode_image(
        self,
        images: Iterable[ImageSource],
        batch_size: int = 64,
        *,
        num_workers: int = 0,
        progress: bool = False,
        on_error: str = "raise",
    ) -> Float[Tensor, "batch dim"]:
        """Embed images.

        Args:
            images: Images of any size and mode, see `tireid.inference.image_sources.as_readable`;
                may be empty. Also a tensor or an array of several.
            batch_size: Images at once; bounds the memory and changes embeddings by rounding only.
            num_workers: Threads that read and resize images; 0: none beside the caller's.
            progress: Whether to show a progress bar on standard error.
            on_error: `raise`, or `skip`: what cannot be read is named in a warning, and its row is
                NaN.

        Returns:
            One unit-norm row an image, in float32 on the CPU.

        Raises:
            ValueError: If this is no list of images, or one cannot be read; names it. Also if the
                weights give embeddings that are not finite, or zero.
        """
        expected = "images (PIL), paths, bytes, arrays and tensors"
        sources = _as_list(images, KINDS, "images", expected)
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error: expected raise or skip, got {on_error!r}")
        if num_workers < 0:
            raise ValueError(f"num_workers: expected at least 0, got {num_workers}")
        faults = dict[int, str]()

        def read(number: int) -> Tensor:
            try:
                return self.read_pixels(sources[number])
            except ValueError as error:
                is_named = isinstance(sources[number], (str, Path))
                fault = str(error) if is_named else f"images[{number}]: {error}"
                if on_error == "raise":
                    raise ValueError(fault) from error
                faults[number] = fault
                return torch.zeros(3, *self.image_size, dtype=torch.uint8)

        with ThreadPoolExecutor(num_workers or 1) as pool:
            mapped = pool.map if num_workers else map
            embeddings = self._encode(
                range(len(sources)),
                batch_size,
                lambda numbers: self._embed_pixels(torch.stack(list(mapped(read, numbers)))),
                progress=progress,
            )
        if faults:
            embeddings[sorted(faults)] = math.nan
            named = "; ".join(faults[number] for number in sorted(faults))
            warnings.warn(f"{len(faults)} of {len(sources)} skipped: {named}", stacklevel=2)
        return embeddings

    def encode_pixels(
        self, pixels: UInt8[Tensor, "batch 3 height width"], batch_size: int = 64
    ) -> Float[Tensor, "batch dim"]:
        """Embed images that `read_pixels` has read.

        Args:
            pixels: RGB of `image_size`, resized by `interpolation`, cropped by `shortest_edge`.
            batch_size: As in `encode_image`.

        Returns:
            As `encode_image`.

        Raises:
            ValueError: If the weights give embeddings that are not finite, or zero.
        """
        return self._encode(pixels, batch_size, self._embed_pixels)

    def encode_text(
        self, captions: Sequence[str], batch_size: int = 64
    ) -> Float[Tensor, "batch dim"]:
        """Embed sentences.

        Args:
            captions: Descriptions of a person; may be empty.
            batch_size: Sentences at once; bounds the memory and changes embeddings by rounding
                only.

        Returns:
            One unit-norm row a sentence, in float32 on the CPU.

        Raises:
            ValueError: If this is no list of strings, or one is no text; or as `encode_pixels`.
        """
        sentences = _as_list(captions, str, "captions", "strings")
        for number, sentence in enumerate(sentences):
            if not is_text(sentence):
                raise ValueError(f"captions[{number}]: expected text, got a lone surrogate in it")
        return self._encode(sentences, batch_size, self._embed_texts)

    def _encode(
        self,
        items: Any,
        batch_size: int,
        embed: Callable[[Any], Tensor],
        *,
        progress: bool = False,
    ) -> Float[Tensor, "batch dim"]:
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        if not len(items):
            return torch.zeros(0, self.dim)
        starts = track(
            range(0, len(items), batch_size),
            "Embedding",
            console=Console(stderr=True),
            transient=True,
            disable=not progress,
        )
        with torch.no_grad(), _matmul(self._tf32), self._precision.forward_context():
            batches = [embed(items[start : start + batch_size]).cpu() for start in starts]
        embeddings = torch.cat(batches)
        if embeddings.dtype != torch.float32:
            # In another precision than float32 they have unit norm only to that precision.
            embeddings = F.normalize(embeddings.double(), dim=-1).float()
        broken = int(((embeddings.norm(dim=-1) - 1).abs() < _HALF).logical_not().sum())
        if broken:  # a norm that overflows leaves zeros
            what = f"NaN, Inf or zero in {broken} of {len(embeddings)}"
            raise NoDirectionError(diverged(self._weights, what))
        return embeddings

    def _embed_pixels(self, pixels: UInt8[Tensor, "batch 3 height width"]) -> Tensor:
        images = self._normalise(pixels).to(self.device)
        return self._model.encode_image(self._precision.convert_input(images))

    def _embed_texts(self, captions: list[str]) -> Tensor:
        token_ids, valid = pad_captions(self._tokenizer(captions), self._tokenizer.pad_id)
        return self._model.encode_text(token_ids.to(self.device), valid.to(self.device))

    def read_pixels(self, source: ImageSource) -> UInt8[Tensor, "3 height width"]:
        """Read one image as the model takes it; for `encode_pixels`.

        Raises:
            ValueError: If it cannot be read; names it.
        """
        image = as_readable(source)
        try:
            return read_image(
                image, self.image_size, self._filter, self.shortest_edge, self.decoder
            )
        except OSError as error:  # an image that was opened, but not yet read
            raise ValueError(f"{source!r}: expected a readable image; {error}") from error


def load(
    path: str | Path,
    device: str | torch.device | None = None,
    runtime: str = "torch",
    trust: Sequence[str] = (),
) -> Retriever:
    """Load a model for use, without its data set; runs no code of the folder.

    Args:
        path: A run folder (its tested checkpoint), a checkpoint inside one, or a folder that
            `tireid export` wrote, also on the hub (`hf://OWNER/NAME`); or a CLIP or SigLIP 2 as it
            is, see `tireid.inference.hub`.
        device: Device to compute on; None: a GPU (CUDA) if there is one, else the CPU.
        runtime: `torch`; or `onnx`, for an export with ONNX files, on the CPU.
        trust: Packages whose classes the config may name, beside those that are always trusted, see
            `tireid.inference.trust`; their code runs.

    Raises:
        FileNotFoundError: If a file is missing; names it.
        ValueError: If a file is damaged or does not fit the others, or the config names a class
            that is neither of this package nor of a trusted one; names file and value.

    Example:
        `tireid.load("exported").encode_text(["a woman in a red coat"])`
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime: expected {' or '.join(RUNTIMES)}, got {runtime!r}")
    if runtime == "onnx" and (is_hub_address(path) or is_hub_model(path)):
        raise ValueError(f"runtime: expected torch for a model of the hub, {path}, got onnx")
    if is_hub_model(path):
        cfg, weights = hub_config(path), Path(path)
        model, tokenizer = build_hub_model(cfg)
    else:
        folder, weights = find_saved(path)
        with trusting(trust):
            cfg = inference_config(folder)
        tokenizer = restore_tokenizer(cfg, folder)
        if runtime == "onnx":
            cfg.trainer.precision, device = "32-true", "cpu"
            model = OnnxModel(folder)
        else:
            model = restore_model(cfg, folder, weights)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return retriever_of(cfg, model, tokenizer, weights, device)


def retriever_of(
    cfg: DictConfig,
    model: RetrievalModule,
    tokenizer: CaptionTokenizer,
    weights: Path,
    device: str | torch.device,
) -> Retriever:
    """Return a model with the inputs and the arithmetic that its config names.

    Args:
        cfg: From `tireid.inference.saved_config`.
        model: Built from it; is changed.
        tokenizer: The model's.
        weights: File of the model's weights.
        device: Device to compute on.
    """
    return Retriever(
        model,
        tokenizer,
        image_size=list(cfg.dataset.image_size),
        mean=list(cfg.image_encoder.mean),
        std=list(cfg.image_encoder.std),
        interpolation=cfg.image_encoder.interpolation,
        shortest_edge=cfg.image_encoder.get("shortest_edge"),
        decoder=cfg.dataset.get("decode", "pillow"),
        precision=cfg.trainer.precision,
        tf32=cfg.get("tf32", True),
        weights=weights,
        device=device,
    )


def _usable(device: str | torch.device) -> torch.device:
    """Return a device that PyTorch can compute on here.

    Raises:
        ValueError: If it cannot, or there is none of this name.
    """
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"device: expected cpu, cuda or another that PyTorch can use here, got {device!r}: "
            f"{reason}"
        ) from error
    return torch.device(device)


def _as_list(items: Any, kind: Any, name: str, expected: str) -> list[Any]:
    """Return the items as a list.

    Raises:
        ValueError: If this is a single item, or an item is of another kind.
    """
    is_one = isinstance(items, (str, bytes, Path, Image.Image))
    if is_one or getattr(items, "ndim", 4) < 4:
        raise ValueError(f"{name}: expected a list, got one {type(items).__name__}; pass [it]")
    listed = list(items)
    for number, item in enumerate(listed):
        if not isinstance(item, kind):
            raise ValueError(f"{name}[{number}]: expected {expected}, got a {type(item).__name__}")
    return listed


@contextmanager
def _matmul(tf32: bool) -> Iterator[None]:
    try:
        previous = torch.get_float32_matmul_precision()
        convolutions = torch.backends.cudnn.allow_tf32
    except RuntimeError:  # The caller has set it by torch's newer switches, and knows best.
        yield
        return
    allow_tf32(tf32)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(previous)
        torch.backends.cudnn.allow_tf32 = convolutions
