"""What tests share: two processes, composed configs, one small trained run."""

import os
import pickle
import random
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import transformers
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from tokenizers import pre_tokenizers

from tireid.files import conf_dir
from tireid.inference.build import build_datamodule, build_encoders, build_model

collect_ignore_glob = ["system/fuzz/*"]  # a program beside its test

# Whoever is logged in, tests upload nothing; those of Weights & Biases choose a mode.
os.environ["WANDB_MODE"] = "disabled"
os.environ["WANDB_ERROR_REPORTING"] = "false"

TOWER = {  # of the library's models
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
}
SMALL = [
    "recipe=scratch",  # in float32
    "logger=csv",
    "trainer=cpu",
    "max_epochs=2",
    "batch_size=8",
    "dataset.read.num_train_ids=8",
    "dataset.read.num_val_ids=3",
    "dataset.read.num_test_ids=4",
    "dataset.read.images_per_id=2",
    "dataset.image_size=[48,16]",
    "callbacks.gallery.num_queries=2",
    "callbacks.gallery.top_k=3",
]


@pytest.hookimpl(trylast=True)  # after tests are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, so that no worker is left alone with one of them."""
    weights = Counter[Path]()
    for item in items:
        weights[item.path] += 20 if item.get_closest_marker("slow") else 1
    items.sort(key=lambda item: -weights[item.path])


@pytest.fixture(scope="session")
def compose_config():
    """Return a function from overrides to a config, of which each choice of groups is made once.

    Values are set in a copy of it, by Hydra's own function: a tenth of the time.
    """
    parse = cache(OverridesParser.create().parse_override)

    @cache
    def chosen(name, choices):
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            return pickle.dumps(compose(name, list(choices)))

    def is_choice(override):
        key = parse(override).key_or_group
        return key.startswith("hydra") or Path(conf_dir(), key).is_dir()

    def config(*overrides, name="train"):
        values = [parse(override) for override in overrides if not is_choice(override)]
        cfg = pickle.loads(chosen(name, tuple(filter(is_choice, overrides))))  # noqa: S301
        ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
        return cfg

    return config


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def small_config(compose_config, cache_dir):
    """Return a function to a config that trains in seconds on a few synthetic identities."""

    def composed(output_dir, *overrides):
        cfg = compose_config(*SMALL, f"paths.cache_dir={cache_dir}", *overrides)
        cfg.paths.output_dir = str(output_dir)  # not an override: most tests have a folder each
        return cfg

    return composed


@pytest.fixture(scope="session")
def undrawn_config(small_config):
    """Return the same function, to a config without figures: a quarter of a small run's time."""
    return lambda folder, *overrides: small_config(
        folder, *overrides, "~callbacks.curves", "~callbacks.gallery"
    )


@pytest.fixture(scope="session")
def lgur_run(small_config, tmp_path_factory):
    """Return the run folder of a short LGUR training and what it returned."""
    from tireid.training.run import train

    folder = tmp_path_factory.mktemp("lgur_run")
    return folder, train(small_config(folder, "model=lgur"))


@pytest.fixture
def copied_run(lgur_run, tmp_path) -> Path:
    """Return a copy of that run folder whose files, checkpoints apart, may be changed."""

    def copy(source, place):
        return os.link(source, place) if source.endswith(".ckpt") else shutil.copy2(source, place)

    return shutil.copytree(lgur_run[0], tmp_path / "run", copy_function=copy)


@pytest.fixture(scope="session")
def small_data(small_config, tmp_path_factory):
    """Return the data module of the small configs, its splits prepared."""
    datamodule = build_datamodule(small_config(tmp_path_factory.mktemp("small_data")))
    datamodule.prepare_data()
    datamodule.setup(None)
    return datamodule


