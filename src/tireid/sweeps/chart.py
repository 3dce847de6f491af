"""A search as a picture: the metric over the trials, and over each setting."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tireid.figures import own_style
from tireid.files import replacing
from tireid.sweeps.space import Dimension
from tireid.sweeps.study import Trial

# Told apart by colour-blind readers, and in print by their shapes.
_TRIAL, _BEST = "#0072B2", "#D55E00"
_COLUMNS = 3


@own_style()
def draw_study(
    trials: Sequence[Trial], space: Sequence[Dimension], metric: str, path: Path
) -> None:
    """Draw the complete trials: in their order with the best so far, and by each setting.

    Args:
        trials: At least one of them complete.
        space: What was set.
        metric: Its name, for the axes; in percent.
        path: The picture to write.
    """
    from matplotlib.figure import Figure

    complete = sorted((t for t in trials if t.value is not None), key=lambda t: t.number)
    values = [trial.value or 0.0 for trial in complete]
    best = max(range(len(values)), key=values.__getitem__)
    panels = 1 + len(space)
    rows = -(-panels // _COLUMNS)
    figure = Figure(figsize=(4 * _COLUMNS, 3 * rows), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False, sharey=True).flatten()
    for unused in axes[panels:]:
        unused.set_axis_off()
    numbers = list(range(1, len(values) + 1))
    so_far = [max(values[: number + 1]) for number in range(len(values))]
    axes[0].step(numbers, so_far, where="post", color=_BEST, label="best so far")
    _dots(axes[0], numbers, values, best)
    axes[0].set(xlabel="trial", ylabel=f"{metric}, percent")
    axes[0].legend(fontsize=8)
    for axis, dimension in zip(axes[1:panels], space, strict=True):
        prefix = f"{dimension.name}="
        texts = [
            next(o.removeprefix(prefix) for o in trial.overrides if o.startswith(prefix))
            for trial in complete
        ]
        if dimension.kind == "choice":
            places = [dimension.choices.index(text) for text in texts]
            axis.set_xticks(range(len(dimension.choices)), dimension.choices, fontsize=8)
            axis.set_xlim(-0.5, len(dimension.choices) - 0.5)
        else:
            places = [float(text) for text in texts]
            if dimension.log:
                axis.set_xscale("log")
        _dots(axis, places, values, best)
        axis.set_xlabel(dimension.name, fontsize=9)
    for axis in axes[:panels]:
        axis.grid(alpha=0.3)
    with replacing(path) as file:
        figure.savefig(file, dpi=110, format="png")


def _dots(axis: Any, places: Sequence[Any], values: Sequence[float], best: int) -> None:
    axis.plot(places, values, "o", color=_TRIAL, markersize=5, alpha=0.8, label="trial")
    axis.plot(places[best], values[best], "*", color=_BEST, markersize=13, label="best")
