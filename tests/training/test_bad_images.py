"""A training goes on without images that cannot be read, and says which."""

import json

import pytest

from tireid.training.evaluate import evaluate
from tireid.training.run import train
from tireid.world import WorldSettings, ensure_world


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:cuhk_pedes, .*expected")  # counts of the real set
def test_bad_images_are_left_out_of_a_run_and_named_in_its_folder(compose_config, tmp_path):
    people = {"num_train_ids": 8, "num_val_ids": 3, "num_test_ids": 4, "images_per_id": 2}
    root = ensure_world(tmp_path / "world", WorldSettings(**people), progress=False)
    entries = json.loads((root / "reid_raw.json").read_text())
    broken = root / "imgs" / next(e["file_path"] for e in entries if e["split"] == "train")
    broken.write_bytes(broken.read_bytes()[:200])
    small = ["model=baseline", "image_encoder=resnet_tiny", "text_encoder=bilstm_tiny"]
    small += ["recipe=scratch", "dataset=cuhk_pedes", f"dataset.root={root}", "logger=csv"]
    small += ["trainer=cpu", "max_epochs=1", "batch_size=8", "dataset.image_size=[48,16]"]
    small += ["dataset.num_workers=0", f"paths.cache_dir={tmp_path}"]
    cfg = compose_config(*small, f"paths.output_dir={tmp_path / 'run'}")
    with pytest.raises(ValueError, match=rf"1 of \d+ images cannot be read.*\n.*{broken.name}"):
        train(cfg.copy())
    cfg.dataset.bad_images = 0.1
    with pytest.warns(UserWarning, match=r"1 of 16 training images \(6\.25%\) cannot be read"):
        metrics = train(cfg)
    (named,) = json.loads((tmp_path / "run/bad_images.json").read_text())["left_out_of_training"]
    assert named["path"] == str(broken)
    assert "expected a readable image" in named["reason"]
    words = [f"run={tmp_path / 'run'}", f"paths.cache_dir={tmp_path}", "accelerator=cpu"]
    with pytest.warns(UserWarning, match="are left out"):
        again = evaluate(compose_config(*words, name="evaluate"))
    assert again == {name: value for name, value in metrics.items() if name.startswith("test/")}
