import math

import pytest
import torch
from transformers import SiglipConfig, SiglipModel

from tireid.losses.sigmoid import SigmoidLoss, sigmoid_loss

PIDS = torch.tensor([4, 9, 4, 2, 9, 4])


def features(dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(6, 5, generator=generator, dtype=dtype) for _ in range(2)]


@pytest.mark.parametrize("pids", [None, PIDS])
def test_equals_its_equation(pids):
    image, text = features()
    total = 0.0
    for i in range(6):
        for j in range(6):
            row, column = image[i].tolist(), text[j].tolist()
            cosine = sum(a * b for a, b in zip(row, column, strict=True))
            cosine /= math.hypot(*row) * math.hypot(*column)
            match = i == j if pids is None else pids[i] == pids[j]
            total += math.log1p(math.exp(-(1 if match else -1) * (3 * cosine - 2)))
    loss = sigmoid_loss(image, text, pids, logit_scale=3.0, logit_bias=-2.0)
    assert loss.item() == pytest.approx(total / 6, rel=1e-12)


def test_equals_the_loss_of_the_library():
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    text = sizes | {"intermediate_size": 8, "vocab_size": 9, "max_position_embeddings": 4}
    text |= {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    vision = sizes | {"intermediate_size": 8, "image_size": 8, "patch_size": 4}
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).eval()
    ids, images = torch.randint(2, 9, (5, 4)), torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        out = model(input_ids=ids, pixel_values=images, return_loss=True)
        scale, bias = model.logit_scale.exp().squeeze(), model.logit_bias.squeeze()
    loss = sigmoid_loss(out.image_embeds, out.text_embeds, logit_scale=scale, logit_bias=bias)
    torch.testing.assert_close(loss, out.loss)


def test_the_module_shares_identities_if_asked():
    image, text = features()
    assert SigmoidLoss()(image, text, PIDS) == sigmoid_loss(image, text)
    shared = SigmoidLoss(share_identity=True, logit_bias=-3.0)
    assert shared(image, text, PIDS) == sigmoid_loss(image, text, PIDS, logit_bias=-3.0)


def test_gradients_are_those_of_finite_differences():
    inputs = [feature.requires_grad_() for feature in features()]
    assert torch.autograd.gradcheck(lambda v, t: sigmoid_loss(v, t, PIDS), inputs)
