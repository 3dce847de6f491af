"""Check what a checkpoint restores beside the weights, which may be anybody's.

torch and Lightning take it as it comes: a fused optimiser writes through the shapes of its state,
and what is missing begins anew without a word.
"""

import copy
from collections import defaultdict
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tireid.runs.foreign import check

_PROGRESS = {"total": {str: int}, "current": {str: int}}
_BATCHES = _PROGRESS | {"is_last_batch": bool}
# The names are Lightning's (2.6).
_LOOP = {
    "state_dict": {"combined_loader": [{"batches": int}]},
    "epoch_progress": _PROGRESS,
    "epoch_loop.batch_progress": _BATCHES,
    "epoch_loop.val_loop.batch_progress": _BATCHES,
    "epoch_loop.scheduler_progress": _PROGRESS,
    "epoch_loop.state_dict": {"_batches_that_stepped": int},
    "epoch_loop.automatic_optimization.optim_progress": {
        "optimizer": {"step": _PROGRESS, "zero_grad": _PROGRESS}
    },
}
_BEST = {
    "best_model_path": str,
    "kth_best_model_path": str,
    "last_model_path": str,
    "best_model_score": Tensor | float | None,
    "current_score": Tensor | float | None,
    "kth_value": Tensor | float | None,
    "best_k_models": {str: Tensor | float},
}
_RUN = {  # the entry of this package
    "settings": str,
    "method": str,
    "generators": [dict],
    "should_stop": bool,
    "rows": str | None,
    "logged_steps": int | None,
    "batches": int,
    "optimized": [int],
}
_ADDED = ("optimized",)  # since the first release
_RESUMABLE = {
    "state_dict": dict,
    "epoch": int,
    "global_step": int,
    "loops": {"fit_loop": _LOOP},
    "optimizer_states": [{"state": dict, "param_groups": [{"params": [int], "lr": float}]}],
    "lr_schedulers": [{"last_epoch": int, "_step_count": int, "base_lrs": [float]}],
    "callbacks": dict,
}
_RUN_RECORD = {
    "validations": [dict],
    "seconds": float,
    "train_seconds": float,
    "evaluation_seconds": float,
    "images": int,
}


def check_resumable(content: dict[str, Any], entry: str, file: Path) -> None:
    """Check that a checkpoint holds all that training continues from, in its kinds.

    Args:
        content: Of the checkpoint.
        entry: Name of this package's entry.
        file: The checkpoint, for messages.

    Raises:
        ValueError: If something is missing, of another kind, or empty; names it.
    """
    needed = {name: kind for name, kind in _RUN.items() if name not in _ADDED}
    check(content, _RESUMABLE | {entry: needed}, file, complete=True)
    check(content[entry], _RUN, file, entry)
    check(content.get("run_record", {}), _RUN_RECORD, file, "run_record")
    for name, state in content["callbacks"].items():
        if "Checkpoint" in name:
            check(state, _BEST, file, f"callbacks.{name}")
    _check_counts(content["loops"]["fit_loop"], file, "loops.fit_loop")
    for number, state in enumerate(content["lr_schedulers"]):
        for name in state:
            if name == "optimizer" or callable(getattr(LRScheduler, name, None)):
                raise ValueError(
                    f"{file}: lr_schedulers[{number}]: expected numbers of a schedule, got {name}"
                )


def _check_counts(progress: dict[str, Any], file: Path, field: str) -> None:
    for name, value in progress.items():
        if isinstance(value, dict):
            _check_counts(value, file, f"{field}.{name}")
        elif isinstance(value, int) and value < 0:
            raise ValueError(f"{file}: {field}.{name}: expected at least 0, got {value}")


