import errno
import json
import os
import subprocess
import sys

import pytest

from tireid.data.tokenizers import HubTokenizer, TrainedWordPiece, load_tokenizer

CAPTIONS = [
    f"A {who} wearing a {colour} {garment}, carrying a {bag}."
    for who in ("man", "woman", "boy")
    for colour in ("red", "blue", "greenish")
    for garment in ("shirt", "coat")
    for bag in ("backpack", "handbag")
]


@pytest.fixture
def trained() -> TrainedWordPiece:
    tokenizer = TrainedWordPiece(vocab_size=200, max_length=12)
    tokenizer.fit(CAPTIONS)
    return tokenizer


@pytest.fixture
def bert_folder(tmp_path):
    """A local BERT tokenizer as the hub stores it, with a vocabulary of its own."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "man", "red", "shirt", ","]
    words += list(letters) + [f"##{letter}" for letter in letters]
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return folder


@pytest.fixture
def clip_folder(tmp_path):
    """A local CLIP tokenizer; its padding id is that of its end token, as in OpenAI's."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "re", "red</w>"]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder = tmp_path / "clip"
    folder.mkdir()
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    settings = {"tokenizer_class": "CLIPTokenizer", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    return folder


def test_ids_start_with_cls_and_end_with_sep(trained):
    ids = trained(["a red shirt", "A RED SHIRT", "a"])
    assert ids[0] == ids[1]  # lower-cased
    assert all(row[0] == 2 and row[-1] == 3 for row in ids)
    assert len(ids[2]) == 3
    assert trained.pad_id == 0
    assert all(0 < token < trained.vocab_size for row in trained(CAPTIONS) for token in row)


def test_frequent_words_are_one_piece_and_rare_ones_are_cut(trained):
    assert len(trained(["backpack"])[0]) == 3
    assert len(trained(["pack"])[0]) > 3
    assert trained(["\u65e5"]) == [[2, 1, 3]]  # unknown


def test_long_captions_are_cut(trained):
    long = "red shirt " * 20
    kept = trained([long])[0]
    assert len(kept) == 12
    assert kept[-1] == 3
    trained.keep_sep = False
    cut = trained([long])[0]
    assert cut[:-1] == kept[:-1]
    assert cut[-1] == cut[1]  # position 11 holds `red` again, and [SEP] is lost
    # Exactly as long as allowed: nothing is cut, both ways.
    exact = "red shirt " * 5
    assert len(trained([exact])[0]) == 12
    assert trained([exact])[0][-1] == 3


def test_case_is_kept_when_asked():
    tokenizer = TrainedWordPiece(vocab_size=200, lowercase=False)
    tokenizer.fit(CAPTIONS)
    assert tokenizer(["A red"]) != tokenizer(["a red"])


def test_vocabulary_is_the_same_in_every_process(trained, tmp_path):
    trained.save(tmp_path)
    code = (
        "import sys; from pathlib import Path; from tireid.data.tokenizers import TrainedWordPiece;"
        "t = TrainedWordPiece(vocab_size=200, max_length=12);"
        "t.fit(sys.stdin.read().split('\\n')); t.save(Path(sys.argv[1]))"
    )
    for name in ("first", "second"):  # hash tables are seeded anew in each
        folder = tmp_path / name
        command = [sys.executable, "-c", code, str(folder)]
        subprocess.run(command, input="\n".join(CAPTIONS).encode(), check=True)
        for file in ("tokenizer.json", "tireid_tokenizer.json"):
            assert (folder / file).read_text() == (tmp_path / file).read_text()


def test_saved_tokenizer_gives_the_same_ids(trained, tmp_path):
    trained.save(tmp_path / "run")
    restored = load_tokenizer(tmp_path / "run")
    assert restored.is_fitted
    captions = [*CAPTIONS, "unheard-of words, \u00e9toile", "red shirt " * 20]
    assert restored(captions) == trained(captions)
    assert (restored.pad_id, restored.vocab_size, restored.max_length) == (0, 200, 12)
    restored.save(tmp_path / "copy")
    assert load_tokenizer(tmp_path / "copy")(captions) == trained(captions)


def test_vocabulary_never_exceeds_its_size():
    tokenizer = TrainedWordPiece(vocab_size=100)
    tokenizer.fit([chr(code) * 2 + chr(code + 1) for code in range(0x4E00, 0x4F00)] + CAPTIONS)
    assert max(max(row) for row in tokenizer(CAPTIONS)) < 100


def test_untrained_tokenizer_says_so():
    tokenizer = TrainedWordPiece()
    assert not tokenizer.is_fitted
    with pytest.raises(ValueError, match=r"call fit\(captions\) first"):
        tokenizer(["a"])
    with pytest.raises(ValueError, match="got none"):
        tokenizer.fit([])


def test_settings_are_checked():
    with pytest.raises(ValueError, match="max_length: expected at least 3 ids, got 2"):
        TrainedWordPiece(max_length=2)
    with pytest.raises(ValueError, match="vocab_size: expected >= 100, got 4"):
        TrainedWordPiece(vocab_size=4)


def test_bert_folder(bert_folder, tmp_path):
    tokenizer = HubTokenizer(str(bert_folder), max_length=6, keep_sep=False)
    assert tokenizer.is_fitted
    assert tokenizer(["Red shirt"]) == [[3, 7, 8, 4]]
    assert tokenizer(["man, red shirt zo"]) == [[3, 6, 9, 7, 8, 35]]  # "zo" = z ##o, [SEP] cut
    assert tokenizer.pad_id == 0
    assert tokenizer.vocab_size == 82
    tokenizer.save(tmp_path / "run")
    assert load_tokenizer(tmp_path / "run")(["man, red shirt zo"]) == [[3, 6, 9, 7, 8, 35]]


def test_clip_folder_keeps_the_end_token(clip_folder, tmp_path):
    tokenizer = HubTokenizer(str(clip_folder), max_length=5)
    start, end = 190, 191
    ids = tokenizer(["Red  red!", "red red red red red"])
    assert ids[0] == [start, 189, 189, 94, end]
    assert ids[1] == [start, 189, 189, 189, end]
    assert tokenizer.pad_id == end
    tokenizer.save(tmp_path / "run")
    restored = load_tokenizer(tmp_path / "run")
    assert restored(["Red  red!", "red red red red red"]) == ids
    assert restored.pad_id == end


@pytest.mark.parametrize(
    ("odd", "plain"),
    [
        ("&amp;lt;b&gt; &quot;x&quot;&nbsp;y", '<b> "x" y'),
        ("\u201chello\u201d he\u2019s", '"hello" he\'s'),
        ("o\ufb03ce \ufb01ne \ufb02at o\ufb00 wa\ufb04e", "office fine flat off waffle"),
        ("&ldquo;a&rdquo; &lsquo;b&#39; R&amp;amp;B", "\"a\" 'b' R&B"),
        ("it&#x27;s &#8220;a&#8221; &eacute; b&hellip;", 'it\'s "a" \u00e9 b\u2026'),
        (
            "we\u00e2\u20ac\u2122re \u00e2\u20ac\u0153caf\u00c3\u00a9\u00e2\u20ac\x9d",
            'we\'re "caf\u00e9"',
        ),
        ("a\u00e2\u20ac\u201cb \u00e2\u20ac\u201d", "a\u2013b \u2014"),
        ("\ufeffred\x07 coat", "red coat"),
    ],
)
def test_captions_are_mended_as_by_the_official_code(clip_folder, tmp_path, odd, plain):
    as_it_is, mended = (HubTokenizer(str(clip_folder), mended=mended) for mended in (False, True))
    assert mended([odd, plain]) == as_it_is([plain, plain]) != as_it_is([odd, plain])
    places = mended.places(odd)
    assert places[-2].end == len(odd)
    mended.save(tmp_path / "run")
    assert load_tokenizer(tmp_path / "run")([odd]) == mended([odd])


def test_hub_tokenizer_is_not_loaded_before_use():
    HubTokenizer("no/such-tokenizer")


def test_offline_error_says_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"HF_HUB_OFFLINE=1 .*name_or_path=DIR"):
        HubTokenizer("tireid-tests/no-such-tokenizer")(["a"])


