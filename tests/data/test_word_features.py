import json
import multiprocessing
import os
import pickle
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from tireid.data import word_features
from tireid.data.datasets import TextDataset
from tireid.data.records import Record
from tireid.data.word_features import WordEncoder, word_table
from tireid.encoders.bert import BertEncoder

WIDTH = 8
CAPTIONS = [[2, 5, 9, 3], [2, 3], [2, 7, 7, 8, 9, 3], [2, 5, 9, 4], [2, 6, 3], [2, 9, 3]]
LENGTHS = [len(ids) for ids in CAPTIONS]


class Counting:
    """Word features that say which token they are of; counts what it is asked for."""

    def __init__(self) -> None:
        self.captions = 0
        self.padding = 0

    def __call__(self, token_ids, valid):
        self.captions += len(token_ids)
        self.padding += int((~valid).sum())
        return features(token_ids)


def features(token_ids):
    return token_ids[..., None] + torch.arange(WIDTH) / 7


@pytest.fixture
def counting():
    return Counting()


@pytest.fixture
def table_of(tmp_path, counting):
    """A function to the table of `CAPTIONS`, with any argument replaced."""

    def table(captions=CAPTIONS, *, fingerprint="one", encode=counting, **options):
        encoder = WordEncoder(encode, WIDTH, fingerprint)
        return word_table(encoder, captions, tmp_path, progress=False, **options)

    return table


def tables_in(folder: Path) -> set[str]:
    return {path.name for path in (folder / "words").iterdir() if path.suffix != ".lock"}


def test_any_captions_in_any_order_padded_with_zeros(table_of, counting):
    table = table_of()
    assert len(table) == len(CAPTIONS)
    assert table.num_bytes == sum(LENGTHS) * WIDTH * 4
    assert counting.captions == len(CAPTIONS)
    assert counting.padding == 0
    for chosen in ([0, 1, 2, 3, 4, 5], [4, 1], [2, 2, 0], [1]):
        words = table(chosen)
        longest = max(LENGTHS[caption] for caption in chosen)
        assert words.shape == (len(chosen), longest, WIDTH)
        for row, caption in zip(words, chosen, strict=True):
            length = LENGTHS[caption]
            assert torch.equal(row[:length], features(torch.tensor(CAPTIONS[caption])))
            assert not row[length:].any()
    assert table([]).shape == (0, 0, WIDTH)
    for outside in (-1, len(CAPTIONS)):
        with pytest.raises(IndexError, match=f"expected 0 to 5, got .*{outside}"):
            table([0, outside])


def test_a_batch_is_bounded(table_of, monkeypatch):
    sizes = []
    monkeypatch.setattr(word_features, "_TOKENS_AT_ONCE", 7)

    def encode(token_ids, valid):
        sizes.append(tuple(token_ids.shape))
        return features(token_ids)

    table = table_of(encode=encode)
    assert sizes == [(1, 6), (1, 4), (1, 4), (2, 3), (1, 2)]
    assert torch.equal(table([2])[0], features(torch.tensor(CAPTIONS[2])))


def test_found_again(table_of, counting):
    assert not table_of().found
    again = table_of()
    assert again.found
    assert counting.captions == len(CAPTIONS)
    assert torch.equal(again([0, 2]), table_of()([0, 2]))


@pytest.mark.parametrize(
    "other",
    [
        {"fingerprint": "two"},
        {"dtype": "float16"},
        {"captions": CAPTIONS[:-1]},
        {"captions": CAPTIONS[::-1]},
        {"captions": [*CAPTIONS[:-1], [2, 8, 3]]},
        # The same ids in the same order, cut elsewhere.
        {"captions": [[2, 5, 9], [3, 2, 3], *CAPTIONS[2:]]},
    ],
    ids=["encoder", "type", "fewer", "order", "tokens", "cut"],
)
def test_anything_else_is_another_table(table_of, other):
    one, two = table_of(), table_of(**other)
    assert not two.found
    assert one.folder != two.folder
    assert table_of().found


