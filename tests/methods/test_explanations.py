"""What methods say of their weights, against what they compute with them."""

from functools import partial

import pytest
import torch
from einops import rearrange
from torch import nn

from tireid.losses.contrastive import InfoNceLoss
from tireid.losses.distillation import FeatureDistillationLoss, RelationDistillationLoss
from tireid.methods.base import RetrievalModule
from tireid.methods.baseline import Baseline
from tireid.methods.lcr2s import Lcr2s
from tireid.methods.lgur import Lgur
from tireid.methods.lgur.cross_decoder import CrossAttention
from tireid.methods.lgur.head import LgurHead
from tireid.structures import Tokens

HEAD = {
    "dictionary_size": 9,
    "dictionary_heads": 2,
    "dictionary_head_dim": 4,
    "num_prototypes": 3,
    "prototype_heads": 2,
    "prototype_head_dim": 16,
    "prototype_hidden_dim": 14,
    "feature_dim": 7,
}
VALID = torch.arange(6)[None] < torch.tensor([6, 1, 4])[:, None]


def collected(attention, weights, keys):
    """The attention's output, from its weights (batch, heads, query, key) alone."""
    values = rearrange(attention.to_value(attention.norm(keys)), "b n (h d) -> b h n d", h=2)
    return attention.to_out(rearrange(weights @ values, "b h n d -> b n (h d)"))


def passed(layer, queries, weights, keys):
    queries = queries + collected(layer.attention, weights, keys)
    return queries + layer.feed_forward(queries)


def features(head, tokens, maps, prototypes):
    """The head's features, from the maps instead of its own queries and keys."""
    if head.dictionary is not None:
        layer = head.dictionary_decoder.layers[0]
        tokens = passed(layer, tokens, maps.atoms, head.dictionary)
    if maps.foreground is not None:
        tokens = maps.foreground[..., None] * tokens
    parts = prototypes
    for number, layer in enumerate(head.prototype_decoder.layers):
        parts = passed(layer, parts, maps.parts[:, number], tokens)
    return torch.einsum("bkd,kfd->bkf", parts, head.part_projection)


def made_head(**settings):
    torch.manual_seed(3)
    head = LgurHead(10, **(HEAD | settings)).double()
    for name, weight in head.named_parameters():
        if "norm" in name:
            nn.init.normal_(weight)
    return head


@pytest.fixture
def tokens():
    torch.manual_seed(4)
    return (
        torch.randn(3, 5, 10, dtype=torch.float64),
        torch.randn(3, 6, 10, dtype=torch.float64),
    )


@pytest.mark.parametrize("order", ["plain", "absorbed"])
@pytest.mark.parametrize(
    ("masked", "shared"),
    [(False, "keys"), *((m, s) for m in (False, True) for s in ("queries", "neither"))],
)
def test_weights_times_values_are_the_output(tokens, order, masked, shared):
    torch.manual_seed(0)
    attention = CrossAttention(10, 2, 4, order=order).double()
    queries, keys = tokens
    queries = queries[:1] if shared == "queries" else queries
    keys = keys[:1] if shared == "keys" else keys
    valid = VALID[: len(keys)] if masked else None
    weights = attention.weights(queries, keys, valid)
    torch.testing.assert_close(collected(attention, weights, keys), attention(queries, keys, valid))
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    if masked:
        assert not weights.masked_select(~valid[:, None, None]).any()


@pytest.mark.parametrize("order", ["plain", "absorbed"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_dictionary": False},
        {"use_foreground": False},
        {"shared_prototypes": False},
        {"use_guidance": False, "use_dictionary": False},
    ],
    ids=str,
)
def test_the_maps_give_the_features_that_are_ranked(tokens, order, settings):
    head = made_head(prototype_order=order, **settings)
    images, texts = tokens
    maps = head.explain_image(images)
    found = features(head, images, maps, head.prototypes)
    torch.testing.assert_close(found, head.encode_image(images))
    assert (maps.foreground is None) == (head.foreground is None)
    assert (maps.atoms is None) == (head.dictionary is None)

    maps = head.explain_text(texts, VALID)
    own = head.prototypes if settings.get("shared_prototypes", True) else head.text_prototypes
    found = features(head, texts, maps, own)
    torch.testing.assert_close(found, head.encode_text(texts, VALID))
    assert maps.foreground is None


def test_rows_sum_to_1_over_real_tokens_and_padding_gets_nothing(tokens):
    maps = made_head().explain_text(tokens[1], VALID)
    torch.testing.assert_close(maps.parts.sum(-1), torch.ones_like(maps.parts[..., 0]))
    padding = ~VALID[:, None, None, None].expand_as(maps.parts)
    assert torch.equal(maps.parts[padding], torch.zeros(int(padding.sum()), dtype=torch.float64))
    torch.testing.assert_close(maps.atoms.sum(-1), VALID[:, None].expand(-1, 2, -1).double())
    alone = made_head().explain_text(tokens[1][2:, :4], VALID[2:, :4])
    torch.testing.assert_close(maps.parts[2:, ..., :4], alone.parts)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_pooled_part_has_no_attention(tokens, pooling):
    maps = made_head(pooling=pooling).explain_image(tokens[0])
    assert maps.parts is None
    assert maps.atoms is not None


