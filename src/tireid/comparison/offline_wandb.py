"""Results of runs of which only what Weights & Biases kept is there."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tireid.metrics.names import headlines
from tireid.runs.results import Runs, Unfinished, labelled_results
from tireid.tracking.offline import OfflineRun, read_offline_runs

_NOT_SETTINGS = ("encoders", "overrides", "commit", "dirty")  # that it keeps among them


def holds_wandb_runs(folder: Path) -> bool:
    """Return whether there is a run of Weights & Biases anywhere below a folder."""
    return next(folder.rglob("run-*.wandb"), None) is not None


def read_wandb_runs(folder: Path, known: Collection[Path] = ()) -> Runs:
    """Return the runs below a folder that Weights & Biases kept; teachers are parts of runs.

    Args:
        folder: Of one run, or of many.
        known: Run folders that are read already, absolute: a run of wandb inside one of them is
            the same run once more.

    Raises:
        ValueError: If a file is none of wandb's or lacks what training logs, or if there are such
            runs and wandb, which knows its own records, is not installed.
    """
    places = {file.parent.parent for file in folder.rglob("run-*.wandb")}
    found: list[OfflineRun] = []
    others: list[Unfinished] = []
    for place in sorted(places):
        if set(place.resolve().parents) & set(known):
            continue
        try:
            found += read_offline_runs(place)
        except FileNotFoundError:  # it died before it wrote anything
            others.append(Unfinished(place.parent.name, "incomplete", place))
        except ModuleNotFoundError as error:
            raise ValueError(
                f"{place}: expected wandb to be installed, to read its runs; "
                "pip install 'tireid[wandb]'"
            ) from error
    found = [run for run in found if run.job_type != "teacher"]
    complete = [run for run in found if _is_complete(run)]
    others += [
        Unfinished(run.name, "incomplete", run.folders[-1]) for run in found if run not in complete
    ]
    try:
        results = labelled_results([(*told_by(run), _overrides(run)) for run in complete])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{folder}: expected runs of wandb as training logs them, got {error!r}"
        ) from error
    return Runs(results, others, [*complete])


def _is_complete(run: OfflineRun) -> bool:
    """Whether it was tested, and not killed before it had told what that took."""
    tested = "test/R1" in run.summary
    return tested and (run.exit_code is not None or "data_sha256" in run.summary)


def told_by(run: OfflineRun) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings and the record of a complete run, as its folder would hold them.

    Raises:
        KeyError: If it lacks what training logs.
    """
    settings: dict[str, Any] = {}
    for name, value in run.config.items():
        *above, last = name.split(".")
        node = settings
        for part in above:
            node = node.setdefault(part, {})
        node[last] = value
    for name in _NOT_SETTINGS:
        settings.pop(name, None)
    summary = run.summary
    steps = max((step for step, _ in run.column("train/loss")), default=-1) + 1
    record = {
        "metrics": _metrics(run),
        "seed": settings["seed"],
        "selection": settings["selection"],
        "steps": summary.get("steps", steps),
        "seconds": summary.get("seconds", {"training": 0.0}),
        "images_per_second": summary.get("images_per_second", 0.0),
        "peak_memory_mib": summary.get("peak_memory_mib"),
        "parameters": summary.get("parameters", {"total": 0}),
        "teacher": summary.get("teacher"),
        "data_sha256": summary.get("data_sha256", {}),
        "commit": run.config.get("commit"),
        "dirty": run.config.get("dirty"),
    }
    return settings, record


def logged_curves(run: OfflineRun) -> dict[str, list[tuple[int, float]]]:
    """Return what the curves of a report show."""
    names = ("train/loss", *headlines("val/"), *headlines("test/"))
    return {name: column for name in names if (column := run.column(name))}


def _metrics(run: OfflineRun) -> dict[str, float]:
    """Return the metrics of the checkpoint that was tested."""
    for artifact in reversed(run.artifacts):
        metrics = artifact.metadata.get("metrics")
        if isinstance(metrics, Mapping) and "test/R1" in metrics:
            return dict(metrics)
    # The best value of each: near, where no artifact says which belong together.
    return {
        name: value
        for name, value in run.summary.items()
        if name.startswith(("val/", "test/")) and isinstance(value, int | float)
    }


def _overrides(run: OfflineRun) -> list[str]:
    return [str(word) for word in run.config.get("overrides") or []]
