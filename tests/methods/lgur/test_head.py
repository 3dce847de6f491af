"""The blocks against references written from the equations, one token and one head at a time."""

import math

import pytest
import torch

from tireid.methods.lgur.cross_decoder import CrossAttention, CrossDecoderLayer
from tireid.methods.lgur.head import LgurHead


def reference_attention(attention, queries, keys, valid):
    """Loops over samples, heads and queries."""
    out = torch.empty(keys.shape[0], queries.shape[1], queries.shape[2], dtype=queries.dtype)
    width, heads = attention.head_dim, attention.heads
    for b in range(keys.shape[0]):
        normed_q = attention.norm(queries[min(b, len(queries) - 1)])
        normed_k = attention.norm(keys[b])
        q, k, v = (
            linear(x)
            for linear, x in (
                (attention.to_query, normed_q),
                (attention.to_key, normed_k),
                (attention.to_value, normed_k),
            )
        )
        rows = []
        for n in range(queries.shape[1]):
            per_head = []
            for h in range(heads):
                part = slice(h * width, (h + 1) * width)
                scores = torch.stack([q[n, part] @ k[m, part] for m in range(len(k))])
                scores = scores / math.sqrt(width)
                if valid is not None:
                    scores = scores.masked_fill(~valid[b], -math.inf)
                weights = scores.softmax(0)
                per_head.append(sum(weights[m] * v[m, part] for m in range(len(k))))
            rows.append(attention.to_out(torch.cat(per_head)))
        out[b] = torch.stack(rows)
    return out


