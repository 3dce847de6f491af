"""Words of a frozen BERT read from disk against BERT in every step, through whole trainings."""

import csv
import io
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tireid.encoders.bert import BertEncoder
from tireid.inference.build import build_datamodule, build_encoders
from tireid.training.checks import check_scalars
from tireid.training.evaluate import evaluate
from tireid.training.run import train
from tireid.training.word_cache import cache_words

FROZEN = [
    "model=baseline",
    "text_encoder=bert_bilstm_tiny",
    "text_encoder.module.embedding.frozen=true",
]
CAPTIONS = {"train": 8 * 2 * 2, "val": 3 * 2 * 2, "test": 4 * 2 * 2}


@pytest.fixture(scope="module")
def frozen_config(undrawn_config, cache_dir, tmp_path_factory):
    """A config with a frozen BERT and a cache of its own for words."""
    own = tmp_path_factory.mktemp("words")

    def composed(output_dir, *overrides):
        paths = [f"paths.cache_dir={own}", f"dataset.read.cache_dir={cache_dir}"]
        return undrawn_config(output_dir, *paths, *FROZEN, *overrides)

    return composed


class Run(NamedTuple):
    folder: Path
    metrics: dict[str, float]
    losses: list[float]
    calls: int  # of BERT
    captions: int  # given to BERT
    line: str  # what was said about token features


@pytest.fixture(scope="module")
def run(frozen_config, tmp_path_factory):
    """A function that trains and counts what BERT is asked for."""

    def trained(*overrides):
        folder = tmp_path_factory.mktemp("run")
        sizes = []
        forward = BertEncoder.forward

        def counted(self, token_ids, valid):
            sizes.append(len(token_ids))
            return forward(self, token_ids, valid)

        with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
            patch.setattr(BertEncoder, "forward", counted)
            metrics = train(frozen_config(folder, "trainer.log_every_n_steps=1", *overrides))
        with (folder / "metrics.csv").open() as file:
            losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
        lines = [
            line for line in said.getvalue().splitlines() if line.startswith("token features of")
        ]
        return Run(folder, metrics, losses, len(sizes), sum(sizes), "".join(lines))

    return trained


@pytest.fixture(scope="module")
def runs(run):
    return {
        "plain": run("cache_words=false"),
        "computed": run(),
        "found": run("dataset.num_workers=2", "dataset.cache_images=false"),
    }