def test_a_student_shows_what_its_dual_encoder_does(base_arguments, pair_batch):
    dual = partial(Lgur, head=HEAD, alignment=InfoNceLoss(logit_scale=10.0))
    student = Lcr2s(
        dual=dual,
        feature_distillation=FeatureDistillationLoss(),
        relation_distillation=RelationDistillationLoss(),
        **base_arguments,
    ).eval()
    images = student.explain_images(pair_batch.images)
    tokens = student.dual.image_encoder(pair_batch.images).local
    expected = student.dual.head.explain_image(student.dual.image_projection(tokens))
    assert torch.equal(images.parts, expected.parts)
    assert torch.equal(images.foreground, expected.foreground)
    texts = student.explain_texts(pair_batch.token_ids, pair_batch.valid)
    assert torch.equal(texts.valid, pair_batch.valid)
    others = torch.zeros(6, student.feature_dim)
    assert student.image_contributions(pair_batch.images, others) is None


class Maximum(nn.Module):
    """Wraps an encoder: the pooled feature is the maximum of the valid tokens."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.out_dim = encoder, encoder.out_dim

    def forward(self, *inputs):
        _, local, valid = self.encoder(*inputs)
        lowest = local.masked_fill(~valid[..., None], float("-inf"))
        return Tokens(lowest.amax(1), local, valid)


class Apart(Maximum):
    """As a class token: what is pooled does not come from the local tokens."""

    def forward(self, *inputs):
        pooled, local, valid = self.encoder(*inputs)
        return Tokens(pooled, local.clone(), valid)


class Last(Maximum):
    """As CLIP's text: one token is all that is pooled."""

    def forward(self, *inputs):
        _, local, valid = self.encoder(*inputs)
        return Tokens(local[:, -1], local, valid)


class Curved(Maximum):
    """What is pooled is no sum over tokens."""

    def forward(self, *inputs):
        pooled, local, valid = super().forward(*inputs)
        return Tokens(pooled.square(), local, valid)


def made_baseline(base_arguments, wrap, **settings):
    encoders = ("image_encoder", "text_encoder")
    wrapped = {name: wrap(base_arguments[name]) for name in encoders}
    alignment = InfoNceLoss(logit_scale=10.0)
    return Baseline(
        embedding_dim=11, alignment=alignment, **(base_arguments | wrapped | settings)
    ).eval()


@pytest.mark.parametrize("projection", ["pooled", "per_position"])
@pytest.mark.parametrize("wrap", [Maximum, lambda encoder: encoder], ids=["maximum", "mean"])
def test_contributions_add_up_to_the_score(base_arguments, pair_batch, projection, wrap):
    model = made_baseline(base_arguments, wrap, projection=projection)
    batch = pair_batch
    with torch.no_grad():
        images, texts = (
            model.encode_image(batch.images),
            model.encode_text(batch.token_ids, batch.valid),
        )
        found = model.image_contributions(batch.images, texts)
        raw = model.image_features(batch.images)
    constant = (model.image_projection.bias * texts).sum(1) / raw.norm(dim=1)
    torch.testing.assert_close(found.sum(1) + constant, (images * texts).sum(1))
    with torch.no_grad():
        found = model.text_contributions(batch.token_ids, batch.valid, images)
        raw = model.text_features(batch.token_ids, batch.valid)
    constant = (model.text_projection.bias * images).sum(1) / raw.norm(dim=1)
    torch.testing.assert_close(found.sum(1) + constant, (images * texts).sum(1))
    assert not found[~batch.valid].any()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_only_token_that_wins_the_maximum_has_the_whole_score(base_arguments, pair_batch):
    model = made_baseline(base_arguments, Maximum)
    with torch.no_grad():
        model.image_encoder.encoder.patch.bias.fill_(0)
        model.image_projection.bias.fill_(0)
        model.image_encoder.encoder.patch.weight.abs_()
    images = -torch.ones(2, 3, 16, 8)
    images[0, :, 4:8, 4:8] = 1.0  # token 3 of the 4 x 2 grid
    images[1] = pair_batch.images[0]
    texts = nn.functional.normalize(torch.ones(2, 11), dim=1)
    terms = model.image_contributions(images, texts)
    score = (model.encode_image(images) * texts).sum(1)[0]
    torch.testing.assert_close(terms[0], torch.zeros(8).index_fill(0, torch.tensor(3), 1.0) * score)


@pytest.mark.parametrize("wrap", [Apart, Last, Curved])
def test_nothing_is_claimed_where_the_score_is_no_sum_over_tokens(base_arguments, pair_batch, wrap):
    model = made_baseline(base_arguments, wrap)
    others = model.encode_image(pair_batch.images).detach()
    assert model.image_contributions(pair_batch.images, others) is None
    assert model.text_contributions(pair_batch.token_ids, pair_batch.valid, others) is None


def test_a_method_has_nothing_to_show_unless_it_says_so(pair_batch):
    method = RetrievalModule()
    assert method.explain_images(pair_batch.images) is None
    assert method.explain_texts(pair_batch.token_ids, pair_batch.valid) is None