def test_folder_without_a_vocabulary_is_refused(bert_folder):
    (bert_folder / "vocab.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"expected a tokenizer's files .* got config\.json"
    ):
        HubTokenizer(str(bert_folder))(["a"])


def _pipe(file):
    file.unlink()
    os.mkfifo(file)


def _changed(**values):
    def change(file):
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(file.parent).backend_tokenizer.save(str(file))
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("vocab.json", _pipe, "vocab.json: expected a regular file, got a pipe"),
        ("merges.txt", _pipe, "merges.txt: expected a regular file, got a pipe"),
        ("merges.txt", lambda file: os.truncate(file, 2**34), "at most 64 MiB, got 16,384"),
        ("tokenizer_config.json", lambda file: file.write_text("[" * 9000), "levels of nesting"),
        ("tokenizer_config.json", lambda file: file.write_text('"a"'), "expected settings"),
        ("tokenizer_config.json", lambda file: file.write_text("[1]"), "clip: expected a token"),
        (
            "tokenizer.json",
            _changed(normalizer={"type": "Prepend", "prepend": "x" * 10**6}),
            "normalizer: expected at most 24 steps",
        ),
        ("tokenizer.json", _changed(normalizer={"type": "Junk"}), "clip: expected a tokenizer"),
    ],
)
def test_the_files_of_a_pretrained_tokenizer_are_checked(clip_folder, name, damage, message):
    damage(clip_folder / name)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        HubTokenizer(str(clip_folder))(["a"])


