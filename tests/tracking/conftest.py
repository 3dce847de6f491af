"""Read back all that a run has logged, from the files that wandb keeps of it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tireid.tracking.offline import OfflineRun, read_offline_run, read_records


@dataclass
class Artifact:
    """A logged artifact; its files by their names in it."""

    name: str
    type: str
    aliases: tuple[str, ...]
    metadata: dict[str, Any]
    files: dict[str, Path]


@dataclass
class Logged:
    """A run with its config by dotted names, rows, artifacts and the exit code of its last part."""

    run: OfflineRun
    project: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    definitions: dict[str, dict[str, str]] = field(default_factory=dict)
    artifacts: list[Artifact] = field(default_factory=list)
    exit_code: int | None = None

    @property
    def folders(self):
        return [file.parent for file in self.run.files]

    def column(self, name):
        """Pairs of step and value; of steps that a continued run did twice, the later counts."""
        step = "trainer/global_step"
        return sorted(
            {row[step]: row[name] for row in self.history if name in row and step in row}.items()
        )

    def table(self, name):
        """Columns and rows of a table; images as their files."""
        artifact = [a for a in self.artifacts if a.name == f"run-{self.run.id}-{name}"][-1]
        content = json.loads(artifact.files[f"{name}.table.json"].read_text())

        def cell(value):
            is_file = isinstance(value, dict) and str(value.get("_type", "")).endswith("-file")
            return artifact.files[value["path"]] if is_file else value

        return content["columns"], [[cell(value) for value in row] for row in content["data"]]

    def media(self, reference):
        """The file of an image that a value of the summary names."""
        files = [folder / "files" / reference["path"] for folder in self.folders]
        return next(file for file in reversed(files) if file.is_file())


def update(target, items):
    for item in items:
        node = target
        *above, name = list(item.nested_key) or [item.key]
        for part in above:
            node = node.setdefault(part, {})
        node[name] = json.loads(item.value_json)
    return target


def flat(node, prefix=""):
    result = {}
    for name, value in node.items():
        if isinstance(value, dict) and value:
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}".replace("/", ".")] = value
    return result


def read_all(folder):
    """Return everything that the run of a folder has logged."""
    logged = Logged(read_offline_run(folder))
    config: dict[str, Any] = {}
    for file in logged.run.files:
        logged.exit_code = None
        for record in read_records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                logged.project = record.run.project
                update(config, record.run.config.update)
                update(logged.summary, record.run.summary.update)
            elif kind == "config":
                update(config, record.config.update)
            elif kind == "summary":
                update(logged.summary, record.summary.update)
            elif kind == "history":
                logged.history.append(update({}, record.history.item))
            elif kind == "metric":
                metric = record.metric
                kinds = [f.name for f, value in metric.summary.ListFields() if value is True]
                name = metric.name or metric.glob_name
                logged.definitions[name] = {"step": metric.step_metric, "summary": ",".join(kinds)}
            elif kind == "artifact":
                logged.artifacts.append(artifact_of(record.artifact))
            elif kind == "exit":
                logged.exit_code = int(record.exit.exit_code)
    config.pop("_wandb", None)
    logged.config = flat(config)
    return logged


def artifact_of(record):
    return Artifact(
        record.name,
        record.type,
        tuple(record.aliases),
        json.loads(record.metadata or "{}"),
        {entry.path: Path(entry.local_path) for entry in record.manifest.contents},
    )


@pytest.fixture(scope="session")
def read_logged():
    """Return a function from a run folder to all that its W&B run has logged."""
    return read_all
