"""The LightningDataModule of all data sets: a parser's records in, batches out."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from tireid.data.caption_augmentation import caption_augmentation
from tireid.data.datasets import ImageDataset, PairDataset, TextDataset
from tireid.data.encoded_captions import EncodedCaptions
from tireid.data.image_input import ImageInput
from tireid.data.image_source import ImageSource
from tireid.data.loading import Loading
from tireid.data.masking import WordMasking
from tireid.data.records import Record, Splits, captions_of, split_sha256
from tireid.data.samplers import GlobalBatchSampler, check_batch_size
from tireid.data.sampling import Sampling
from tireid.data.split_counts import Counts, count
from tireid.data.split_reader import SplitReader
from tireid.data.supports import SplitSupports, SupportDrawing, SupportSettings
from tireid.data.tokenizers import CaptionTokenizer
from tireid.data.transforms import Normalise, TrainTransform
from tireid.data.word_features import WordEncoder, word_table
from tireid.data.word_table import WordTable, WordType
from tireid.files import resolve_cache_dir


class TireidDataModule(LightningDataModule):
    """Batches of one data set.

    Args:
        read: Returns the records of each split; called once, on first use.
        tokenizer: Turns captions into ids; learns its vocabulary from the training captions if it
            has none.
        image_size: Height and width in pixels.
        mean: Mean of the image encoder's input, one number a channel, in [0, 1].
        std: Standard deviation of the image encoder's input, one number a channel, in [0, 1].
        name: Name of the data set.
        root: Folder of the data set, for the record; `read` knows its own.
        terms: Terms of the owners, for the record.
        interpolation: Filter of the resizing: `bicubic`, `bilinear`, ...
        shortest_edge: As in `tireid.data.images.read_image`.
        decode: `pillow` or `fast`, as `decoder` in `tireid.data.images.read_image`.
        batch_size: Training pairs of a step on all processes together.
        eval_batch_size: Texts or images of an evaluation step on one process.
        num_workers: Loading processes of each training process; None: none if images are cached,
            else up to 8.
        prefetch: Batches that each of them has ready.
        persistent_workers: Whether those of a training stay for its next epoch.
        normalise_on: `worker`, `device` or `auto`, as in `ImageInput`; changes no result.
        sampler: `shuffled`, over pairs, or `identity_balanced`.
        pairs_per_id: Pairs of an identity in a batch of `identity_balanced`.
        weights: Share of an epoch that each set of a mixed data set has; None: as its size.
        pad: Black pixels around a training image before a random crop of its size.
        flip_probability: Probability of mirroring a training image, in [0, 1].
        erase_probability: Probability of erasing a rectangle of a training image, in [0, 1].
        erase_value: What is written there, one number a channel, after normalisation; 0 is the
            mean colour.
        colour_jitter: Largest relative change of brightness, contrast and saturation of a training
            image, in [0, 1].
        word_probability: Probability of masking, replacing or deleting a word piece of a training
            caption, in [0, 1]; see `CaptionAugmentation`.
        back_translation: Probability of taking the translation of a training caption into another
            language and back, where the data set holds one, in [0, 1].
        word_ids: `mask_id`, `first_word` and `end_word` of the vocabulary, for it.
        noise: Share of the training pairs whose captions are exchanged, in [0, 1], or a file that
            says which; see `mismatched`.
        cache_images: Whether to keep all resized images in memory; changes no result.
        cache: `packed` keeps them in one file instead, as in `ImageInput`; changes no result.
        bad_images: Share of the training images that may be left out because they cannot be read,
            in [0, 1]; other splits have to be whole.
        seed: Key of all random draws, with the epoch.
        supports: Size and content of the support sets of training batches; None: there are none.
        masking: How words of the training captions are masked; None: they are not.
        counts: Declared `ids`, `images` and `captions` of each split of the files; another number
            is warned about. Without `val`, a split held out of `train` counts as `train`.
        other_releases: Counts of other releases, by name, to recognise them.
        cache_dir: Folder that remembers which images were checked, and keeps packed ones; None:
            the user's cache.
        validation_split: Split of `val_dataloader`: `val`, or `test` where that selects.

    Attributes:
        words: Tables of token features for the batches, by split; see `cache_words`.
        bad_images: The training images that are left out, each with the reason.
        support_batches: Whether training batches carry the support sets that `supports` describes.

    Raises:
        ValueError: If a value is out of its range.
    """

    words: dict[str, WordTable]
    bad_images: dict[Path, str]
    _splits: Splits | None = None

    def __init__(
        self,
        read: Callable[[], Splits],
        tokenizer: CaptionTokenizer,
        image_size: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        *,
        name: str = "",
        root: str | Path | None = None,
        terms: str = "",
        interpolation: str = "bicubic",
        shortest_edge: int | None = None,
        decode: str = "pillow",
        batch_size: int = 64,
        eval_batch_size: int = 256,
        num_workers: int | None = None,
        prefetch: int = 2,
        persistent_workers: bool = True,
        normalise_on: str = "auto",
        sampler: str = "shuffled",
        pairs_per_id: int = 4,
        weights: Mapping[str, float | int] | None = None,
        pad: int = 10,
        flip_probability: float = 0.5,
        erase_probability: float = 0.0,
        erase_value: Sequence[float] = (0.0, 0.0, 0.0),
        colour_jitter: float = 0.0,
        word_probability: float = 0.0,
        back_translation: float = 0.0,
        word_ids: Mapping[str, int] | None = None,
        noise: float | str = 0.0,
        cache_images: bool = False,
        cache: str | None = None,
        bad_images: float = 0.0,
        seed: int = 0,
        supports: SupportSettings | None = None,
        masking: WordMasking | None = None,
        counts: Counts | None = None,
        other_releases: Mapping[str, Counts] | None = None,
        cache_dir: str | Path | None = None,
        validation_split: str = "val",
    ) -> None:
        super().__init__()
        check_batch_size(batch_size)
        if validation_split not in ("val", "test"):
            raise ValueError(f"validation_split: expected val or test, got {validation_split!r}")
        self.name, self.root, self.terms = name, root, terms
        self.tokenizer = tokenizer
        erasing = erase_probability, tuple(erase_value)
        augmented = TrainTransform(
            Normalise(mean, std), pad, flip_probability, *erasing, colour_jitter
        )
        reading = image_size, interpolation, shortest_edge, decode
        self._input = ImageInput(augmented, *reading, cache_images, cache, normalise_on)
        self.image_size = self._input.image_size
        self.batch_size = batch_size
        self.supports, self.support_batches = supports, supports is not None
        self.words, self.bad_images = {}, {}
        self._masking, self._seed = masking, seed
        self._caption_augmentation = caption_augmentation(word_probability, word_ids)
        self._loading = Loading(
            eval_batch_size, num_workers, prefetch, persistent_workers, cache_images, seed
        )
        self._sampling = Sampling(sampler, pairs_per_id, weights, seed)
        self._cache_dir = resolve_cache_dir(cache_dir)
        checked = self._cache_dir / "checked-images"
        releases = other_releases or {}
        self._reader = SplitReader(
            name or "", read, counts, releases, bad_images, checked, supports, noise, seed
        )
        self._validation_split = validation_split
        self._captions = EncodedCaptions(tokenizer, back_translation)
        self._label_of, self._images = dict[int, int](), dict[str, ImageSource]()

    @property
    def num_train_pids(self) -> int:
        """Number of training classes: identities read, not declared."""
        self.records("train")
        return len(self._label_of)

    def records(self, split: str) -> list[Record]:
        """Return the records of a split.

        Raises:
            ValueError: If `setup` was not called, or the split is empty.
        """
        if self._splits is None:
            raise ValueError(f"expected setup() before the records of {split} are asked for")
        records = self._splits.get(split)
        if not records:
            has = ", ".join(f"{key} ({len(value)} images)" for key, value in self._splits.items())
            raise ValueError(
                f"{self.name}: expected images in split {split!r}, got {has or 'none'}"
            )
        return records

    def describe(self) -> dict[str, dict[str, int]]:
        """Return the numbers of `ids`, `images` and `captions` of each split."""
        return {split: count(self.records(split)) for split in self._splits or {}}

    def cut_captions(self) -> str:
        """Describe how many captions of each split are cut; empty if none is."""
        return self._captions.cut(self._splits or {})

    def fingerprints(self) -> dict[str, str]:
        """Return a SHA-256 of each split's pids, file names and captions, in their order."""
        return {
            split: split_sha256(
                records, translated=split == "train" and self._captions.are_translated
            )
            for split, records in (self._splits or {}).items()
        }

    def eval_image_transform(self, source: Path | Image.Image) -> Float[Tensor, "3 height width"]:
        """Return an image as an evaluation batch would hold it."""
        return self._input.read(source)

    def supports_for(self, split: str, settings: SupportSettings | None = None) -> SplitSupports:
        """Return a support set for every image and every caption of an evaluated split.

        Support sets use the split's identities, so results with them are those of an oracle. The
        draw is the same at each call; `drop` leaves no identity out.

        Args:
            split: `val` or `test`; also `train`, to encode all of it once.
            settings: Size and content of the sets; None: those of the training batches.

        Raises:
            ValueError: If there are no settings, `setup` was not called, or the split is empty.
        """
        settings = settings if settings is not None else self.supports
        if settings is None:
            raise ValueError(
                f"expected settings for the support sets of {split}, got none;"
                " give them here or to the data module"
            )
        return SupportDrawing(self.records(split), settings, self._seed).for_split()

    def prepare_data(self) -> None:
        """Create or check files, in one process of each machine before all others start."""
        _, self.bad_images = self._reader.readable(self._reader.read(), progress=self._rank == 0)

    def setup(self, stage: str | None = None) -> None:
        """Read the annotations once and prepare the splits of a stage.

        Args:
            stage: `fit`, `validate`, `test`, or None for all splits.

        Raises:
            FileNotFoundError: If the data set is missing.
            ValueError: If its files are damaged, or the batch size does not fit.
        """
        # Few workers are meant where the images are in memory or the user says so.
        warnings.filterwarnings(
            "ignore", message=".*does not have many workers", category=PossibleUserWarning
        )
        if self._splits is None:
            self._splits, self.bad_images = self._reader.splits(progress=self._rank == 0)
            train_pids = sorted({record.pid for record in self._splits.get("train", [])})
            self._label_of = {pid: label for label, pid in enumerate(train_pids)}
        if not self.tokenizer.is_fitted:
            self._captions.fit(self.records("train"))
        validated = self._validation_split
        of_stage = {"fit": ("train", validated), "validate": (validated,), "test": ("test",)}
        for split in of_stage.get(stage or "", tuple(self._splits)):
            if split in self._splits and split not in self._images:
                self._prepare(split)
        if stage == "fit":
            self._fit_batch_size()
            self._train_sampler(self._train_dataset())

    def _fit_batch_size(self) -> None:
        """Use all pairs as one batch if the data set is smaller than a batch."""
        pairs = len(captions_of(self.records("train")))
        if pairs < self.batch_size:
            fitting = self._sampling.fitting(pairs, self._num_replicas)
            rank_zero_warn(
                f"batch_size={self.batch_size} is more than the {pairs} training pairs of "
                f"{self.name}; {fitting} is used"
            )
            self.batch_size = fitting

    def cache_words(self, encoder: WordEncoder, dtype: WordType = "float32") -> None:
        """Put the token features of a frozen encoder into all batches, from tables on disk.

        Args:
            encoder: Encodes the captions of tables that are not in the cache folder yet.
            dtype: Type of the numbers in the tables.

        Raises:
            ValueError: If `setup` was not called, or a feature cannot be stored.
            OSError: If a table cannot be kept.
        """
        if self._splits is None:
            raise ValueError("expected setup() before token features are cached")
        self.words = {
            split: word_table(
                encoder,
                self._tokens(split),
                self._cache_dir,
                dtype=dtype,
                progress=self._rank == 0,
            )
            for split in self._splits
        }

    def train_dataloader(self) -> DataLoader[Any]:
        """Return batches of this process's share of the global batch."""
        in_bytes = self._input.in_bytes(self.trainer, training=True)
        dataset = self._train_dataset(in_bytes=in_bytes)
        images = texts = 1
        if self.supports is not None:
            images, texts = images + self.supports.num_images, texts + self.supports.num_texts
        words = self.words.get("train")
        caption_bytes = 0 if words is None else words.num_bytes // len(words)
        image_bytes = self._input.num_bytes(in_bytes=in_bytes)
        sample_bytes = images * image_bytes + texts * caption_bytes
        size, sampler = self.batch_size // self._num_replicas, self._train_sampler(dataset)
        return self._loading.training(dataset, sampler, size, sample_bytes, self.trainer)

    def training_pass(self, key: int, *, augmented: bool) -> DataLoader[Any]:
        """Return batches that reach every training pair, beside those that train.

        Args:
            key: Stands for the epoch in what is drawn: order and augmentation.
            augmented: Whether images and captions are augmented as for training.
        """
        dataset = self._train_dataset(augmented=augmented)
        sampler = self._sampling.covering(len(dataset), self.batch_size, **self._ranks)
        sampler.set_epoch(key)
        image_bytes = self._input.num_bytes(in_bytes=False)
        size = self.batch_size // self._num_replicas
        return self._loading.training(dataset, sampler, size, image_bytes, self.trainer, once=True)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Return the loaders of texts and of images; none where there is no such split."""
        split = self._validation_split
        return self._evaluation_loaders(split) if (self._splits or {}).get(split) else []

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """Return the loaders of texts and of images."""
        return self._evaluation_loaders("test")

    def whole_split(self, split: str) -> list[DataLoader[Any]]:
        """Return the loaders of all texts and images of a split, the same on every process."""
        return self._evaluation_loaders(split, {"num_replicas": 1, "rank": 0})

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise images that came as bytes, and cast them as the trainer's precision asks."""
        made = self._input.normalised(batch)
        if made is batch or self.trainer is None:
            return made
        return self.trainer.precision_plugin.convert_input(made)

    @property
    def _ranks(self) -> dict[str, int]:
        return {"num_replicas": self._num_replicas, "rank": self._rank}

    @property
    def _num_replicas(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0

    def _prepare(self, split: str) -> None:
        records = self.records(split)
        paths = [record.image_path for record in records]
        images = self._input.source(paths, self._cache_dir, progress=self._rank == 0)
        self._tokens(split)
        self._images[split] = images

    def _tokens(self, split: str) -> list[list[int]]:
        return self._captions.of(split, self.records(split))

    def _train_dataset(self, *, augmented: bool = True, in_bytes: bool = False) -> PairDataset:
        records = self.records("train")
        return PairDataset(
            records,
            self._tokens("train"),
            self._images["train"],
            label_of=self._label_of,
            transform=self._input.training_transform(augmented=augmented, in_bytes=in_bytes),
            seed=self._seed,
            pad_id=self.tokenizer.pad_id,
            words_of=self.words.get("train"),
            caption_transform=self._caption_augmentation if augmented else None,
            translation=self._captions.translation(records) if augmented else None,
            supports=SupportDrawing(records, self.supports, self._seed)
            if self.supports is not None and self.support_batches
            else None,
            masking=self._masking,
        )

    def _train_sampler(self, dataset: PairDataset) -> GlobalBatchSampler:
        records = self.records("train")
        return self._sampling.training(records, dataset.labels, self.batch_size, **self._ranks)

    def _evaluation_loaders(
        self, split: str, ranks: Mapping[str, int] | None = None
    ) -> list[DataLoader[Any]]:
        records = self.records(split)
        texts = TextDataset(
            records,
            self._tokens(split),
            pad_id=self.tokenizer.pad_id,
            words_of=self.words.get(split),
        )
        # Other ranks than the trainer's are asked for by code that moves the batches itself.
        in_bytes = ranks is None and self._input.in_bytes(self.trainer, training=False)
        transform = self._input.transform(in_bytes=in_bytes)
        images = ImageDataset(records, self._images[split], transform)
        ranks = self._ranks if ranks is None else ranks
        image_bytes = self._input.num_bytes(in_bytes=in_bytes)
        return [
            self._loading.evaluation(dataset, item_bytes, self.trainer, **ranks)
            for dataset, item_bytes in ((texts, 0), (images, image_bytes))
        ]
