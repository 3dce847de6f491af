"""Draw a study: its metric over the trials, and over each dimension of the space."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tireid.figures import COLOURS, own_style
from tireid.files import replacing
from tireid.sweeps.study import Trial

_TRIAL, _BEST = COLOURS[:2]
_COLUMNS = 3


@own_style()
def draw_study(trials: Sequence[Trial], space: Mapping[str, Any], metric: str, path: Path) -> None:
    """Draw the complete trials: in their order with the best so far, and by each dimension.

    Args:
        trials: The trials, at least one of them complete.
        space: Distributions by override, as `read_space` returns them.
        metric: The name of the metric, in percent.
        path: The PNG file to write.
    """
    from matplotlib.figure import Figure

    complete = sorted((t for t in trials if t.value is not None), key=lambda t: t.number)
    values = [trial.value or 0.0 for trial in complete]
    panels = 1 + len(space)
    rows = -(-panels // _COLUMNS)
    figure = Figure(figsize=(4 * _COLUMNS, 3 * rows), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False, sharey=True).flatten()
    for unused in axes[panels:]:
        unused.set_axis_off()
    numbers = list(range(1, len(values) + 1))
    so_far = [max(values[:number]) for number in numbers]
    axes[0].step(numbers, so_far, where="post", color=_BEST, label="best so far")
    _draw_trials(axes[0], numbers, values)
    axes[0].set(xlabel="trial", ylabel=f"{metric}, percent")
    axes[0].legend(fontsize=8)
    for axis, (name, distribution) in zip(axes[1:], space.items(), strict=False):
        texts = [dict(o.split("=", 1) for o in trial.overrides)[name] for trial in complete]
        choices = getattr(distribution, "choices", None)
        if choices is not None:
            axis.set_xticks(range(len(choices)), choices, fontsize=8)
            axis.set_xlim(-0.5, len(choices) - 0.5)
        elif distribution.log:
            axis.set_xscale("log")
        _draw_trials(axis, [choices.index(t) if choices else float(t) for t in texts], values)
        axis.set_xlabel(name, fontsize=9)
    with replacing(path) as file:
        figure.savefig(file, dpi=110, format="png")


def _draw_trials(axis: Any, positions: Sequence[Any], values: Sequence[float]) -> None:
    best = max(range(len(values)), key=values.__getitem__)
    axis.plot(positions, values, "o", color=_TRIAL, markersize=5, alpha=0.8, label="trial")
    axis.plot(positions[best], values[best], "*", color=_BEST, markersize=13, label="best")
    axis.grid(alpha=0.3)