def test_a_message_repeats_a_part_of_a_long_value_only(trained, tmp_path):
    trained.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    content["added_tokens"][0]["single_word"] = "d" * 6000
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="expected a saved tokenizer, got") as error:
        load_tokenizer(tmp_path)
    assert len(str(error.value)) < 600


def test_saved_folder_is_checked(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json is missing"):
        load_tokenizer(tmp_path)
    trained.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a saved tokenizer, got"):
        load_tokenizer(tmp_path)


def test_saving_onto_a_full_disk_leaves_the_old_vocabulary(trained, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    trained.save(tmp_path)
    before = (tmp_path / "tokenizer.json").read_bytes()
    other = TrainedWordPiece(vocab_size=150, max_length=12)
    other.fit(CAPTIONS)
    monkeypatch.setattr("tireid.files.os.fsync", full)
    with pytest.raises(OSError, match=r"tokenizer\.json: could not be written"):
        other.save(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == before


def test_places_say_where_each_id_comes_from(trained):
    caption = "A MAN wearing a greenish coat, carrying a bracket."
    tokenizer = TrainedWordPiece(vocab_size=200, max_length=40)
    tokenizer.fit(CAPTIONS)
    places = tokenizer.places(caption)
    assert len(places) == len(tokenizer([caption])[0])
    assert [(place.end - place.start, place.word) for place in (places[0], places[-1])] == [
        (0, None)
    ] * 2
    words = {}
    for place in places[1:-1]:
        words[place.word] = words.get(place.word, "") + caption[place.start : place.end]
    spelt = ["A", "MAN", "wearing", "a", "greenish", "coat", ",", "carrying", "a", "bracket", "."]
    assert list(words.values()) == spelt
    assert len(places) - 2 > len(spelt)  # the bracket is in pieces
    cut = trained.places(caption)  # to 12 ids, the last of them the end token's
    assert cut == [*places[:11], places[-1]]


def test_clips_places_are_those_of_the_caption(clip_folder):
    tokenizer = HubTokenizer(str(clip_folder), max_length=77)
    caption = "a man, a red shirt"
    places = tokenizer.places(caption)
    assert len(places) == len(tokenizer([caption])[0])
    assert "".join(caption[p.start : p.end] for p in places).replace(" ", "") == "aman,aredshirt"
    assert places[0].word is None
    assert places[-1].word is None
