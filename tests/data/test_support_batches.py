"""Support sets in batches: what the slots point to, on any number of workers and processes."""

import pickle
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from tireid.data.cuhk_pedes import read_cuhk_pedes
from tireid.data.datamodule import TireidDataModule
from tireid.data.supports import SupportSettings
from tireid.data.tokenizers import TrainedWordPiece
from tireid.data.word_features import WordEncoder
from tireid.inference.build import build_datamodule
from tireid.methods.lcr2s.supports import batch_supports

# Training identities of the small data set: two with two images, one with a single image.
RED = {"70_0": 0, "3_0": 10, "70_1": 30, "12_0": 40, "3_1": 60}
PLAIN = {"pad": 0, "flip_probability": 0.0}  # every pixel tells the image


@pytest.fixture
def make(write_data_set, tmp_path):
    """Makes a data module over the small data set; `supports` are the settings' arguments."""

    def make_datamodule(content=None, *, rank=None, supports=None, **options) -> TireidDataModule:
        defaults = {
            "read": partial(read_cuhk_pedes, root=write_data_set(content)),
            "tokenizer": TrainedWordPiece(vocab_size=150, max_length=20),
            "image_size": [12, 6],
            "mean": (0.0, 0.0, 0.0),
            "std": (1 / 255, 1 / 255, 1 / 255),
            "name": "small",
            "batch_size": 4,
            "num_workers": 0,
            "pad": 2,
            "cache_dir": tmp_path / "cache",
            "supports": SupportSettings(**supports) if supports else None,
        }
        datamodule = TireidDataModule(**(defaults | options))
        if rank is not None:
            trainer = SimpleNamespace(world_size=2, global_rank=rank, num_devices=2)
            datamodule.trainer = trainer
        return datamodule

    return make_datamodule


def one_epoch(datamodule: TireidDataModule, epoch: int = 0) -> list:
    datamodule.setup("fit")
    loader = datamodule.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def sets_of(batch) -> list:
    """Return, for each pair, what its slots hold, without the place in the batch."""
    found = []
    for image_slots, text_slots in zip(
        batch.support.image_slots.tolist(), batch.support.text_slots.tolist(), strict=True
    ):
        images = [None if s == -1 else batch.support.images[s].tolist() for s in image_slots]
        texts = [
            None if s == -1 else batch.support.token_ids[s][batch.support.valid[s]].tolist()
            for s in text_slots
        ]
        found.append((images, texts))
    return found


def anchors_of(batch) -> list:
    return [part.tolist() for part in batch[:7]]


@pytest.mark.parametrize("short", ["replace", "pad"])
def test_slots_hold_the_identitys_other_images_and_captions(make, short):
    datamodule = make(supports={"num_images": 2, "num_texts": 3, "short": short}, **PLAIN)
    for epoch in range(5):
        for batch in one_epoch(datamodule, epoch):
            records = datamodule.records("train")
            assert batch.support.image_slots.shape == (4, 2)
            assert batch.support.text_slots.shape == (4, 3)
            for row, (images, texts) in enumerate(sets_of(batch)):
                anchor = records[batch.image_id[row]]
                others = [
                    record
                    for record in records
                    if record.pid == anchor.pid and record.image_id != anchor.image_id
                ]
                reds = {None if image is None else image[0][0][0] for image in images}
                captions = datamodule.tokenizer([c for record in others for c in record.captions])
                real = [text for text in texts if text is not None]
                assert all(text in captions for text in real)
                if not others:
                    assert (reds, real) == ({None}, [])
                elif short == "pad":  # one other image, of two or three captions
                    assert reds == {RED[others[0].image_path.stem], None}
                    assert sorted(real) == sorted(captions)
                else:
                    assert reds == {RED[others[0].image_path.stem]}
                    assert sorted(map(tuple, set(map(tuple, real)))) == sorted(map(tuple, captions))


def test_a_batch_holds_each_image_and_caption_once(make):
    datamodule = make(supports={"num_images": 4, "num_texts": 4}, batch_size=10, **PLAIN)
    (batch,) = one_epoch(datamodule)  # all pairs: of both people each image is another's support
    support = batch.support
    assert sorted(support.images[:, 0, 0, 0].tolist()) == [
        RED[k] for k in ("70_0", "3_0", "70_1", "3_1")
    ]
    assert support.token_ids.shape[0] == 9
    assert len({tuple(row) for row in support.token_ids.tolist()}) == 9
    assert set(support.image_slots.flatten().tolist()) == {-1, *range(4)}
    assert set(support.text_slots.flatten().tolist()) == {-1, *range(9)}
    assert support.valid.any(dim=0).all()  # no longer than the longest caption
    assert support.token_ids[~support.valid].eq(datamodule.tokenizer.pad_id).all()
    assert support.words is None


@pytest.mark.parametrize(
    "options", [{"num_workers": 2}, {"cache_images": True}, {"sampler": "identity_balanced"}]
)
def test_supports_leave_the_pairs_as_they_are(make, options):
    options = {"pairs_per_id": 2, "erase_probability": 0.5} | options
    plain = make(**options)
    other = make(supports={"num_images": 2, "num_texts": 1}, **options)
    for epoch in (0, 1):
        without, batches = one_epoch(plain, epoch), one_epoch(other, epoch)
        assert all(batch.support is None for batch in without)
        assert [anchors_of(b) for b in without] == [anchors_of(b) for b in batches]