@pytest.fixture(scope="session")
def untrained_run(small_config, small_data, tmp_path_factory):
    """Return a function from overrides to a run folder with random weights, made in no time."""

    def made(*overrides):
        folder = tmp_path_factory.mktemp("untrained")
        cfg = small_config(folder, *overrides)
        torch.manual_seed(3)
        model = build_model(cfg, build_encoders(cfg), small_data.num_train_pids)
        settings = OmegaConf.to_container(cfg, resolve=True)
        settings["num_train_pids"] = small_data.num_train_pids
        OmegaConf.save(settings, folder / "config.yaml")
        small_data.tokenizer.save(folder / "tokenizer")
        (folder / "checkpoints").mkdir()
        torch.save({"state_dict": model.state_dict()}, folder / "checkpoints" / "last.ckpt")
        return folder

    return made


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """Return the folder of a whole CLIP of random weights, with processor and tokenizer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet), "<|startoftext|>"]
    words.append("<|endoftext|>")
    tower = {**TOWER, "projection_dim": 16}
    text = {"vocab_size": len(words), "max_position_embeddings": 20, "eos_token_id": len(words) - 1}
    config = transformers.CLIPConfig(
        text_config=tower | text | {"bos_token_id": len(words) - 2},
        vision_config=tower | {"image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    processor = transformers.CLIPProcessor(
        transformers.CLIPImageProcessorPil(size={"shortest_edge": 36}, crop_size=32),
        transformers.CLIPTokenizer({word: number for number, word in enumerate(words)}, []),
    )
    return _saved(transformers.CLIPModel, config, processor, tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def siglip_folder(tmp_path_factory) -> Path:
    """Return the folder of a whole SigLIP 2 of random weights, as `clip_folder`."""
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581"]
    words += sorted("abcdefghijklmnopqrstuvwxyz,.")
    text = {"vocab_size": len(words), "max_position_embeddings": 64, "pad_token_id": 0}
    config = transformers.SiglipConfig(
        text_config=TOWER | text | {"bos_token_id": 2, "eos_token_id": 1},
        vision_config=TOWER | {"image_size": 32, "patch_size": 8},
    )
    tokenizer = transformers.GemmaTokenizer(
        {word: number for number, word in enumerate(words)},
        [],
        add_bos_token=False,
        add_eos_token=True,
        padding_side="right",
        model_input_names=["input_ids"],
    )
    images = transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32}, resample=2)
    processor = transformers.SiglipProcessor(images, tokenizer)
    return _saved(transformers.SiglipModel, config, processor, tmp_path_factory.mktemp("siglip"))


def _saved(model_class: Any, config: Any, processor: Any, folder: Path) -> Path:
    torch.manual_seed(0)
    model = model_class(config)
    for name, weight in model.named_parameters():
        if "norm" in name or "bias" in name or "position" in name:
            weight.data = torch.randn_like(weight) * 0.5
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """The type checks look at one random item of a list: a test meets the same one each time."""
    random.seed(0)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """What users see: without the shape checks of the test run, our own errors speak."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _worker(
    rank: int,
    world_size: int,
    port: int,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    queue: Any,
):
    torch.set_num_threads(1)
    store = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
    result = function(rank, *args)
    queue.put((rank, result))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="session")
def on_ranks() -> Callable[..., list[Any]]:
    """Run `function(rank, *args)` in some gloo processes; what each returns, by rank.

    Results must be NumPy arrays or plain numbers, which outlive the process that sends them.
    """

    def run(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        queue = mp.get_context("spawn").SimpleQueue()
        context = mp.spawn(
            _worker, args=(world_size, port, function, args, queue), nprocs=world_size, join=False
        )
        found = []
        while len(found) < world_size:  # read before joining: a pipe holds little
            while queue.empty():
                if context.join(timeout=0.1):
                    break
            found.append(queue.get())
        while not context.join():
            pass
        return [value for _, value in sorted(found, key=lambda one: one[0])]

    return run


@pytest.fixture
def on_two_ranks(on_ranks) -> Callable[..., list[Any]]:
    """Run `function(rank, *args)` in two gloo processes, as `on_ranks` does."""
    return partial(on_ranks, 2)