def check_fits(
    content: dict[str, Any],
    optimizers: Sequence[Optimizer],
    schedules: Sequence[LRScheduler],
    file: Path,
    optimized: Sequence[int] | None = None,
) -> None:
    """Check that optimiser and schedule states fit those that are to take them.

    Args:
        content: Of a checkpoint that `check_resumable` has passed.
        optimizers: Those of the training.
        schedules: Those of the training.
        file: The checkpoint, for messages.
        optimized: For each optimiser, of how many parameters it had a state; None: not recorded,
            of all after a step.

    Raises:
        ValueError: If a number, a name or a shape differs, or the state of a parameter is missing.
    """
    pairs = (("optimizer_states", optimizers), ("lr_schedulers", schedules))
    for name, parts in pairs:
        if len(content[name]) != len(parts):
            raise ValueError(
                f"{file}: {name}: expected {len(parts)} of them, got {len(content[name])}"
            )
    for number, optimizer in enumerate(optimizers):
        field = f"optimizer_states[{number}]"
        saved = content["optimizer_states"][number]
        _check_groups(saved["param_groups"], optimizer.param_groups, file, field)
        _check_states(saved, optimizer, file, field)
        expected = sum(len(group["params"]) for group in saved["param_groups"])
        if optimized is not None and number < len(optimized):
            expected = optimized[number]
        if content["global_step"] > 0 and len(saved["state"]) != expected:
            raise ValueError(
                f"{file}: {field}.state: expected that of step {content['global_step']} for "
                f"{expected} parameters, got {len(saved['state'])}"
            )
    for number, schedule in enumerate(schedules):
        groups = len(schedule.optimizer.param_groups)
        rates = content["lr_schedulers"][number]["base_lrs"]
        if len(rates) != groups:
            raise ValueError(
                f"{file}: lr_schedulers[{number}].base_lrs: expected {groups} rates, got "
                f"{len(rates)}"
            )


def _check_groups(
    groups: list[dict[str, Any]], own: list[dict[str, Any]], file: Path, field: str
) -> None:
    sizes, own_sizes = ([len(group["params"]) for group in part] for part in (groups, own))
    if sizes != own_sizes:
        raise ValueError(
            f"{file}: {field}.param_groups: expected groups of {own_sizes} parameters, got {sizes}"
        )
    names = [name for group in groups for name in group["params"]]
    if len(set(names)) < len(names):
        raise ValueError(f"{file}: {field}.param_groups: expected each parameter once, got more")
    for number, (group, defaults) in enumerate(zip(groups, own, strict=True)):
        place = f"{field}.param_groups[{number}]"
        kinds = {name: _kinds(value) for name, value in defaults.items() if name != "params"}
        if unknown := sorted(group.keys() - kinds.keys() - {"params"}):
            raise ValueError(f"{file}: {place}: expected no setting {unknown[0]!r}, got one")
        check(group, kinds, file, place)
        needed = {name: kind for name, kind in kinds.items() if kind in (float, tuple)}
        check(group, needed, file, place, complete=True)
        for name, kind in needed.items():
            values = [group[name]] if kind is float else list(group[name])
            check(values, [float], file, f"{place}.{name}")
            count = 1 if kind is float else len(defaults[name])
            if len(values) != count or min(values) < 0:
                raise ValueError(
                    f"{file}: {place}.{name}: expected {count} numbers >= 0, got {values}"
                )


def _check_states(saved: dict[str, Any], optimizer: Optimizer, file: Path, field: str) -> None:
    names = [name for group in saved["param_groups"] for name in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    shapes = {name: value.shape for name, value in zip(names, parameters, strict=True)}
    needed = {  # by group: an optimiser may treat its groups differently
        name: kept
        for group, own in zip(saved["param_groups"], optimizer.param_groups, strict=True)
        for kept in [_state_names(optimizer, own)]
        for name in group["params"]
    }
    for name, state in saved["state"].items():
        place = f"{field}.state.{name}"
        if name not in shapes:
            raise ValueError(f"{file}: {place}: expected a parameter's number, got another")
        if (got := check(state, {}, file, place).keys()) != needed[name]:
            expected = sorted(needed[name])
            raise ValueError(f"{file}: {place}: expected {expected}, got {sorted(got)}")
        for key, value in state.items():
            # A step is one number, all else has a number for each one of the parameter.
            shape = () if key == "step" else tuple(shapes[name])
            found = tuple(value.shape) if isinstance(value, Tensor) else ()
            if found != shape or not (value is None or isinstance(value, Tensor | int | float)):
                raise ValueError(f"{file}: {place}.{key}: expected shape {shape}, got {found}")
            if isinstance(value, Tensor) and not bool(value.isfinite().all()):
                raise ValueError(f"{file}: {place}.{key}: expected finite numbers")


def _state_names(optimizer: Optimizer, group: dict[str, Any]) -> Set[str]:
    """Return the names of what it keeps for a parameter of a group, by a step of a copy of it."""
    parameter = torch.zeros_like(group["params"][0]).requires_grad_()
    parameter.grad = torch.zeros_like(parameter)
    probe = copy.copy(optimizer)
    probe.state = defaultdict(dict)
    probe.param_groups = [{**group, "params": [parameter]}]
    probe.step()
    return probe.state[parameter].keys()


def _kinds(value: Any) -> Any:
    """Return the kinds that a setting of an optimiser may have, from its value."""
    if isinstance(value, bool) or value is None:
        return bool | None
    return float if isinstance(value, int | float) else type(value)
