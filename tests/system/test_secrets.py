"""No key of the environment gets into a config, log, artifact, export, report or model card."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml

SECRETS = {
    "WANDB_API_KEY": "5ec4e7" + "0123456789abcdef" * 2 + "aa",
    "HF_TOKEN": "hf_planted_5ec4e7_token",
    "AWS_ACCESS_KEY_ID": "AKIA5EC4E7PLANTED",
    "AWS_SECRET_ACCESS_KEY": "planted/5ec4e7/secret",
    "GITHUB_TOKEN": "ghp_planted5ec4e7",
    "HTTPS_PROXY": "http://planted:5ec4e7password@127.0.0.1:9",
}
SETTINGS = [
    *("trainer=cpu", "max_epochs=1", "batch_size=8", "dataset.image_size=[48,16]"),
    *("dataset.read.num_train_ids=8", "dataset.read.num_val_ids=3", "dataset.read.num_test_ids=4"),
    *("dataset.read.images_per_id=2", "logger=wandb", "callbacks.wandb.checkpoint=true"),
]


def contents(folder):
    """Yield the name and the bytes of every file below a folder, and of what archives hold."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield file.relative_to(folder), file.read_bytes()
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    for name in archive.namelist():
                        yield file.relative_to(folder) / name, archive.read(name)


@pytest.fixture
def tireid(tmp_path, cache_dir):
    """Return a function from a command line to what it printed, the keys in its environment."""

    def run(*words):
        command = [sys.executable, "-m", "tireid", *map(str, words)]
        environment = os.environ | SECRETS | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        with (tmp_path / "said.txt").open("a") as file:
            file.write(said)

    return run


@pytest.mark.long
@pytest.mark.slow
def test_no_planted_key_is_in_any_file_or_line(tireid, tmp_path, cache_dir):
    run = tmp_path / "run"
    tireid("train", "model=lgur", *SETTINGS, f"paths.cache_dir={cache_dir}", f"hydra.run.dir={run}")
    # Somebody else's folder may ask for a key by name.
    asking = shutil.copytree(run, tmp_path / "asking")
    file = asking / ".hydra" / "overrides.yaml"
    asked = [f"label=${{oc.env:{name}}}" for name in SECRETS]
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) + asked))
    for number, folder in enumerate((run, asking)):
        tireid("evaluate", f"run={folder}", "split=val")
        tireid("explain", f"run={folder}", "queries=1")
        tireid("export", f"run={folder}", f"output={tmp_path / f'export{number}'}")
    tireid("compare", run, asking, "--out", tmp_path / "report", "--csv", tmp_path / "all.csv")

    names = [str(name) for name, _ in contents(tmp_path)]
    for written in ("run/config.yaml", "export0/README.md", "report/report.html", "all.csv"):
        assert written in names
    assert any(name.endswith(".wandb") for name in names)
    assert "${oc.env:HF_TOKEN}" in (tmp_path / "export1" / "README.md").read_text()
    for name, content in contents(tmp_path):
        for variable, secret in SECRETS.items():
            assert secret.encode() not in content, f"{variable} is in {name}"