def test_half_precision_halves_the_table(table_of):
    single, half = table_of(), table_of(dtype="float16")
    sizes = [(table.folder / "words.bin").stat().st_size for table in (single, half)]
    assert sizes == [single.num_bytes, half.num_bytes]
    assert sizes[0] == 2 * sizes[1]
    words, expected = half(range(6)), single(range(6))
    assert words.dtype == torch.float32
    torch.testing.assert_close(words, expected, rtol=2**-11, atol=0)
    assert not torch.equal(words, expected)


def test_features_that_do_not_fit_are_refused(table_of, tmp_path):
    def large(token_ids, valid):
        return features(token_ids) * 1e5

    with pytest.raises(ValueError, match=r"float16.*set cache_words_dtype=float32"):
        table_of(encode=large, dtype="float16")
    assert tables_in(tmp_path) == set()
    assert table_of(encode=large)([0]).max() > 65504


def test_equals_bert_alone(tmp_path):
    torch.manual_seed(0)
    bert = BertEncoder(frozen=True, vocab_size=30, dim=8, depth=2, heads=2, max_positions=9)
    encoder = WordEncoder(lambda ids, valid: bert(ids, valid).local, 8, bert.fingerprint())
    table = word_table(encoder, CAPTIONS, tmp_path, progress=False)
    for caption, ids in enumerate(CAPTIONS):
        token_ids = torch.tensor([ids])
        alone = bert(token_ids, torch.ones_like(token_ids, dtype=torch.bool)).local
        torch.testing.assert_close(table([caption]), alone, rtol=1e-6, atol=1e-6)


def shorten(folder):
    os.truncate(folder / "words.bin", (folder / "words.bin").stat().st_size - 4)


def flip_a_bit(folder):
    content = bytearray((folder / "words.bin").read_bytes())
    content[50] ^= 1
    (folder / "words.bin").write_bytes(content)


def empty_facts(folder):
    (folder / "facts.json").write_text("")


def endless_facts(folder):
    (folder / "facts.json").unlink()
    os.mkfifo(folder / "facts.json")


def other_facts(folder):
    facts = json.loads((folder / "facts.json").read_text())
    (folder / "facts.json").write_text(json.dumps(facts | {"tokens": 1}))


def no_words(folder):
    (folder / "words.bin").unlink()


def test_size_and_place_are_told_before_anything_is_computed(tmp_path, capsys):
    said = []

    def encode(token_ids, valid):
        said.append(" ".join(capsys.readouterr().err.split()))
        return features(token_ids)

    word_table(WordEncoder(encode, WIDTH, "one"), CAPTIONS * 4000, tmp_path)
    mebibytes = 4000 * sum(LENGTHS) * WIDTH * 4 / 2**20
    assert f"{mebibytes:,.1f} MiB" in said[0]
    assert str(tmp_path / "words") in said[0]


@pytest.mark.parametrize(
    "damage", [shorten, flip_a_bit, empty_facts, endless_facts, other_facts, no_words]
)
def test_a_damaged_table_is_computed_again(table_of, tmp_path, capsys, damage):
    table = table_of()
    expected = table([0, 2, 1])
    damage(table.folder)
    encoder = WordEncoder(Counting(), WIDTH, "one")
    again = word_table(encoder, CAPTIONS, tmp_path)
    assert not again.found
    assert torch.equal(again([0, 2, 1]), expected)
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "is damaged and computed again" in line] == said[:1]
    assert tables_in(tmp_path) == {table.folder.name}
    assert table_of().found


def test_a_failure_leaves_nothing(table_of, tmp_path, counting):
    def fails_late(token_ids, valid):
        if token_ids.shape[1] == 2:
            raise RuntimeError("no memory")
        return counting(token_ids, valid)

    with pytest.raises(RuntimeError, match="no memory"):
        table_of(encode=fails_late)
    assert tables_in(tmp_path) == set()


