import pickle
import warnings
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hydra.errors import HydraException
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from tireid.data.cuhk_pedes import read_cuhk_pedes
from tireid.data.datamodule import TireidDataModule
from tireid.data.split_counts import check_counts
from tireid.data.supports import SupportSettings
from tireid.data.tokenizers import TrainedWordPiece, load_tokenizer
from tireid.inference.build import build_datamodule

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@pytest.fixture
def make(write_data_set, tmp_path):
    """Makes a data module over the small data set; options replace defaults."""

    def make_datamodule(content=None, *, read_options=None, **options) -> TireidDataModule:
        root = write_data_set(content)
        defaults = {
            "read": partial(read_cuhk_pedes, root=root, **(read_options or {})),
            "tokenizer": TrainedWordPiece(vocab_size=150, max_length=20),
            "image_size": [12, 6],
            "mean": MEAN,
            "std": STD,
            "name": "small",
            "batch_size": 4,
            "num_workers": 0,
            "pad": 2,
            "cache_dir": tmp_path / "cache",
        }
        return TireidDataModule(**(defaults | options))

    return make_datamodule


def one_epoch(datamodule: TireidDataModule, epoch: int = 0) -> list:
    loader = datamodule.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def equal(first: list, second: list) -> bool:
    return len(first) == len(second) and all(
        (a is None and b is None) or torch.equal(a, b)
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def test_train_pairs_hold_the_image_of_their_caption(make):
    datamodule = make(pad=0, flip_probability=0.0)
    datamodule.setup("fit")
    records = datamodule.records("train")
    captions = [(record, caption) for record in records for caption in record.captions]
    number_of = {"70_0": 0, "3_0": 1, "70_1": 3, "12_0": 4, "3_1": 6}  # entries of the file
    batches = one_epoch(datamodule)
    assert len(batches) == 2  # ten pairs, four a batch, the rest dropped
    for batch in batches:
        assert batch.images.shape == (4, 3, 12, 6)
        assert batch.images.dtype == torch.float32
        for row in range(4):
            record, caption = captions[batch.index[row]]
            assert batch.pid[row] == record.pid
            assert batch.label[row] == [3, 12, 70].index(record.pid)
            assert batch.image_id[row] == record.image_id
            ids = datamodule.tokenizer([caption])[0]
            assert batch.token_ids[row][batch.valid[row]].tolist() == ids
            red = 10 * number_of[record.image_path.stem]
            expected = torch.tensor([red, 20, 30]) / 255 * 2 - 1
            torch.testing.assert_close(batch.images[row, :, 5, 3], expected)
        assert batch.valid.any(dim=0).all()  # no longer than the longest caption


def test_labels_are_contiguous_in_the_order_of_the_identities(make):
    datamodule = make()
    datamodule.setup("fit")
    assert datamodule.num_train_pids == 3
    pairs = {
        (int(pid), int(label))
        for epoch in range(4)
        for batch in one_epoch(datamodule, epoch)
        for pid, label in zip(batch.pid, batch.label, strict=True)
    }
    assert pairs == {(3, 0), (12, 1), (70, 2)}


def test_captions_that_are_cut_are_counted_for_each_split(make):
    whole = make(tokenizer=TrainedWordPiece(vocab_size=150, max_length=99))
    whole.setup("fit")
    assert whole.cut_captions() == ""
    short = make(tokenizer=TrainedWordPiece(vocab_size=150, max_length=4))
    short.setup("fit")
    lengths = {
        split: [
            len(whole.tokenizer([caption])[0])
            for record in whole.records(split)
            for caption in record.captions
        ]
        for split in ("train", "val", "test")
    }
    longest = max(max(values) for values in lengths.values())
    cut = sum(length > 4 for length in lengths["test"])
    total = len(lengths["test"])
    said = short.cut_captions()
    assert f"test {cut} of {total} ({100 * cut / total:.1f} %)" in said
    assert said.startswith("captions cut to 4 tokens: train ")
    assert said.endswith(f"text_encoder.tokenizer.max_length={longest} would cut none")


@pytest.mark.parametrize("split", ["val", "test"])
def test_every_caption_is_a_query_and_every_image_is_there_once(make, split):
    datamodule = make(eval_batch_size=2)
    datamodule.setup("fit" if split == "val" else "test")
    records = datamodule.records(split)
    text_loader, image_loader = (
        datamodule.val_dataloader() if split == "val" else datamodule.test_dataloader()
    )
    images = list(image_loader)
    assert torch.cat([b.index for b in images]).tolist() == list(range(len(records)))
    assert torch.cat([b.pid for b in images]).tolist() == [r.pid for r in records]
    captions = [(record, caption) for record in records for caption in record.captions]
    for batch in text_loader:
        for row, index in enumerate(batch.index.tolist()):
            record, caption = captions.pop(0)
            assert batch.pid[row] == record.pid
            assert records[batch.image_index[row]] == record
            assert (
                batch.token_ids[row][batch.valid[row]].tolist()
                == (datamodule.tokenizer([caption])[0])
            )
            assert index == int(batch.index[row])
    assert not captions


def test_eval_image_transform_gives_what_the_batches_hold(make):
    datamodule = make()
    datamodule.setup("test")
    batch = next(iter(datamodule.test_dataloader()[1]))
    path = datamodule.records("test")[1].image_path
    assert torch.equal(datamodule.eval_image_transform(path), batch.images[1])
    with Image.open(path) as picture:
        assert torch.equal(datamodule.eval_image_transform(picture), batch.images[1])


def test_epochs_differ_and_repeat_exactly(make):
    datamodule, again = make(), make()
    datamodule.setup("fit")
    again.setup("fit")
    assert equal(one_epoch(datamodule, 1), one_epoch(again, 1))
    assert not equal(one_epoch(datamodule, 0), one_epoch(datamodule, 1))
    other = make(seed=1)
    other.setup("fit")
    assert not equal(one_epoch(datamodule, 0), one_epoch(other, 0))


PACKED = {"cache": "packed", "num_workers": 2, "prefetch": 3, "persistent_workers": False}


@pytest.mark.parametrize(
    "options", [{"num_workers": 2}, {"cache_images": True}, {"cache": "packed"}, PACKED]
)
def test_workers_and_cache_change_nothing(make, options):
    plain, other = make(erase_probability=0.5), make(erase_probability=0.5, **options)
    plain.setup("fit")
    other.setup("fit")
    loader = other.train_dataloader()  # the same workers in both epochs
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        assert equal(one_epoch(plain, epoch), list(loader))
    assert equal(list(plain.val_dataloader()[1]), list(other.val_dataloader()[1]))


class Seen(LightningModule):
    """Keeps the batches that a trainer gives it."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.batches, self.images = [], []

    def training_step(self, batch, batch_idx):
        self.batches.append(batch)

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        if dataloader_idx == 1:
            self.images.append(batch)

    def configure_optimizers(self):
        return None


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*isinstance.treespec")
@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_images_that_travel_as_bytes_are_the_same_where_they_arrive(make, precision):
    supports = SupportSettings(num_images=2, num_texts=1)

    def seen(place):
        datamodule = make(normalise_on=place, supports=supports)
        trainer = Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            precision=precision,
        )  # fmt: skip
        model = Seen()
        trainer.fit(model, datamodule=datamodule)
        sent = next(iter(datamodule.train_dataloader()))
        assert sent.images.dtype == sent.support.images.dtype
        assert (sent.images.dtype == torch.uint8) is (place == "device")
        (alone,) = {batch.images.dtype for batch in datamodule.whole_split("val")[1]}
        assert alone == torch.float32
        return model

    here, there = seen("worker"), seen("device")
    expected = torch.float64 if precision == "64-true" else torch.float32
    for one, other in zip(here.batches + here.images, there.batches + there.images, strict=True):
        assert one.images.dtype == other.images.dtype == expected
        assert torch.equal(one.images, other.images)
    for one, other in zip(here.batches, there.batches, strict=True):
        assert torch.equal(one.support.images, other.support.images)


def test_images_with_erased_rectangles_are_normalised_by_the_workers(make):
    datamodule = make(normalise_on="device", erase_probability=0.5)
    datamodule.trainer = SimpleNamespace(world_size=1, global_rank=0, num_devices=1)
    datamodule.setup("fit")
    assert one_epoch(datamodule)[0].images.dtype == torch.float32
    assert next(iter(datamodule.val_dataloader()[1])).images.dtype == torch.uint8


def test_loading_leaves_the_global_generator_alone(make):
    datamodule = make()
    datamodule.setup("fit")
    state = torch.get_rng_state()
    one_epoch(datamodule)
    list(datamodule.val_dataloader()[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_ranks_share_the_global_batch(make):
    whole = make()
    whole.setup("fit")
    shares = []
    for rank in range(2):
        datamodule = make()
        datamodule.trainer = SimpleNamespace(world_size=2, global_rank=rank, num_devices=2)
        datamodule.setup("fit")
        shares.append(one_epoch(datamodule))
        texts, _ = datamodule.val_dataloader()
        assert len(texts.sampler) == 2
    for batch, parts in zip(one_epoch(whole), zip(*shares, strict=True), strict=True):
        assert [part.images.shape[0] for part in parts] == [2, 2]
        assert torch.equal(batch.index, torch.cat([part.index for part in parts]))
        assert torch.equal(batch.images, torch.cat([part.images for part in parts]))


def test_identity_balanced_batches(make):
    datamodule = make(sampler="identity_balanced", pairs_per_id=2)
    datamodule.setup("fit")
    for batch in one_epoch(datamodule):
        assert torch.bincount(batch.label, minlength=3).sort().values.tolist() == [0, 2, 2]


def test_tokenizer_learns_from_train_and_a_restored_one_is_left_alone(make, tmp_path):
    datamodule = make()
    datamodule.setup("test")
    datamodule.tokenizer.save(tmp_path / "run")
    vocabulary = (tmp_path / "run/tokenizer.json").read_text()
    assert '"woman"' in vocabulary
    assert "dotted" not in vocabulary  # a word of a test caption
    restored = make(tokenizer=load_tokenizer(tmp_path / "run"))
    restored.setup("test")
    assert equal(list(datamodule.test_dataloader()[0]), list(restored.test_dataloader()[0]))


def test_files_are_read_once(make, write_data_set):
    calls = []
    root = write_data_set()

    def read():
        calls.append(1)
        return read_cuhk_pedes(root)

    datamodule = make(read=read)
    for stage in ("fit", "test", "fit", None):
        datamodule.setup(stage)
    assert len(calls) == 1


def test_describe(make):
    datamodule = make()
    datamodule.setup()
    assert datamodule.describe() == {
        "train": {"ids": 3, "images": 5, "captions": 10},
        "val": {"ids": 2, "images": 2, "captions": 4},
        "test": {"ids": 2, "images": 3, "captions": 5},
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected a positive integer, got 0"),
        ({"eval_batch_size": 0}, "eval_batch_size: expected a positive integer, got 0"),
        ({"prefetch": 0}, "prefetch: expected a positive integer, got 0"),
        ({"cache": "disk"}, "cache: expected packed or null, got 'disk'"),
        (
            {"normalise_on": "moon"},
            "normalise_on: expected one of auto, worker, device, got 'moon'",
        ),
        ({"decode": "quick"}, "decode: expected pillow or fast, got 'quick'"),
        ({"bad_images": 2.0}, r"bad_images: expected a number in \[0, 1\], got 2.0"),
        ({"num_workers": -1}, "num_workers: expected an integer >= 0 or null, got -1"),
        ({"sampler": "random"}, "sampler: expected one of shuffled, identity_balanced"),
        ({"image_size": [0, 4]}, "image_size: expected"),
        ({"interpolation": "best"}, "interpolation: expected one of"),
        ({"pad": -1}, "pad: expected"),
        ({"std": (1.0, 1.0, 0.0)}, "std: expected"),
    ],
)
def test_options_are_checked(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_batch_size_must_fit(make):
    datamodule = make(batch_size=16)
    with pytest.warns(UserWarning, match="batch_size=16 is more than the 10 training pairs"):
        datamodule.setup("fit")
    (batch,) = datamodule.train_dataloader()
    assert sorted(batch.index.tolist()) == list(range(10))
    datamodule = make(batch_size=5)
    datamodule.trainer = SimpleNamespace(world_size=2, global_rank=0, num_devices=2)
    with pytest.raises(ValueError, match="a multiple of the 2 processes, got 5"):
        datamodule.setup("fit")


def test_empty_split_is_an_error_when_it_is_needed(make, entries):
    datamodule = make(
        [e for e in entries if e["split"] == "train"], read_options={"val_fraction": 0.0}
    )
    datamodule.setup("fit")
    assert datamodule.val_dataloader() == []
    with pytest.raises(ValueError, match=r"small: expected images in split 'test', got train \(5"):
        datamodule.test_dataloader()


def test_nothing_is_known_before_setup(make):
    with pytest.raises(ValueError, match=r"expected setup\(\) before"):
        _ = make().num_train_pids


@pytest.mark.parametrize("start", ["setup", "prepare_data"])
def test_broken_image_is_found_before_training(make, write_data_set, start):
    datamodule = make()
    broken = write_data_set() / "imgs/cam_b/11_1.png"  # of test, though it is a fit that starts
    broken.write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 10 images cannot be read.*\n.*11_1\.png.*is empty"):
        datamodule.setup("fit") if start == "setup" else datamodule.prepare_data()


COUNTS = {
    "train": {"ids": 3, "images": 5, "captions": 10},
    "val": {"ids": 2, "images": 2, "captions": 4},
    "test": {"ids": 2, "images": 3, "captions": 5},
}


def test_declared_counts_that_fit_are_silent(make):
    make(counts=COUNTS).setup("fit")


def test_another_count_is_one_warning_a_split(make):
    counts = COUNTS | {"train": {"ids": 4, "images": 5, "captions": 1010}}
    with pytest.warns(UserWarning, match="small, train") as caught:
        make(counts=counts).setup("fit")
    assert len(caught) == 1
    assert str(caught[0].message).startswith(
        "small, train: expected 4 ids, got 3 (-1); 1,010 captions, got 10 (-1,000)."
    )


def test_other_release_is_recognised(make):
    counts = COUNTS | {"test": {"ids": 200, "images": 1000, "captions": 2000}}
    with pytest.warns(UserWarning, match="they are those of the old release, whose results do not"):
        make(counts=counts, other_releases={"the old release": COUNTS}).setup("fit")


@pytest.mark.parametrize(
    "counts",
    [7, [], {"train": []}, {"train": {"ids": []}}, {"val": {"people": 1}}, {"val": {"ids": -1}}],
)
def test_counts_that_are_none_are_named(counts):
    with pytest.raises(
        ValueError, match=r"dataset\.counts.*: expected whole numbers of ids, images"
    ):
        check_counts(counts, "dataset.counts")


def test_val_held_out_counts_as_train(make, entries):
    entries = [e for e in entries if e["split"] != "val"]
    counts = {split: COUNTS[split] for split in ("train", "test")}
    make(entries, counts=counts).setup("fit")


def test_datasets_travel_to_spawned_workers(make):
    datamodule = make(cache_images=True)
    datamodule.setup("fit")
    loader = datamodule.train_dataloader()
    dataset = pickle.loads(pickle.dumps(loader.dataset))  # noqa: S301  our own bytes
    key = next(iter(loader.sampler))
    assert torch.equal(dataset.collate([key]).images, loader.dataset.collate([key]).images)


class Recorder(LightningModule):
    """Notes which pairs each epoch trains on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, int]] = []

    def training_step(self, batch, batch_index):
        self.seen += [(self.current_epoch, index) for index in batch.index.tolist()]
        return self.weight * batch.images.mean()

    def validation_step(self, batch, batch_index, dataloader_idx=0):
        return None

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_run_sees_the_epochs_of_an_unbroken_one(make, tmp_path, num_workers):
    def run(epochs: int, checkpoint=None) -> Recorder:
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        model = Recorder()
        trainer.fit(model, datamodule=make(num_workers=num_workers), ckpt_path=checkpoint)
        if checkpoint is None:
            trainer.save_checkpoint(tmp_path / "last.ckpt")
        return model

    with warnings.catch_warnings():
        # Lightning's own, on attributes of torch that are renamed.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        unbroken = run(3).seen
        first = run(2).seen
        resumed = run(3, tmp_path / "last.ckpt").seen
    assert first + resumed == unbroken
    assert {epoch for epoch, _ in resumed} == {2}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("sampler", ["shuffled", "identity_balanced"])
