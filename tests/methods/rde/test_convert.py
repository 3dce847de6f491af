"""A converted official checkpoint of RDE goes through all commands."""

import pytest
import torch

SIZES = {
    "image": 12,
    "text": 6,
    "space": 8,
    "blocks": 2,
    "grid": (3, 1),
    "patch": 16,
    "tokens": 10,
    "positions": 20,
}
SETTINGS = [
    "dataset.image_size=[48,16]",
    "image_encoder.module={dim:12,heads:3,depth:2,out_dim:8}",
    "text_encoder.module={dim:6,heads:2,depth:2,out_dim:8,max_positions:20}",
    "text_encoder.tokenizer.max_length=20",
    "model.token_dim=10",
    "model.text_length=20",
]


@pytest.mark.slow
def test_a_checkpoint_goes_through_all_commands(
    official_weights, clip_words, take_through_all_commands, tmp_path
):
    weights = official_weights(SIZES | {"words": clip_words}, torch.float16)
    torch.save({"model": weights, "optimizer": {}, "epoch": 3}, tmp_path / "best.pth")
    words = f"text_encoder.module.vocab_size={clip_words}"
    take_through_all_commands("rde", *SETTINGS, words, "model=rde")