def test_remains_are_removed_but_not_those_of_others(table_of, tmp_path):
    table = table_of()
    words = tmp_path / "words"
    own = words / f"{table.folder.name}.tmp-1-a"
    young, old = words / "other.tmp-2-b", words / "other.tmp-3-c"
    for folder in (own, young, old):
        folder.mkdir()
        (folder / "words.bin").write_bytes(b"half")
    for path in (old / "words.bin", old):
        os.utime(path, (0, 0))
    shutil.rmtree(table.folder)
    table_of()
    assert tables_in(tmp_path) == {table.folder.name, young.name}


def test_a_full_disk_is_refused_before_computing(table_of, tmp_path, counting, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    needed = sum(LENGTHS) * WIDTH * 4
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(OSError, match=r"GiB free, got 0.00 GiB; .*cache_words=false") as error:
        table_of()
    assert str(tmp_path / "words") in str(error.value)
    assert counting.captions == 0
    assert tables_in(tmp_path) == set()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert not table_of().found


def test_a_folder_that_cannot_be_made_is_named(table_of, tmp_path):
    (tmp_path / "words").write_text("a file")
    with pytest.raises(
        OSError, match=r"token features of 6 captions cannot .*paths.cache_dir=FOLDER"
    ):
        table_of()


def test_two_at_once_compute_once(tmp_path, capsys):
    """Locks hold between open files, so that threads stand for processes here."""
    inside, go_on = threading.Event(), threading.Event()
    counts, tables = [Counting(), Counting()], {}

    def compute(number: int) -> None:
        def encode(token_ids, valid):
            inside.set()
            go_on.wait(10)
            return counts[number](token_ids, valid)

        encoder = WordEncoder(encode, WIDTH, "one")
        tables[number] = word_table(encoder, CAPTIONS, tmp_path)

    threads = [threading.Thread(target=compute, args=(number,)) for number in range(2)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    time.sleep(0.1)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert [count.captions for count in counts] == [len(CAPTIONS), 0]
    assert [tables[number].found for number in range(2)] == [False, True]
    assert torch.equal(tables[0]([3, 2]), tables[1]([3, 2]))
    assert "Another process computes" in capsys.readouterr().err


def compute_slowly(cache_dir: Path) -> None:
    def encode(token_ids, valid):
        (cache_dir / "began").touch()
        if token_ids.shape[1] == 2:
            time.sleep(60)
        return features(token_ids)

    word_table(WordEncoder(encode, WIDTH, "one"), CAPTIONS, cache_dir, progress=False)


@pytest.mark.ddp
@pytest.mark.slow
def test_a_killed_process_leaves_no_table_and_no_lock(table_of, tmp_path, counting):
    process = multiprocessing.get_context("spawn").Process(target=compute_slowly, args=(tmp_path,))
    process.start()
    deadline = time.time() + 60
    while not (tmp_path / "began").exists() and time.time() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert [name for name in tables_in(tmp_path) if ".tmp-" in name]
    table = table_of()
    assert not table.found
    assert counting.captions == len(CAPTIONS)
    assert tables_in(tmp_path) == {table.folder.name}


def test_a_copy_for_a_worker_is_small_and_reads_the_same(table_of):
    long = [[2, *range(100), 3]] * 100
    table = table_of(long, encode=lambda ids, valid: features(ids))
    expected = table([5])
    sent = pickle.dumps(table)
    assert len(sent) < 5000 < table.num_bytes
    assert torch.equal(pickle.loads(sent)([5]), expected)  # noqa: S301


@pytest.mark.parametrize(
    "start", ["fork", pytest.param("spawn", marks=[pytest.mark.slow, pytest.mark.ddp])]
)
def test_workers_give_the_same_batches(table_of, start):
    record = Record(Path("image.jpg"), pid=1, captions=("a person",) * len(CAPTIONS), image_id=0)
    texts = TextDataset([record], CAPTIONS, pad_id=0, words_of=table_of())

    def batches(**workers):
        return list(DataLoader(texts, batch_size=4, collate_fn=texts.collate, **workers))

    here, there = batches(), batches(num_workers=2, multiprocessing_context=start)
    assert len(here) == len(there) == 2
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.words, other.words)
        assert one.words.shape[:2] == one.token_ids.shape
        assert torch.equal(one.words, features(one.token_ids) * one.valid[..., None])