@pytest.mark.parametrize("options", [{"num_workers": 2}, {"cache_images": True}])
def test_workers_and_cache_change_nothing(make, options):
    supports = {"num_images": 2, "num_texts": 2}
    plain = make(supports=supports, erase_probability=0.5)
    other = make(supports=supports, erase_probability=0.5, **options)
    other.setup("fit")
    loader = other.train_dataloader()  # the same workers in both epochs
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        for one, two in zip(one_epoch(plain, epoch), loader, strict=True):
            for first, second in zip(one.support[:5], two.support[:5], strict=True):
                assert torch.equal(first, second)


def test_ranks_draw_what_one_process_draws(make):
    supports = {"num_images": 2, "num_texts": 2, "exclude_same_image_text": False}
    options = {"supports": supports, "erase_probability": 0.5, "pad": 3}
    shares = [one_epoch(make(rank=rank, **options), 2) for rank in (0, 1)]
    for batch, parts in zip(one_epoch(make(**options), 2), zip(*shares, strict=True), strict=True):
        assert sets_of(batch) == [one for part in parts for one in sets_of(part)]


def test_sets_and_augmentation_are_drawn_anew_each_epoch(make, entries):
    entries += [  # a person of whom there are more images than slots
        {"split": "train", "id": 80, "file_path": f"cam_a/80_{n}.png", "captions": [f"no {n}"]}
        for n in range(6)
    ]
    datamodule = make(entries, supports={"num_images": 2, "num_texts": 2}, batch_size=16)

    def of_pair(epoch: int, pair: int):
        (batch,) = one_epoch(datamodule, epoch)
        return sets_of(batch)[batch.index.tolist().index(pair)]

    draws = [of_pair(epoch, 12) for epoch in (0, 1, 2, 0)]
    assert draws[0] == draws[3]
    for part in (0, 1):
        assert len({str(draw[part]) for draw in draws}) == 3
    # The only other image of a person: always the same one, otherwise augmented each time.
    (first, _), (again, _) = of_pair(0, 0), of_pair(1, 0)
    assert first[0] == first[1] != again[0] == again[1]


def test_an_image_is_augmented_once_an_epoch_and_not_as_the_anchor_is(make):
    datamodule = make(supports={"num_images": 1, "num_texts": 0}, batch_size=2, pad=3)
    seen: dict[int, set[str]] = {}
    anchors: dict[int, set[str]] = {}
    for batch in one_epoch(datamodule):
        records = datamodule.records("train")
        for row, (images, _) in enumerate(sets_of(batch)):
            anchor = records[batch.image_id[row]]
            anchors.setdefault(anchor.image_id, set()).add(str(batch.images[row].tolist()))
            if images[0] is not None:
                (other,) = [r.image_id for r in records if r.pid == anchor.pid and r != anchor]
                seen.setdefault(other, set()).add(str(images[0]))
    assert len(seen) == 4
    assert all(len(views) == 1 for views in seen.values())
    assert all(not seen[image] & anchors[image] for image in seen)


def test_support_captions_bring_their_words(make):
    datamodule = make(supports={"num_images": 0, "num_texts": 3}, batch_size=2, num_workers=2)
    datamodule.setup("fit")
    datamodule.cache_words(WordEncoder(lambda ids, valid: ids[..., None] / 7, 1, "sevenths"))
    filled = 0
    for batch in one_epoch(datamodule):
        support = batch.support
        real = torch.where(support.valid, support.token_ids / 7, 0.0)
        assert torch.equal(support.words, real[..., None])
        filled += len(real)
    assert filled > 0


@pytest.mark.parametrize("reason", ["no slots", "nobody else"])
def test_a_batch_without_supports_is_well_formed(make, entries, reason):
    number = 0 if reason == "no slots" else 3
    if reason == "nobody else":
        kept = {70: "cam_a/70_0.png", 3: "cam_b/3_0.png", 12: "cam_a/12_0.png"}
        entries = [e for e in entries if e["split"] != "train" or e["file_path"] == kept[e["id"]]]
    datamodule = make(entries, supports={"num_images": number, "num_texts": number})
    for batch in one_epoch(datamodule):
        support = batch.support
        assert support.images.shape == (0, 3, 12, 6)
        assert support.images.dtype == torch.float32
        assert support.token_ids.shape == support.valid.shape == (0, 0)
        assert (support.token_ids.dtype, support.valid.dtype) == (torch.int64, torch.bool)
        for slots in (support.image_slots, support.text_slots):
            assert slots.shape == (4, number)
            assert slots.dtype == torch.int64
            assert slots.eq(-1).all()


