"""Encoders that are adapted and computed in pieces: the same steps, and files as of any run."""

import pytest
import torch
from safetensors.torch import load_file

import tireid
from tireid.inference.build import build_encoders, build_model
from tireid.structures import PairBatch
from tireid.training.encoders import prepare_encoders
from tireid.training.evaluate import evaluate
from tireid.training.run import train

PLAIN = {"frozen_blocks": 0, "lora_rank": 0, "checkpoint_activations": False, "micro_batch": 0}
CLIP = ["image_encoder=clip_tiny", "text_encoder=clip_text_tiny"]
BERT = ["image_encoder=vit_tiny", "text_encoder=bert_tiny", "text_encoder.module.dropout=0.0"]
METHODS = {
    "baseline": ["model=baseline", *BERT],
    "lgur": ["model=lgur", *BERT],
    "rde": ["model=rde", *CLIP, "model.scores=attention"],
}


def batch_of(size, height, width):
    generator = torch.Generator().manual_seed(1)
    valid = torch.arange(7)[None] < torch.randint(4, 8, (size, 1), generator=generator)
    labels = torch.arange(size) // 2
    return PairBatch(
        images=torch.randn(size, 3, height, width, generator=generator).double(),
        token_ids=torch.randint(10, 60, (size, 7), generator=generator) * valid,
        valid=valid,
        label=labels,
        pid=labels,
        image_id=torch.arange(size),
        index=torch.arange(size),
    )


@pytest.mark.parametrize(("method", "rank"), [("baseline", 2), ("lgur", 0), ("rde", 2)])
def test_a_step_in_less_memory_is_the_plain_step(compose_config, tmp_path, method, rank):
    cfg = compose_config(*METHODS[method], f"paths.output_dir={tmp_path}")
    cfg.dataset.image_size = [32, 16]
    found = []
    for changes in ({}, {"checkpoint_activations": True, "micro_batch": 3}):
        torch.manual_seed(0)
        model = build_model(cfg, build_encoders(cfg), 4).double().train()
        prepare_encoders(model, **PLAIN | {"lora_rank": rank} | changes)
        terms = model.training_terms(batch_of(8, 32, 16), 0).terms
        sum(terms.values()).backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        found.append((terms, grads))
    (terms, grads), (its_terms, its_grads) = found
    assert grads.keys() == its_grads.keys()
    assert any("lora_up" in name for name in grads) == (rank > 0)
    for mine, other in ((terms, its_terms), (grads, its_grads)):
        for name, value in mine.items():
            torch.testing.assert_close(other[name], value, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
def test_a_run_with_all_of_it_is_evaluated_loaded_and_started_from(
    undrawn_config, compose_config, tmp_path
):
    settings = ["model=baseline", *CLIP, "max_epochs=1"]
    spare = ["lora_rank=2", "checkpoint_activations=true", "micro_batch=4"]
    metrics = train(undrawn_config(tmp_path / "run", *settings, *spare))
    (checkpoint,) = (tmp_path / "run/checkpoints").glob("epoch*.ckpt")
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert any(name.endswith("lora_up") and tensor.any() for name, tensor in saved.items())
    again = evaluate(compose_config(f"run={tmp_path / 'run'}", "accelerator=cpu", name="evaluate"))
    assert again == {name: v for name, v in metrics.items() if name.startswith("test/")}
    tireid.export(tmp_path / "run", tmp_path / "export")
    exported = load_file(tmp_path / "export/model.safetensors")
    assert not any("lora" in name for name in exported)
    shared = exported.keys() & saved.keys()
    assert any(not torch.equal(exported[name], saved[name]) for name in shared)
    train(undrawn_config(tmp_path / "next", *settings, f"init_weights={tmp_path / 'run'}"))