def test_the_losses_are_the_plain_ones(runs):
    plain = runs["plain"].losses
    assert len(plain) == 2 * (CAPTIONS["train"] // 8)
    assert len(set(plain)) == len(plain)
    for name in ("computed", "found"):
        # Adam's first steps magnify the rounding: it divides by gradients near zero.
        assert runs[name].losses[0] == pytest.approx(plain[0], rel=1e-6)
        assert runs[name].losses == pytest.approx(plain, rel=1e-3)


def test_the_metrics_are_the_plain_ones(runs):
    for split in ("val", "test"):
        plain, cached = (runs[name].metrics[f"{split}/mAP"] for name in ("plain", "computed"))
        assert cached == pytest.approx(plain, abs=5)


def test_evaluation_without_the_tables_finds_the_same(runs, compose_config):
    cached = runs["computed"]
    cfg = compose_config(f"run={cached.folder}", "accelerator=cpu", name="evaluate")
    found = evaluate(cfg)
    for name, value in found.items():
        assert value == pytest.approx(cached.metrics[name], abs=1e-4), name


def test_a_second_run_is_the_first_to_the_last_bit_whatever_its_workers(runs):
    assert runs["found"].losses == runs["computed"].losses
    assert runs["found"].metrics == runs["computed"].metrics


def test_bert_sees_each_caption_once_then_none(runs):
    assert runs["plain"].captions == 2 * (CAPTIONS["train"] + CAPTIONS["val"]) + CAPTIONS["test"]
    assert runs["computed"].captions == sum(CAPTIONS.values())
    assert runs["found"].calls == 0


def test_one_line_says_where_and_whether_found(runs, frozen_config, tmp_path):
    where = f" MiB in {frozen_config(tmp_path).paths.cache_dir}/words"
    assert runs["plain"].line == ""
    for name in ("computed", "found"):
        line = runs[name].line
        assert line.startswith("token features of the frozen BertEncoder: ")
        assert where in line
        assert line.endswith(f"(train {name}, val {name}, test {name})")


@pytest.mark.slow
def test_half_precision_hardly_changes_the_losses(run, runs):
    half = run("cache_words_dtype=float16")
    assert half.captions == sum(CAPTIONS.values())
    assert half.losses == pytest.approx(runs["plain"].losses, rel=1e-2)
    assert half.losses != runs["plain"].losses


@pytest.mark.slow
@pytest.mark.parametrize("change", ["seed=2", "dataset.read.world_seed=1"])
def test_other_weights_or_captions_are_encoded_anew(run, runs, change):
    """Another seed gives this BERT, which is not pretrained, other weights."""
    assert run("max_epochs=1", change).captions == sum(CAPTIONS.values())


class FakeTrainer:
    is_global_zero = True
    world_size = 1
    global_rank = 0

    class strategy:  # noqa: N801
        root_device = torch.device("cpu")


@pytest.fixture
def cache(frozen_config, tmp_path):
    """A function that does what training does up to the words."""

    def cached(*overrides):
        cfg = frozen_config(tmp_path, *overrides)
        check_scalars(cfg)
        datamodule = build_datamodule(cfg)
        datamodule.setup("fit")
        encoder = build_encoders(cfg)["text_encoder"]
        cache_words(cfg.cache_words, cfg.cache_words_dtype, datamodule, encoder, FakeTrainer)
        return datamodule, encoder

    return cached


def test_batches_hold_what_the_encoder_gives(cache):
    datamodule, encoder = cache()
    loaders = [datamodule.train_dataloader(), datamodule.val_dataloader()[0]]
    batches = [batch for loader in loaders for batch in loader]
    assert len(batches) > 4
    for batch in batches:
        expected = encoder.embedding(batch.token_ids, batch.valid).local * batch.valid[..., None]
        torch.testing.assert_close(batch.words, expected, rtol=1e-5, atol=1e-5)


def test_any_caption_of_a_split_can_be_asked_for(cache):
    """As a data set of support captions does."""
    datamodule, _ = cache()
    pairs = next(iter(datamodule.train_dataloader()))
    words = datamodule.words["train"](pairs.index.tolist()[::-1])
    assert torch.equal(words, pairs.words.flip(0))


@pytest.mark.parametrize(
    ("text_encoder", "got"),
    [
        ("bert_bilstm_tiny", "BiLstmEncoder over BertEncoder, which is trained"),
        ("bilstm_tiny", "BiLstmEncoder over WordEmbedding, which is trained"),
        ("bert_tiny", "BertEncoder, which has no word encoder inside"),
    ],
)
def test_words_that_change_are_not_cached(undrawn_config, tmp_path, text_encoder, got):
    def cached(choice, dtype="float32"):
        cfg = undrawn_config(tmp_path, f"text_encoder={text_encoder}", f"cache_words={choice}")
        encoder = build_encoders(cfg)["text_encoder"]
        cache_words(cfg.cache_words, dtype, build_datamodule(cfg), encoder, FakeTrainer)

    for choice in ("auto", "false"):
        cached(choice)
        with pytest.raises(ValueError, match=r"cache_words_dtype: does nothing .*, got float16"):
            cached(choice, "float16")
    with pytest.raises(ValueError, match=f"expected a text encoder over .*, got {got}; set"):
        cached("true")


def test_dropout_of_a_frozen_encoder_is_named(undrawn_config, tmp_path, monkeypatch):
    monkeypatch.setattr(BertEncoder, "constant", False)
    cfg = undrawn_config(tmp_path, *FROZEN, "cache_words=true")
    encoder = build_encoders(cfg)["text_encoder"]
    with pytest.raises(ValueError, match="over a frozen BertEncoder with dropout; set"):
        cache_words(cfg.cache_words, "float32", build_datamodule(cfg), encoder, FakeTrainer)


def test_a_full_disk_stops_only_who_insists(cache, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(OSError, match="cache_words=false"):
        cache("seed=3", "cache_words=true")
    said = "token features are computed in every step: the token features of"
    with pytest.warns(UserWarning, match=said):
        datamodule, _ = cache("seed=3")
    assert datamodule.words == {}
    assert next(iter(datamodule.train_dataloader())).words is None


def test_a_trial_of_a_few_batches_waits_for_no_table(frozen_config, tmp_path):
    assert frozen_config(tmp_path, "debug=fast").cache_words is False


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cache_words=yes", "cache_words: expected auto, true or false, got 'yes'"),
        ("cache_words=1", "cache_words: expected auto, true or false, got 1"),
        ("cache_words_dtype=bf16", "cache_words_dtype: expected float32 or float16, got 'bf16'"),
    ],
)
def test_bad_settings_are_named(cache, override, message):
    with pytest.raises(ValueError, match=message):
        cache(override)