def test_entries_of_one_file_have_one_key_among_the_pairs_of_an_identity(make, entries):
    """By it a teacher's supports from the batch or a memory leave out the anchor's picture."""
    again = {**entries[0], "captions": ["the red woman once more"]}
    foreign = {**entries[0], "id": 12, "captions": ["somebody else, by mistake"]}
    datamodule = make([*entries, again, foreign], batch_size=12)
    with (
        pytest.warns(UserWarning, match="name an image that an earlier entry names"),
        pytest.warns(UserWarning, match="name an image that one of another identity names"),
    ):
        (batch,) = one_epoch(datamodule)
    paths = [record.image_path for record in datamodule.records("train")]
    captions = [c for record in datamodule.records("train") for c in record.captions]
    key_of = {captions[i]: int(key) for i, key in zip(batch.index, batch.image_id, strict=True)}
    assert key_of["the red woman once more"] == key_of["a woman in red"] == paths.index(paths[0])
    assert key_of["somebody else, by mistake"] == len(paths) - 1
    slots = batch_supports(batch.pid, batch.image_id, 12, torch.Generator())
    for anchor, row in enumerate(slots.tolist()):
        for other in (slot for slot in row if slot >= 0):
            names = [paths[batch.image_id[i]].name for i in (anchor, other)]
            assert names[0] != names[1]


def test_drop_leaves_identities_with_one_image_out(make):
    datamodule = make(supports={"num_images": 1, "num_texts": 1, "short": "drop"})
    with pytest.warns(UserWarning, match="small: 1 of 3 training identities have one image and"):
        datamodule.setup()
    assert datamodule.num_train_pids == 2
    assert datamodule.describe()["train"] == {"ids": 2, "images": 4, "captions": 9}
    assert datamodule.describe()["test"]["ids"] == 2  # of whom one has a single image
    records = datamodule.records("train")
    assert [record.image_id for record in records] == list(range(4))
    labels = set()
    for epoch in range(3):
        for batch in one_epoch(datamodule, epoch):
            labels |= set(zip(batch.pid.tolist(), batch.label.tolist(), strict=True))
            assert batch.support.image_slots.min() >= 0
            assert batch.support.text_slots.min() >= 0
            assert [records[i].pid for i in batch.image_id] == batch.pid.tolist()
    assert labels == {(3, 0), (70, 1)}


def test_drop_says_nothing_where_nobody_is_dropped(make, entries):
    entries = [entry for entry in entries if entry["id"] != 12]
    datamodule = make(entries, supports={"num_images": 1, "num_texts": 1, "short": "drop"})
    datamodule.setup("fit")
    assert datamodule.num_train_pids == 2


def test_supports_of_an_evaluated_split(make):
    datamodule = make()
    datamodule.setup("test")
    settings = SupportSettings(num_images=2, num_texts=3, short="pad")
    supports = datamodule.supports_for("test", settings)
    # Images: 0 and 2 of person 11, 1 of person 40. Captions: 0, 1 of image 0; 2, 3 of 1; 4 of 2.
    assert supports.images.tolist() == [[2, -1], [-1, -1], [0, -1]]
    assert supports.texts[:4].tolist() == [[4, -1, -1], [4, -1, -1], [-1] * 3, [-1] * 3]
    assert sorted(supports.texts[4].tolist()) == [-1, 0, 1]
    with pytest.raises(ValueError, match="expected settings for the support sets of test"):
        datamodule.supports_for("test")
    own = make(supports={"num_images": 1, "num_texts": 1})
    own.setup("test")
    assert own.supports_for("test").images.tolist() == [[2], [-1], [0]]


def test_batches_are_pinned_and_moved_with_their_supports(make, monkeypatch):
    pinned = []
    monkeypatch.setattr(
        torch.Tensor, "pin_memory", lambda self, device=None: pinned.append(self) or self
    )
    datamodule = make(supports={"num_images": 1, "num_texts": 1})
    batch = one_epoch(datamodule)[0]
    assert type(pin_memory(batch).support) is type(batch.support)
    assert len(pinned) == 7 + 7
    moved = datamodule.transfer_batch_to_device(batch, torch.device("meta"), 0)
    parts = [part for part in moved.support if part is not None]
    assert {part.device.type for part in parts} == {"meta"}
    assert len(parts) == 7


def test_batches_are_made_in_spawned_workers_too(make):
    datamodule = make(supports={"num_images": 2, "num_texts": 2}, cache_images=True)
    (batch, *_) = one_epoch(datamodule)
    loader = datamodule.train_dataloader()
    dataset, collate = pickle.loads(  # noqa: S301  our own bytes
        pickle.dumps((loader.dataset, loader.collate_fn))
    )
    keys = list(loader.sampler)[:4]
    assert sets_of(collate([dataset[key] for key in keys])) == sets_of(batch)


def test_the_config_hands_the_settings_on(compose_config, tmp_path):
    paths = f"paths.output_dir={tmp_path}"
    assert build_datamodule(compose_config(paths)).supports is None
    for model, key in (("lcr2s", "model.teacher.supports"), ("lcr2s_teacher", "model.supports")):
        sizes = [f"{key}.num_images=3", f"{key}.num_texts=2"]
        datamodule = build_datamodule(compose_config(paths, f"model={model}", *sizes))
        assert datamodule.supports == SupportSettings(num_images=3, num_texts=2)
