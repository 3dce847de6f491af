"""Composed configs and one small trained run, shared by the tests of the entry points."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from tireid import launch

SMALL = [
    "trainer=cpu",
    "max_epochs=2",
    "batch_size=8",
    "dataset.read.num_train_ids=8",
    "dataset.read.num_val_ids=3",
    "dataset.read.num_test_ids=4",
    "dataset.read.images_per_id=2",
    "dataset.image_size=[48,16]",
]


@pytest.fixture(scope="session")
def compose_config():
    """Return a function from overrides to a composed config."""

    def composed(*overrides, name="train"):
        with initialize_config_dir(launch.conf_dir(), version_base="1.3"):
            return compose(name, list(overrides))

    return composed


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def small_config(compose_config, cache_dir):
    """Return a function to a config that trains in seconds on a few made people."""

    def composed(output_dir, *overrides):
        return compose_config(
            *SMALL,
            f"paths.cache_dir={cache_dir}",
            f"paths.output_dir={output_dir}",
            *overrides,
        )

    return composed


@pytest.fixture(scope="session")
def lgur_run(small_config, tmp_path_factory):
    """Return the run folder of a short LGUR training and what it returned."""
    from tireid.train import train

    folder = tmp_path_factory.mktemp("lgur_run")
    return folder, train(small_config(folder, "model=lgur"))
