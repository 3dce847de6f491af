"""What a package says of itself: its README by absolute addresses, its files."""

import importlib.util
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("hatchling")
ROOT = Path(__file__).parents[2]


def metadata(monkeypatch, **variables):
    """Return what the hook of the build adds in an environment."""
    for name in ("GITHUB_REPOSITORY", "GITHUB_REF_NAME", "GITHUB_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    added = {}
    module.CustomMetadataHook(str(ROOT), {}).update(added)
    return added


def test_a_workflow_gives_links_and_images_of_the_readme_their_addresses(monkeypatch):
    added = metadata(monkeypatch, GITHUB_REPOSITORY="me/tireid", GITHUB_REF_NAME="v1.2.3")
    text = added["readme"]["text"]
    home = "https://github.com/me/tireid"
    assert f"]({home}/raw/v1.2.3/docs/assets/" in text
    assert f"[first steps]({home}/blob/v1.2.3/docs/start.md)" in text
    assert "](docs/" not in text
    assert added["urls"]["Repository"] == home
    assert added["urls"]["Changelog"] == f"{home}/blob/v1.2.3/CHANGELOG.md"


def test_elsewhere_the_readme_is_as_it_is_and_no_address_is_invented(monkeypatch):
    added = metadata(monkeypatch)
    assert added["readme"]["text"] == (ROOT / "README.md").read_text(encoding="utf-8")
    assert added["urls"] == {}


def test_what_the_source_package_lists_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert not [name for name in listed if not (ROOT / name).exists()]
    assert {"slurm", "sweeps", "hatch_build.py"} <= set(listed)


def test_the_image_of_docker_gets_all_that_it_copies():
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [
        line.split()[1:-1]
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY")
    ]
    for name in (word for words in copied for word in words):
        assert f"!{name}" in allowed, name