@pytest.mark.parametrize("order", ["plain", "absorbed"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("heads", "head_dim"), [(2, 3), (3, 20)])
def test_attention_equals_loops(order, masked, heads, head_dim):
    torch.manual_seed(0)
    attention = CrossAttention(10, heads, head_dim, order=order).double()
    torch.nn.init.normal_(attention.norm.weight)
    torch.nn.init.normal_(attention.norm.bias)
    queries = torch.randn(3, 4, 10, dtype=torch.float64)
    keys = torch.randn(3, 6, 10, dtype=torch.float64)
    valid = torch.arange(6)[None] < torch.tensor([6, 2, 4])[:, None] if masked else None
    expected = reference_attention(attention, queries, keys, valid)
    torch.testing.assert_close(attention(queries, keys, valid), expected)


@pytest.mark.parametrize("order", ["plain", "absorbed"])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_half_precision_equals_that_in_float32(order, masked):
    torch.manual_seed(0)
    attention = CrossAttention(16, 2, 8, order=order)
    queries, keys = torch.randn(3, 4, 16, requires_grad=True), torch.randn(3, 6, 16)
    valid = torch.arange(6)[None] < torch.tensor([6, 2, 4])[:, None] if masked else None
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = attention(queries, keys, valid)
        results.append((out.float(), *torch.autograd.grad(out.float().square().sum(), queries)))
    for exact, half in zip(*results, strict=True):
        assert (exact - half).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("order", ["plain", "absorbed"])
def test_shared_keys_and_shared_queries_equal_their_copies(order):
    torch.manual_seed(0)
    attention = CrossAttention(8, 2, 5, order=order).double()
    queries = torch.randn(4, 3, 8, dtype=torch.float64)
    keys = torch.randn(4, 6, 8, dtype=torch.float64)
    one_key = attention(queries, keys[:1])
    torch.testing.assert_close(one_key, attention(queries, keys[:1].repeat(4, 1, 1)))
    one_query = attention(queries[:1], keys)
    torch.testing.assert_close(one_query, attention(queries[:1].repeat(4, 1, 1), keys))


def test_layer_has_both_residuals():
    torch.manual_seed(0)
    layer = CrossDecoderLayer(8, 2, 4, 16, order="plain")
    torch.nn.init.zeros_(layer.attention.to_out.weight)
    torch.nn.init.zeros_(layer.attention.to_out.bias)
    torch.nn.init.zeros_(layer.feed_forward[-1].weight)
    torch.nn.init.zeros_(layer.feed_forward[-1].bias)
    queries = torch.randn(2, 3, 8)
    assert torch.equal(layer(queries, torch.randn(2, 5, 8)), queries)


def small_head(order="absorbed", **switches):
    torch.manual_seed(3)
    return LgurHead(
        10,
        dictionary_size=9,
        dictionary_heads=2,
        dictionary_head_dim=4,
        dictionary_hidden_dim=12,
        num_prototypes=3,
        prototype_heads=2,
        prototype_head_dim=16,
        prototype_hidden_dim=14,
        feature_dim=7,
        prototype_order=order,
        **switches,
    ).double()


@pytest.fixture
def tokens():
    torch.manual_seed(4)
    valid = torch.arange(6)[None] < torch.tensor([6, 1, 4])[:, None]
    return (
        torch.randn(3, 5, 10, dtype=torch.float64),
        torch.randn(3, 6, 10, dtype=torch.float64),
        valid,
    )


def test_both_orders_give_equal_features_and_gradients(tokens):
    results = []
    for order in ("absorbed", "plain"):
        head = small_head(order)
        features = head(*tokens)
        sum((x**2).sum() for x in features).backward()
        results.append((features, {n: p.grad for n, p in head.named_parameters()}))
    for fast, plain in zip(results[0][0], results[1][0], strict=True):
        torch.testing.assert_close(fast, plain)
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(gradient, results[1][1][name], msg=name)


def test_forward_is_the_papers_composition(tokens):
    head = small_head()
    image, text, valid = tokens
    mask = torch.sigmoid(image @ head.foreground.weight.T + head.foreground.bias)
    (decoder,) = head.dictionary_decoder.layers
    dictionary = head.dictionary.expand(3, -1, -1)
    image_rebuilt = mask * decoder(image, dictionary)
    text_rebuilt = decoder(text, dictionary)
    guided = mask * decoder(image, text, valid)

    def collect(tokens, valid=None):
        parts = head.prototypes.expand(3, -1, -1)
        for layer in head.prototype_decoder.layers:
            parts = layer(parts, tokens, valid)
        return torch.stack(
            [parts[:, k] @ head.part_projection[k].T for k in range(head.num_parts)], dim=1
        )

    features = head(*tokens)
    torch.testing.assert_close(features.image_guided, collect(guided))
    torch.testing.assert_close(features.image_dictionary, collect(image_rebuilt))
    torch.testing.assert_close(features.text_raw, collect(text, valid))
    torch.testing.assert_close(features.text_dictionary, collect(text_rebuilt, valid))
    torch.testing.assert_close(head.encode_image(image), features.image_dictionary)
    torch.testing.assert_close(head.encode_text(text, valid), features.text_dictionary)


def test_padding_does_not_change_features(tokens):
    head = small_head()
    image, text, valid = tokens
    longer = torch.cat([text, torch.full((3, 4, 10), 99.0, dtype=text.dtype)], dim=1)
    more = torch.cat([valid, torch.zeros(3, 4, dtype=torch.bool)], dim=1)
    for short, padded in zip(head(image, text, valid), head(image, longer, more), strict=True):
        torch.testing.assert_close(short, padded)


def test_published_size_has_the_official_number_of_parameters():
    with torch.device("meta"):
        head = LgurHead()
    count = sum(p.numel() for p in head.parameters())
    prototypes_decoder, dictionary_decoder = 10_229_248, 1_182_720
    maps, dictionary, prototypes, mask = 1_179_648, 153_600, 2_304, 385
    assert count == (
        prototypes_decoder + dictionary_decoder + maps + dictionary + prototypes + mask
    )


def test_without_a_dictionary_the_tokens_stay(tokens):
    image, text, valid = tokens
    head = small_head(use_dictionary=False)
    features = head(*tokens)
    weights = head.foreground_weights(image)
    torch.testing.assert_close(features.text_dictionary, head.text_parts(text, valid))
    torch.testing.assert_close(features.image_dictionary, head.image_parts(weights * image))
    assert features.text_raw is features.text_dictionary
    guided = weights * head.dictionary_decoder(image, text, valid)
    torch.testing.assert_close(features.image_guided, head.image_parts(guided))


def test_without_foreground_weights_all_tokens_count_alike(tokens):
    image, _, _ = tokens
    head = small_head(use_foreground=False)
    rebuilt = head.dictionary_decoder(image, head.dictionary)
    torch.testing.assert_close(head(*tokens).image_dictionary, head.image_parts(rebuilt))


def test_without_guidance_there_is_no_guided_branch(tokens):
    head, full = small_head(use_guidance=False), small_head()
    features, expected = head(*tokens), full(*tokens)
    assert features.image_guided is None
    assert features.text_raw is None
    torch.testing.assert_close(features.image_dictionary, expected.image_dictionary)
    torch.testing.assert_close(features.text_dictionary, expected.text_dictionary)
    with pytest.raises(ValueError, match="use_guidance=True"):
        head.guide(*tokens)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooled_tokens_stand_for_the_prototypes(tokens, pooling):
    image, text, valid = tokens
    head = small_head(pooling=pooling, use_dictionary=False, use_foreground=False)
    pool = {"mean": lambda x: x.mean(0), "max": lambda x: x.amax(0)}[pooling]
    pooled = torch.stack(
        [pool(row[: int(keep.sum())]) for row, keep in zip(text, valid, strict=True)]
    )
    expected = pooled @ head.part_projection[0].T
    torch.testing.assert_close(head.encode_text(text, valid), expected[:, None])
    pooled = torch.stack([pool(row) for row in image])
    expected = pooled @ head.part_projection[0].T
    torch.testing.assert_close(head.encode_image(image), expected[:, None])


def test_separate_prototypes_serve_texts_only(tokens):
    image, text, valid = tokens
    head = small_head(shared_prototypes=False)
    before = head.encode_image(image), head.encode_text(text, valid)
    with torch.no_grad():
        head.text_prototypes.copy_(head.prototypes)
    shared = small_head()
    shared.load_state_dict({n: v for n, v in head.state_dict().items() if n != "text_prototypes"})
    assert torch.equal(head.encode_image(image), before[0])
    assert not torch.allclose(head.encode_text(text, valid), before[1])
    torch.testing.assert_close(head.encode_text(text, valid), shared.encode_text(text, valid))


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="prototypes, mean or max, got 'sum'"):
        small_head(pooling="sum")
