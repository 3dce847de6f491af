"""What an optimiser may set: overrides of a training config, each with its range or its choices."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Words that the grammar of overrides takes as they are; null and true are no strings to it.
_PLAIN = re.compile(r"(?!(?:null|true|false|nan|inf)$)[A-Za-z_][\w./-]*", re.IGNORECASE)
_OPTIONS = {"float": {"log", "step"}, "int": {"log", "step"}, "choice": set()}


@dataclass(frozen=True, slots=True)
class Dimension:
    """One override of the space.

    Attributes:
        name: What is overridden, as on the command line: `batch_size`, `model/alignment`.
        kind: float, int or choice.
        low: Smallest value of a number.
        high: Largest.
        log: Whether numbers are even in the exponent.
        step: Grid of numbers; None: none.
        choices: What may stand after the `=`.
    """

    name: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    choices: tuple[str, ...] = ()

    def draw(self, trial: Any) -> str:
        """Return what stands after the `=` in a trial of Optuna's.

        Floats have four significant digits, so that what was run can be typed again.
        """
        if self.kind == "choice":
            return trial.suggest_categorical(self.name, self.choices)
        if self.kind == "int":
            step = int(self.step or 1)
            low, high = int(self.low), int(self.high)
            return str(trial.suggest_int(self.name, low, high, step=step, log=self.log))
        value = trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)
        return f"{value:.4g}"


def read_space(settings: Mapping[str, Any]) -> list[Dimension]:
    """Return the space that a search's `space` describes.

    Args:
        settings: By override: `{float: [low, high]}`, `{int: [low, high]}`, both with `log` or
            `step` where wanted, or `{choice: [...]}`.

    Raises:
        ValueError: Names the override and what was expected.
    """
    if not settings:
        raise ValueError("search.space: expected at least one override, got none")
    return [_dimension(str(name), described) for name, described in settings.items()]


def override_text(value: Any) -> str:
    """Return a value of YAML as it is written after the `=` of an override."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(override_text(item) for item in value)}]"
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        # Backslashes count only before a quote, and there twice.
        escaped = re.sub(r'(\\*)("|\Z)', lambda m: m[1] * 2 + (m[2] and f"\\{m[2]}"), value)
        return f'"{escaped}"'
    return str(value)


def _dimension(name: str, described: Any) -> Dimension:
    place = f"search.space.{name}"
    kinds = [kind for kind in _OPTIONS if isinstance(described, dict) and kind in described]
    if len(kinds) != 1:
        raise ValueError(
            f"{place}: expected one of {{float: [low, high]}}, {{int: [low, high]}} and "
            f"{{choice: [...]}}, got {described!r}"
        )
    kind = kinds[0]
    values, options = described[kind], {k: v for k, v in described.items() if k != kind}
    if unknown := set(options) - _OPTIONS[kind]:
        allowed = " and ".join(sorted(_OPTIONS[kind])) or "nothing else"
        raise ValueError(f"{place}: expected {allowed} beside {kind}, got {', '.join(unknown)}")
    if kind == "choice":
        if not isinstance(values, list) or not values:
            raise ValueError(f"{place}: expected a list of choices, got {values!r}")
        return Dimension(name, kind, choices=tuple(override_text(value) for value in values))
    log, step = options.get("log", False), options.get("step")
    number = int if kind == "int" else (int, float)
    _check_range(place, kind, values, number)
    if log and (step is not None or values[0] <= 0):
        raise ValueError(
            f"{place}: expected log: true with limits above 0 and without a step, got {described!r}"
        )
    if step is not None and not (isinstance(step, number) and step > 0):
        raise ValueError(f"{place}: expected a step > 0 of its kind, got {step!r}")
    grid = None if step is None else float(step)
    return Dimension(name, kind, float(values[0]), float(values[1]), log=bool(log), step=grid)


def _check_range(place: str, kind: str, values: Any, number: Any) -> None:
    good = (
        isinstance(values, list)
        and len(values) == 2
        and all(isinstance(v, number) and not isinstance(v, bool) for v in values)
        and values[0] < values[1]
    )
    if not good:
        raise ValueError(f"{place}: expected {kind}: [low, high] with low < high, got {values!r}")
