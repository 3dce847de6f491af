"""An export's ONNX files embed as PyTorch does, for any batch and length, and index alike."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import tireid
from tireid.inference import onnx_model
from tireid.inference.export import export
from tireid.search.index import Index
from tireid.search.indexing import IndexOptions, build_index

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
CAPTIONS = ["a man with a red coat and a bag", "woman", "zqx 7 !", "a"]
SMALL = (
    *("model=baseline", "image_encoder=vit_tiny", "image_encoder.module.depth=1"),
    *("text_encoder=bilstm_tiny",),
)


@pytest.fixture(scope="module")
def onnx_export(untrained_run, compose_config, tmp_path_factory):
    """Return a function from overrides to an export of an untrained run, and the run."""
    run = untrained_run(*SMALL)

    def exported(*overrides):
        output = tmp_path_factory.mktemp("out") / "new"
        export(compose_config(f"run={run}", f"output={output}", *overrides, name="export"))
        return output

    return exported, run


@pytest.fixture(scope="module")
def floats(onnx_export):
    return onnx_export[0]("format=onnx")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(5):
        pixels = generator.integers(0, 256, (60, 25, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.mark.long
@pytest.mark.slow
def test_the_files_embed_as_torch_does_and_are_one_model_with_it(floats, onnx_export, pictures):
    torch_one, onnx_one = (tireid.load(floats, "cpu", runtime) for runtime in ("torch", "onnx"))
    for name, items in (("encode_image", pictures), ("encode_text", CAPTIONS)):
        expected, found = (getattr(retriever, name)(items) for retriever in (torch_one, onnx_one))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        one_by_one = torch.cat([getattr(onnx_one, name)([item]) for item in items])
        torch.testing.assert_close(one_by_one, expected, atol=1e-4, rtol=0)
    assert onnx_one.fingerprint == tireid.load(onnx_export[1], "cpu").fingerprint


@pytest.mark.long
@pytest.mark.slow
def test_an_index_of_one_runtime_is_searched_with_the_other(floats, pictures, tmp_path):
    options = IndexOptions(model=str(floats), device="cpu", workers=0, runtime="onnx")
    build_index([pictures[0].parent], tmp_path / "gallery", options)
    scores = []
    for runtime in ("onnx", "torch"):
        with Index.open(tmp_path / "gallery", device="cpu", runtime=runtime) as index:
            scores.append([result.score for result in index.search(CAPTIONS[0], k=5)])
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


@pytest.mark.long
@pytest.mark.slow
def test_8_bit_weights_are_near_and_their_recall_is_stated(onnx_export, pictures, capsys):
    exported, _ = onnx_export
    folder = exported("format=onnx", "int8=true")
    said = capsys.readouterr().out
    assert "R@1 on the validation split" in said
    assert "R@1 on the validation split" in (folder / "README.md").read_text()
    small, exact = (tireid.load(folder, "cpu", runtime) for runtime in ("onnx", "torch"))
    cosine = (small.encode_text(CAPTIONS) * exact.encode_text(CAPTIONS)).sum(dim=1)
    assert 0.9 < cosine.min() < 1 - 1e-7
    assert small.fingerprint != exact.fingerprint


@pytest.mark.long
@pytest.mark.slow
def test_an_export_without_the_files_or_with_damaged_ones_is_refused(onnx_export, floats, tmp_path):
    exported, run = onnx_export
    with pytest.raises(FileNotFoundError, match="format=onnx` writes one"):
        tireid.load(run, "cpu", "onnx")
    damaged = shutil.copytree(floats, tmp_path / "damaged")
    (damaged / "text.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"text\.onnx: expected an ONNX file, got"):
        tireid.load(damaged, "cpu", "onnx")
    (damaged / "onnx.json").write_text(json.dumps({"fingerprint": 3}))
    with pytest.raises(ValueError, match=r"onnx\.json: "):
        tireid.load(damaged, "cpu", "onnx")
    with pytest.raises(ValueError, match="runtime: expected torch or onnx, got 'onyx'"):
        tireid.load(run, "cpu", "onyx")
    with pytest.raises(ValueError, match="format: expected safetensors or onnx"):
        exported("format=onyx")


def test_a_missing_package_is_one_message(monkeypatch):
    monkeypatch.setattr(onnx_model, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"expected onnx and onnxruntime, got none: pip install"):
        onnx_model.check_installed("onnx", "onnxruntime")
