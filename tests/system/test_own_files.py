"""Training on somebody's own files in the layouts of the three real data sets."""

import json

import numpy as np
import pytest
from PIL import Image

from tireid.training.run import train

WORDS = ["red", "blue", "green", "white", "black", "coat", "shirt", "bag", "hat", "shoes"]
LAYOUTS = {
    "cuhk_pedes": ("reid_raw.json", "file_path", "imgs", "cam_a/{n}.png"),
    "icfg_pedes": ("ICFG-PEDES.json", "file_path", "imgs", "test/{n:04d}/{n}.jpg"),
    "rstpreid": ("data_captions.json", "img_path", "imgs", "{n:04d}_c1_0001.jpg"),
}


def write_files(root, dataset):
    """Ids with gaps, images of an identity scattered, a grey image, an identity with one image."""
    annotation, field, images, pattern = LAYOUTS[dataset]
    rng = np.random.default_rng(0)
    # (split, ids) by image; identity 900 has one image only
    ids = {"train": [5, 17, 900, 5, 44, 17, 5, 44, 61], "test": [1001, 1007, 1001, 1007]}
    if dataset != "icfg_pedes":
        ids["val"] = [2003, 2010, 2003]
    entries = []
    for split, pids in ids.items():
        for pid in pids:
            number = len(entries)
            name = pattern.format(n=number)
            path = root / images / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 255, (60, 24, 3), dtype=np.uint8)
            picture = Image.fromarray(pixels)
            (picture.convert("L") if number == 1 else picture).save(path)
            count = 1 if dataset == "icfg_pedes" else 2
            captions = [" ".join(rng.choice(WORDS, 6)) for _ in range(count)]
            entries.append({"split": split, "id": pid, "captions": captions, field: name})
    (root / annotation).write_text(json.dumps(entries))
    return root


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_small_encoders_train_on_own_files(compose_config, cache_dir, tmp_path, dataset):
    root = write_files(tmp_path / "files", dataset)
    cfg = compose_config(
        "model=lgur",
        f"dataset={dataset}",
        f"dataset.root={root}",
        "image_encoder=resnet_tiny",
        "text_encoder=bilstm_tiny",
        "recipe=scratch",
        "dataset.image_size=[48,16]",
        "max_epochs=1",
        "trainer=cpu",
        f"paths.cache_dir={cache_dir}",
        f"paths.output_dir={tmp_path / 'run'}",
    )
    with pytest.warns(UserWarning, match="expected|batch_size") as warned:
        metrics = train(cfg)
    said = [str(warning.message) for warning in warned]
    assert any("train: expected" in message for message in said)
    assert any("batch_size=64 is more than" in message for message in said)
    assert 0 <= metrics["test/R1"] <= 100
    assert (tmp_path / "run" / "metrics.json").exists()


def test_a_missing_root_says_what_to_type(compose_config, tmp_path):
    cfg = compose_config(
        "dataset=cuhk_pedes", "image_encoder=resnet_tiny", f"paths.output_dir={tmp_path}"
    )
    with pytest.raises(ValueError, match=r"dataset\.root="):
        train(cfg)
