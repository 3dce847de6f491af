"""A Hydra sweeper whose grid has rows, each of which sets several things at once.

Hydra takes sweepers from packages below `hydra_plugins` only. All that tireid uses of Hydra's basic
sweeper, which has no public name, is in this file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

_ROW = "hydra.job.name"


class RowSweeper(BasicSweeper):
    """Run each row of a table with each combination of other overrides.

    Args:
        params: Other overrides and their values, as the basic sweeper takes them.
        rows: By name, the overrides of a row and their values. The name becomes that of the job,
            `hydra.job.name`. The command line wins over a row.
        only: Names of the rows to run; None: all.
        max_batch_size: Number of jobs handed to the launcher at once; None: all.

    Raises:
        ValueError: If there are no rows, or `only` names one that does not exist.
    """

    def __init__(
        self,
        params: Mapping[str, str],
        rows: Mapping[str, Mapping[str, Any]],
        only: Sequence[str] | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        names = list(rows) if only is None else list(only)
        if not names or not rows.keys() >= set(names):
            known, got = (", ".join(several) or "none" for several in (rows, names))
            raise ValueError(f"hydra.sweeper.only: expected rows of the sweep ({known}), got {got}")
        super().__init__(max_batch_size, {**params, _ROW: ",".join(names)})
        self.rows = rows

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """Return the overrides of the next jobs, those of the row after its name."""
        return [self._with_row(job) for job in super().get_job_batch()]

    def _with_row(self, job: Sequence[str]) -> list[str]:
        from tireid.sweeps.overrides import override_text  # late: Hydra imports its plugins always

        keys = [override.partition("=")[0] for override in job]
        number = keys.index(_ROW)
        row = self.rows[job[number].partition("=")[2]]
        added = [f"{key}={override_text(v)}" for key, v in row.items() if key not in keys]
        return [*job[: number + 1], *added, *job[number + 1 :]]


def job_overrides(sweeper: DictConfig, overrides: Sequence[str]) -> list[list[str]] | None:
    """Return the overrides of each job of a grid; None for a sweeper that decides as it goes.

    Args:
        sweeper: The config of the sweeper, `hydra.sweeper`.
        overrides: The overrides of the command line.

    Raises:
        ValueError: If a row refers to a value that is swept.
    """
    kinds = {f"{kind.__module__}.{kind.__name__}": kind for kind in (BasicSweeper, RowSweeper)}
    kind = kinds.get(sweeper._target_)
    if kind is None:
        return None
    plain: Any = OmegaConf.to_container(sweeper, resolve=True)
    grid = kind(**{name: value for name, value in plain.items() if not name.startswith("_")})
    words = [*(f"{name}={value}" for name, value in grid.params.items()), *overrides]
    parsed = OverridesParser.create().parse_overrides(words)
    for name in (override.get_key_element() for override in parsed if override.is_sweep_override()):
        if f"${{{name}}}" in OmegaConf.to_yaml(sweeper):  # Hydra resolves it before there are jobs
            raise ValueError(f"{name}: expected one value, since rows of the sweep refer to it")
    grid.overrides = grid.split_arguments(parsed, None)
    return [list(job) for job in grid.get_job_batch()]
