"""What README and docs say can be done: commands compose, Python runs, links and files exist."""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

import tireid
from tireid.cli.arguments import Parser, split_trust
from tireid.cli.commands import COMMANDS, WITHOUT_HYDRA
from tireid.cli.hydra_app import as_overrides
from tireid.files import conf_dir
from tireid.runs.results import Result, write_csv

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob(".github/**/*.md"), *(ROOT / "docs").rglob("*.md")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BLOCK = re.compile(
    r"(?:^<!-- needs: (?P<needs>[^\n]+) -->\n)?"
    r'^```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n'
    r"(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
ANYWHERE = {"pip", "docker", "wandb", "hf", "tensorboard", "srun", "sbatch", "scontrol"}
ANYWHERE |= {"pre-commit"}
SHELL = {"if", "exit", "eval", "export"}
TARGETS = set(
    re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
)
TINY = "trainer=cpu logger=csv max_epochs=1 batch_size=8 dataset.image_size=[48,16]"


class Block(NamedTuple):
    """A block of code of a page, what it needs, and the file that it shows, if any."""

    page: Path
    line: int
    language: str
    needs: str | None
    title: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def included(text):
    """Put the files that a page includes in their places."""
    return re.sub(
        r'^--8<-- "(.+)"\n', lambda m: (ROOT / m[1]).read_text(encoding="utf-8"), text, flags=re.M
    )


def blocks(page):
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        parts = match.group("language", "needs", "title")
        yield Block(page, line, *parts, included(match["text"]))


BLOCKS = list(chain.from_iterable(map(blocks, PAGES)))
SHOWN_FILES = [block for block in BLOCKS if block.title]
CODE = [block for block in BLOCKS if block.language == "python" and not block.title]


def commands(block):
    """Return the commands of a shell block, each as its words, without variables set before it."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"\w+=", words[0]):
            del words[0]
        if words:
            yield words


def inline(page):
    """Return the `make` commands and the names of `tireid` commands in a page's text."""
    if page.name == "CHANGELOG.md":
        return
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for command in re.findall(r"`(make [a-z][^`]*)`", text):
        if "..." not in command:
            yield shlex.split(command)
    for name in re.findall(r"`tireid ([a-z]\w+)", text):
        yield ["tireid", name, "--help"]


def in_comments(file):
    """Return the commands that the comments of a config name, each on a line of its own."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"#   ((?:make|tireid) [^#]+?) *(?:#|$)", line):
            yield shlex.split(re.sub(r"<\w+>", "x", match[1]))


SHELL_COMMANDS = {  # by their words, so that each is checked once
    (tuple(words), block.needs): str(block)
    for block in BLOCKS
    if block.language == "bash"
    for words in commands(block)
} | {(tuple(words), None): str(page.relative_to(ROOT)) for page in PAGES for words in inline(page)}


def shown_by_make(words):
    """Return the `tireid` command that a `make` command stands for; none: it is another tool's."""
    assert words[1] in TARGETS, f"no such target: {words[1]}"
    command = ["make", "--dry-run", "--always-make", *words[1:]]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    joined = shown.replace("\\\n", " ").splitlines()
    lines = [shlex.split(line) for line in joined if "-m tireid" in line]
    if not lines:
        check_options_of_programs(shown)
        return []
    return lines[-1][lines[-1].index("-m") - 1 :]


def check_options_of_programs(shown):
    """Check that the programs of this repository that `make` would run name their options."""
    for line in shown.splitlines():
        paths = [ROOT / word for word in line.split() if word.startswith(("benchmarks/", "tests/"))]
        for path in paths:
            source = (path / "__main__.py" if path.is_dir() else path).read_text()
            for option in re.findall(r"(?<= )--[\w-]+", line):
                assert f'"{option}"' in source, f"{path} has no {option}"


def one_by_one(overrides):
    """Return lists of overrides without sweeps: the first values of all, then the second, ..."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = {
        p.input_line: [f"{p.key_or_group}={value}" for value in p.sweep_string_iterator()]
        for p in parsed
        if p.is_sweep_override()
    }
    for number in range(max(map(len, swept.values()), default=1)):
        yield [
            swept[line][min(number, len(swept[line]) - 1)] if line in swept else line
            for line in overrides
        ]


@pytest.fixture(scope="module")
def conf(tmp_path_factory):
    """Return a copy of `conf/` with the files that pages show."""
    copy = tmp_path_factory.mktemp("docs") / "conf"
    shutil.copytree(conf_dir(), copy)
    for block in SHOWN_FILES:
        if block.title.startswith("conf/"):
            (copy.parent / block.title).write_text(block.text)
    return copy


def check_tireid(arguments, conf, monkeypatch):
    """Compose or parse what a `tireid` command would, without running it."""
    if arguments[:1] == ["--help"]:
        return
    name, *rest = arguments
    assert name in COMMANDS
    rest = as_overrides(name, split_trust(rest)[0])
    options = [word for word in rest if word.startswith("-")]
    if "--help" in options:
        return
    if name in WITHOUT_HYDRA:
        parse_only(name, rest, monkeypatch)
    else:
        assert {*options, "job"} <= {"--multirun", "--cfg", "job"}, options
        overrides = [word for word in rest if word not in (*options, "job")]
        with initialize_config_dir(str(conf), version_base="1.3"):
            for values in one_by_one(overrides):
                compose(name, values, return_hydra_config=True)


def parse_only(name, arguments, monkeypatch):
    def stop(self):
        parse(self)
        raise KeyboardInterrupt

    parse = Parser.parse
    monkeypatch.setattr(Parser, "parse", stop)
    monkeypatch.setattr(sys, "argv", [f"tireid {name}", *arguments])
    with pytest.raises(KeyboardInterrupt):
        importlib.import_module(f"tireid.cli.{name}").main()


@pytest.mark.parametrize(
    ("words", "needs"),
    [pytest.param(list(c[0]), c[1], id=f"{p}-{' '.join(c[0])}") for c, p in SHELL_COMMANDS.items()],
)
def test_a_command_is_one_that_there_is(words, needs, conf, monkeypatch):
    tool = words[0].removeprefix(".venv/bin/")
    if tool == "make":
        words = shown_by_make(words)
        tool = "tireid" if words else "make"
        words = words[2:]
    if "tireid" in words and tool in ("torchrun", "srun", "python"):
        tool, words = "tireid", words[words.index("tireid") :]
    if tool == "tireid":
        check_tireid(words[1:], conf, monkeypatch)
    elif tool in ANYWHERE | SHELL:
        assert needs, "expected <!-- needs: ... --> above the block, or a command that is checked"
    else:
        assert tool == "make", f"expected a command that is checked here, got {tool}"


@pytest.mark.slow
def test_commands_in_comments_of_configs_are_ones_that_there_are(conf, monkeypatch):
    found = [words for file in sorted(conf.rglob("*.yaml")) for words in in_comments(file)]
    assert len(found) > 30
    for words in found:
        words = words if words[0] == "tireid" else shown_by_make(words)[2:]
        check_tireid(words[1:], conf, monkeypatch)


def test_the_files_that_pages_include_are_found():
    texts = {page: included(page.read_text(encoding="utf-8")) for page in PAGES}
    assert not [page for page, text in texts.items() if re.search(r"^-+8", text, re.MULTILINE)]


def test_no_block_is_of_a_language_that_is_not_checked():
    assert {block.language for block in BLOCKS} <= {"bash", "python", "yaml", "text", ""}
    assert all(block.title for block in BLOCKS if block.language == "yaml")


def test_extras_that_pages_name_exist():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(
        chain(*(m.split(",") for m in re.findall(r"pip install (?:-e )?'\.\[([\w,]+)\]", text)))
    )
    assert named
    assert named <= set(PROJECT["project"]["optional-dependencies"])


def test_help_names_every_command_and_is_in_the_docs():
    shown = subprocess.run(
        [sys.executable, "-m", "tireid", "--help"], capture_output=True, text=True
    )
    text = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"  {name} " in shown.stdout
        assert f"| `tireid {name}` |" in text


@pytest.mark.parametrize("block", CODE, ids=str)
def test_python_runs(block, untrained_run, tmp_path, monkeypatch):
    assert not block.needs
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "synthetic" / "lgur" / "latest"
    run.parent.mkdir(parents=True)
    run.symlink_to(untrained_run("model=lgur"))
    for number in (1, 2):
        Image.new("RGB", (40, 90), (60 * number, 80, 120)).save(tmp_path / f"{number}.jpg")
    exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})  # noqa: S102


def slug(heading):
    """Return the anchor of a heading, as GitHub and the site's `toc` both make it."""
    plain = re.sub(r"[`*]", "", heading).strip().lower()
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", plain.replace("²", "2"))).strip("-")


def anchors(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_modules_that_a_page_names_exist(page):
    if page.name == "CHANGELOG.md":
        pytest.skip("it names what there was")
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for name in re.findall(
        r"`((?:src|conf|tests|docs|results|notebooks|benchmarks)/[\w./-]*)`", text
    ):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`(tireid(?:\.[A-Za-z]\w*)+)", text):
        module = ROOT.joinpath("src", *name.split("."))
        if module.is_dir() or module.with_suffix(".py").exists():
            continue
        parent, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(parent), attribute), name


def test_the_layers_are_those_that_are_checked():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- layers -->\n```text\n(.*?)\n```\n<!-- /layers -->", text, re.DOTALL)
    (contract,) = (c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["id"] == "layers")
    assert shown
    assert shown[1].splitlines() == contract["layers"]
    rooms = {room for line in contract["layers"] for room in line.split(" | ")}
    folders = {path.name for path in (ROOT / "src" / "tireid").iterdir() if path.is_dir()}
    assert all(f"| `{room}` |" in text for room in rooms & folders)


def test_counts_of_files_are_those_of_the_files_named():
    """In the table of the architecture page; a file is looked up in its room, or the one before."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| How .+? \| (\d+) \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) == 5
    first: list[str] = []
    for count, listed in rows:
        room, files = "", [] if "the same" not in listed else list(first)
        for name in re.findall(r"`([^`]+)`", listed):
            if name.endswith("/"):
                room = name
                continue
            path = name if "/" in name or not room else room + name
            places = [ROOT / path, ROOT / "src" / "tireid" / path, ROOT / "src" / "tireid" / name]
            assert any(place.is_file() for place in places), name
            files.append(name)
        assert len(files) == int(count), listed
        first = files if "cli/compare.py" in files else first


@pytest.fixture
def evidence(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("evidence")


def test_tables_of_pages_are_those_of_the_results(evidence):
    for page in evidence.PAGES:
        text = page.read_text(encoding="utf-8")
        assert evidence.filled(text) == text, f"{page}: make evidence fills it"
    used = "".join(page.read_text(encoding="utf-8") for page in evidence.PAGES)
    for file in (ROOT / "results").iterdir():
        assert f"<!-- {file.stem} -->" in used or f"from: results/{file.name}" in used, file


def test_every_measured_number_of_a_page_has_a_source(evidence):
    for page in evidence.PAGES:
        name = str(page.relative_to(ROOT))
        text = page.read_text(encoding="utf-8")
        assert not list(evidence.loose_numbers(text, name)), f"{name}: make evidence lists them"
        assert all(rule in text for rule in evidence.RULES.get(name, ())), name


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("It reaches 61.4 after\n3 minutes.", [(1, "61.4"), (2, "3")]),
        ("It takes 40 to 46 s, and 1,300 MiB.", [(1, "40"), (1, "46"), (1, "1,300")]),
        ("| LGUR | 54.1 ± 0.2 |", [(1, "54.1"), (1, "0.2")]),
        ("Python 3.11 reads `0.5 s`, [a page](a-1.5.md), 9 images of 96x32.\n```\n1.5\n```", []),
        ("<!-- from: results/start.csv val/R1 -->\n60.5 it is, 99.9 it is not.", [(2, "99.9")]),
        ("<!-- from: results/start.csv val/R1 -->\n60.5\n\n60.5", [(4, "60.5")]),
        ("<!-- from: results/start.csv minutes -->\n8 minutes, 9 minutes", [(2, "9")]),
        ("<!-- from: results/gpu_h100.json evaluation.0 -->\n0.19 s, 1.1 s", [(2, "1.1")]),
        ("<!-- start -->\n| 54.1 |\n<!-- /start -->", []),
    ],
)
def test_a_number_without_a_source_is_listed_by_line(
    evidence, monkeypatch, tmp_path, text, numbers
):
    results = tmp_path / "results"
    results.mkdir()
    runs = [  # the second shared its machine
        Result(
            "LGUR", "synthetic", seed, "val", 1122, seconds, 1.0, 1, "", "", "", {"val/R1": 60.5}
        )
        for seed, seconds in ((1, 465.25), (2, float("nan")))
    ]
    write_csv(runs, results / "start.csv", ["val/R1"])
    (results / "gpu_h100.json").write_text('{"evaluation": [{"seconds": 0.19}]}')
    monkeypatch.setattr(evidence, "ROOT", tmp_path)
    evidence._values.cache_clear()
    assert [(one.line, one.number) for one in evidence.loose_numbers(text)] == numbers
    evidence._values.cache_clear()


def test_results_come_from_clean_commits_and_costs_from_a_machine_of_their_own():
    for file in sorted((ROOT / "results").iterdir()):
        if file.suffix == ".csv":
            assert "-dirty" not in file.read_text(encoding="utf-8"), file
        else:
            found = json.loads(file.read_text(encoding="utf-8"))
            assert not found.get("dirty"), file
            assert found.get("load_before", 0) < 0.5 or not found.get("is_timed", True), file


def test_the_citation_names_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == tireid.__version__


def test_the_readme_is_short():
    assert (ROOT / "README.md").stat().st_size <= 10_000


@pytest.mark.slow
def test_the_examples_of_extending_train(tmp_path, cache_dir):
    """Written into a copy of the repository, nothing else edited but a line for the metric."""
    copy_of_the_repository(tmp_path)
    for block in SHOWN_FILES:
        if block.title.endswith("in METRICS after R10"):
            table = tmp_path / block.title.partition(",")[0]
            before, line, after = table.read_text().partition('        Metric("R10", ')
            rest, newline, end = after.partition("\n")
            table.write_text(before + line + rest + newline + block.text + end)
        else:
            assert not (tmp_path / block.title).exists()
            (tmp_path / block.title).write_text(block.text)
    changes = git(tmp_path, "status", "--porcelain", "--untracked-files=all").splitlines()
    new_files = {f"?? {block.title}" for block in SHOWN_FILES if "METRICS" not in block.title}
    assert set(changes) == new_files | {" M src/tireid/metrics/names.py"}
    test = "-P -m pytest -q -p no:cacheprovider tests/methods/test_gem.py"
    run_in_copy(tmp_path, [sys.executable, *test.split()])
    write_people(tmp_path / "people")
    tiny = [*TINY.split(), f"paths.cache_dir={cache_dir}"]
    new = (
        "model=gem model/alignment=margin image_encoder=patch_mlp text_encoder=bilstm_tiny "
        "monitor=val/R20 recipe=scratch"
    )
    people = "dataset=folders dataset.root=people dataset.pad=4 dataset.num_workers=0"
    run_tireid(tmp_path, "train", *new.split(), *people.split(), *tiny, "hydra.run.dir=run")
    assert "test/R20" in (tmp_path / "run" / "metrics.json").read_text()
    run_tireid(tmp_path, "evaluate", "run=run", "split=val")
    assert "R@20" in run_tireid(tmp_path, "compare", "run")


def copy_of_the_repository(folder):
    """Copy what the examples need into a repository of its own, and commit it."""
    without = shutil.ignore_patterns("__pycache__")
    for part in ("src", "conf"):
        shutil.copytree(ROOT / part, folder / part, ignore=without)
    for file in ("pyproject.toml", "tests/conftest.py", "tests/methods/conftest.py"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    author = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    git(folder, *author, "commit", "--quiet", "--message=before", "--no-verify", "--no-gpg-sign")


def git(folder, *arguments):
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def write_people(root):
    """Write eight people in the layout of the example's data set."""
    for pid in range(8):
        split = "train" if pid < 4 else "val" if pid < 6 else "test"
        for view in range(2):
            image = root / split / str(pid) / f"{view}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (24, 60), (30 * pid, 90, 200 - 20 * pid)).save(image)
            image.with_suffix(".txt").write_text(f"someone in coat {pid}\nseen from view {view}\n")


def run_tireid(folder, *arguments):
    """Run the command from a copy's source, and return what it shows."""
    return run_in_copy(folder, [sys.executable, "-P", "-m", "tireid", *arguments])


def run_in_copy(folder, command):
    environment = {"PYTHONPATH": str(folder / "src"), "COLUMNS": "200", "WANDB_MODE": "disabled"}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