def test_an_epoch_is_continued_without_loading_what_was_done(
    make, monkeypatch, num_workers, sampler
):
    from tireid.data.datasets import PairDataset

    options = {"num_workers": num_workers, "batch_size": 2, "sampler": sampler, "pairs_per_id": 1}
    datamodule = make(**options)
    datamodule.setup("fit")
    epochs = [one_epoch(datamodule, epoch) for epoch in (3, 4)]
    assert len(epochs[0]) == 5
    loader = datamodule.train_dataloader()
    loader.sampler.set_epoch(3)
    loader.load_state_dict({"batches": 3})
    loaded = []
    get = PairDataset.__getitem__
    monkeypatch.setattr(
        PairDataset, "__getitem__", lambda d, key: loaded.append(key) or get(d, key)
    )
    assert equal(list(loader), epochs[0][3:])
    assert num_workers or len(loaded) == 4
    loader.sampler.set_epoch(4)
    assert equal(list(loader), epochs[1])  # only once
    loader.load_state_dict({"batches": 5})  # all of an epoch
    assert equal(list(loader), epochs[1])


def test_a_loader_says_how_many_batches_of_an_epoch_it_gave(make):
    datamodule = make(batch_size=2)
    datamodule.setup("fit")
    loader = datamodule.train_dataloader()
    iterator = iter(loader)
    found = [loader.state_dict()["batches"] for _ in iterator]
    assert found == [1, 2, 3, 4, 0]


def test_captions_of_training_are_augmented_and_those_of_a_clean_pass_are_not(
    compose_config, cache_dir, tmp_path
):
    small = [f"dataset.read.num_{s}_ids={n}" for s, n in (("train", 6), ("val", 3), ("test", 3))]
    places = [f"paths.cache_dir={cache_dir}", f"paths.output_dir={tmp_path}"]
    cfg = compose_config(*small, *places, "dataset.word_probability=0.5", "batch_size=8")
    data = build_datamodule(cfg)
    data.setup("fit")
    captions = data.tokenizer([c for record in data.records("train") for c in record.captions])

    def changed(loader):
        rows = [
            ids[valid].tolist() != captions[index]
            for batch in loader
            for ids, valid, index in zip(batch.token_ids, batch.valid, batch.index, strict=True)
        ]
        return sum(rows) / len(rows)

    assert changed(data.train_dataloader()) > 0.9
    assert changed(data.training_pass(-1, augmented=True)) > 0.9
    assert changed(data.training_pass(-1, augmented=False)) == 0
    cfg.text_encoder.words = None
    with pytest.raises(HydraException, match="word_probability: expected mask_id, first_word"):
        build_datamodule(cfg)
