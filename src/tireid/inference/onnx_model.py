"""A method as two ONNX files, one a modality: written, checked against PyTorch, and run."""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tireid.files import replacing, write_json
from tireid.methods.base import RetrievalModule
from tireid.runs.foreign import read_json, regular_file
from tireid.structures import Features, Images, TokenIds, Valid, Words

IMAGE_FILE, TEXT_FILE, FACTS_FILE = "image.onnx", "text.onnx", "onnx.json"
TOLERANCE = 1e-4  # of a unit-norm embedding's entries, against PyTorch
_FACTS = {"fingerprint": str, "int8": bool}
_OUTPUT = "features"  # a name that no weight has
_QUANTISED = ["MatMul", "Gemm"]  # ONNX Runtime's CPU has no fast 8-bit convolution


class OnnxModel(RetrievalModule):
    """The encoders of an export, run by ONNX Runtime on the CPU; not to be trained.

    Args:
        folder: Export that holds the ONNX files.

    Attributes:
        fingerprint: `Retriever.fingerprint` of the exported model; another one for 8-bit weights.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If one cannot be read, or ONNX Runtime is not installed.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        check_installed("onnxruntime")
        if not (folder / FACTS_FILE).is_file():
            raise FileNotFoundError(
                f"{folder}: expected an export with {IMAGE_FILE} in it; "
                "`tireid export run=... output=... format=onnx` writes one"
            )
        facts = read_json(folder / FACTS_FILE, "the facts of ONNX files", inside=folder)
        if set(facts) != set(_FACTS) or any(type(facts[k]) is not v for k, v in _FACTS.items()):
            raise ValueError(f"{folder / FACTS_FILE}: expected {', '.join(_FACTS)}, got {facts}")
        self.fingerprint = f"{facts['fingerprint']}{'-int8' if facts['int8'] else ''}"
        self._image = _session(folder / IMAGE_FILE, folder)
        self._text = _session(folder / TEXT_FILE, folder)

    def image_features(self, images: Images) -> Features:
        """Return the exported image embeddings."""
        return _run(self._image, images=images)

    def text_features(self, token_ids: TokenIds, valid: Valid, words: Words = None) -> Features:
        """Return the exported text embeddings."""
        return _run(self._text, token_ids=token_ids, valid=valid)


def check_installed(*packages: str) -> None:
    """Check that optional packages are there.

    Raises:
        ValueError: If one is not; says how to install it.
    """
    if missing := [name for name in packages if find_spec(name) is None]:
        raise ValueError(f"expected {' and '.join(missing)}, got none: pip install -e '.[onnx]'")


def write_onnx(
    model: RetrievalModule,
    folder: Path,
    image_size: tuple[int, int],
    fingerprint: str,
    *,
    int8: bool = False,
) -> None:
    """Write both encoders of a method with batches and captions of any size, and check them.

    Args:
        model: In float32, on the CPU, in evaluation mode.
        folder: Of its export.
        image_size: Height and width in pixels.
        fingerprint: `Retriever.fingerprint` of the model.
        int8: Whether matrices of weights are kept in 8 bits, quantised dynamically.

    Raises:
        ValueError: If a package is missing, or the files, before they are quantised, do not embed
            as PyTorch does.
    """
    check_installed("onnx", "onnxscript", "onnxruntime")
    dynamic = torch.export.Dim.DYNAMIC
    length = {0: dynamic, 1: dynamic}
    sides = (
        (IMAGE_FILE, _ImageSide(model), _images, (image_size,), {"images": {0: dynamic}}),
        (TEXT_FILE, _TextSide(model), _captions, (), {"token_ids": length, "valid": length}),
    )
    for name, side, examples, sizes, shapes in sides:
        content = _exported(side, examples(2, *sizes), shapes)
        _check(content, side, examples(3, *sizes), list(shapes), folder / name)
        with replacing(folder / name) as file:
            file.write(_quantised(content) if int8 else content)
    write_json(folder / FACTS_FILE, {"fingerprint": fingerprint, "int8": int8})


class _ImageSide(nn.Module):
    def __init__(self, model: RetrievalModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode_image(images)


class _TextSide(nn.Module):
    def __init__(self, model: RetrievalModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, token_ids: Tensor, valid: Tensor) -> Tensor:
        return self.model.encode_text(token_ids, valid)


def _images(count: int, image_size: tuple[int, int]) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(count)
    return (torch.randn(count, 3, *image_size, generator=generator),)


def _captions(count: int) -> tuple[Tensor, ...]:
    """Return captions of different lengths; the longest has a number that no other size has."""
    lengths = torch.arange(count, 0, -1) + 4
    valid = torch.arange(int(lengths.max())) < lengths[:, None]
    ids = torch.randint(1, 20, valid.shape, generator=torch.Generator().manual_seed(count))
    return ids * valid, valid


def _exported(side: nn.Module, example: tuple[Tensor, ...], shapes: dict[str, Any]) -> bytes:
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            side.eval(),
            example,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=list(shapes),
            output_names=[_OUTPUT],
            verbose=False,
        )
    return program.model_proto.SerializeToString()  # pyright: ignore[reportOptionalMemberAccess] -- of dynamo


def _check(
    content: bytes, side: nn.Module, example: tuple[Tensor, ...], names: list[str], file: Path
) -> None:
    with torch.no_grad():
        expected = side(*example)
    found = _run(_opened(content), **dict(zip(names, example, strict=True)))
    difference = (found - expected).abs().max().item()
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{file}: expected the embeddings of PyTorch to {TOLERANCE}, got a difference of "
            f"{difference:.2g}; this model cannot be exported to ONNX"
        )


def _quantised(content: bytes) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _quiet():
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(content)
        quantize_dynamic(
            before, after, op_types_to_quantize=_QUANTISED, weight_type=QuantType.QInt8
        )
        return after.read_bytes()


def _session(file: Path, folder: Path) -> Any:
    try:
        return _opened(regular_file(file, inside=folder).read_bytes())
    except FileNotFoundError:
        raise
    except Exception as error:  # the runtime's own kinds, none of which is public
        reason = str(error).splitlines()[0]
        raise ValueError(f"{file}: expected an ONNX file, got {reason}") from error


def _opened(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _run(session: Any, **inputs: Tensor) -> Tensor:
    arrays = {name: value.numpy() for name, value in inputs.items()}
    return torch.from_numpy(session.run([_OUTPUT], arrays)[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the remarks of exporter and quantiser, none of which a user can act on."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
