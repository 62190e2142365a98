"""Hyperparameters: what can be set about an algorithm, under which names, within which range."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean

Value = int | float | str | None | list[int] | dict[str, float]
Shape = Literal["one", "list", "table"]
MAX_ENTRIES = 10_000

_ELSEWHERE = {
    **dict.fromkeys(
        ("seed", "random_state", "random_seed"), "The seed is `train.seed`, for all algorithms."
    ),
    **dict.fromkeys(
        ("nthread", "n_jobs", "num_threads", "thread_count"),
        "Threads are given by `train.resources: {cpus: ...}`.",
    ),
    **dict.fromkeys(
        ("num_class", "num_classes", "feature_dim"), "Classes and features are counted in the data."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameter:
    """One thing about an algorithm that can be set.

    Parameters
    ----------
    kind
        `int`, `float` or `str`.
    default
        What it is when it is not set. None: not used, or the algorithm chooses; `help` says which.
    low, high
        The range of numbers, ends included.
    choices
        The texts it may be, for `str` (and for a table, instead of one).
    help
        What it does, in one line.
    aliases
        Other names for it, as SageMaker or a library calls it.
    spellings
        Other texts for a choice, as SageMaker or a library spells it.
    shape
        `one` value, a `list` of 1 to 8 (or one alone), or a `table` of values by name.
    """

    kind: type[int] | type[float] | type[str]
    default: Value
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    help: str
    aliases: tuple[str, ...] = ()
    spellings: Mapping[str, str] = field(default_factory=dict, hash=False)
    shape: Shape = "one"

    def problem(self, value: object) -> str:
        """Return what is wrong with a value, or nothing."""
        if value is None and self.default is None:
            return ""
        if self.shape == "table" and not (isinstance(value, str) and value in self.choices):
            return self._problem_of_table(value)
        if self.shape == "list" and isinstance(value, list | tuple):
            if not 1 <= len(value) <= 8:
                return "a list of 1 to 8 numbers is expected"
            return next((p for p in map(self._problem_of_one, value) if p), "")
        return self._problem_of_one(value)

    def _problem_of_table(self, value: object) -> str:
        if not isinstance(value, Mapping) or not 0 < len(value) <= MAX_ENTRIES:
            words = " or ".join([*self.choices, "a table such as {name: number}"])
            return f"{words} is expected"
        problems = ((name, self._problem_of_one(one)) for name, one in value.items())
        return next((f"for {name!r} {problem}" for name, problem in problems if problem), "")

    def _problem_of_one(self, value: object) -> str:
        if self.kind is str:
            known = isinstance(value, str) and (value in self.choices or value in self.spellings)
            return "" if known else f"one of {', '.join(self.choices)} is expected"
        if isinstance(value, str) and value in self.choices:
            return ""
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (self.kind is int and not whole):
            return f"a {'whole ' if self.kind is int else ''}number is expected"
        assert isinstance(value, int | float)  # noqa: S101 told to the type checker
        low = float("-inf") if self.low is None else self.low
        high = float("inf") if self.high is None else self.high
        return "" if low <= value <= high else f"{self.range} is expected"

    @property
    def range(self) -> str:
        """The range in words, such as `1 to 16`; `any number` where there is none."""
        if self.low is not None and self.high is not None:
            return f"{self.low:,.10g} to {self.high:,.10g}"
        if self.low is not None:
            return f"at least {self.low:,.10g}"
        return f"at most {self.high:,.10g}" if self.high is not None else "any number"

    def typed(self, value: Any) -> Any:
        """Return a checked value as its type: a whole float as `int`, a spelling as its choice."""
        if value is None:
            return None
        if isinstance(value, str):
            return self.spellings.get(value, value)
        if isinstance(value, Mapping):
            return {str(name): self.kind(one) for name, one in value.items()}
        if self.shape == "list":
            return [
                self.kind(one) for one in (value if isinstance(value, list | tuple) else [value])
            ]
        return self.kind(value)


class Tunable(Protocol):
    """Something with a name and hyperparameters, such as an `Algorithm`."""

    @property
    def name(self) -> str:
        """Name in the loop file."""
        ...

    @property
    def hyperparameters(self) -> Mapping[str, Hyperparameter]:
        """What can be set, by name."""
        ...


def canonical_hyperparameters(algorithm: Tunable, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given hyperparameters, checked, under the names that loopwright uses.

    Raises
    ------
    InvalidInputError
        If a name is unknown (with the nearest one) or given twice, or a value is of a wrong type
        or out of range.
    """
    known = algorithm.hyperparameters
    names = {alias: name for name, one in known.items() for alias in one.aliases}
    canonical: dict[str, Any] = {}
    written: dict[str, str] = {}
    for text, value in given.items():
        name = text if text in known else names.get(text)
        if name is None:
            raise _unknown(algorithm, text, [*known, *names])
        if name in canonical:
            raise InvalidInputError(
                f"{algorithm.name} is given {written[name]} and {text}, which are the same.",
                hint=f"Keep one of the two; loopwright's name is {name}.",
                field=text,
                value=value,
            )
        if problem := known[name].problem(value):
            raise InvalidInputError(
                f"Hyperparameter {text} of {algorithm.name} is {_shown(value)}; {problem}.",
                hint=f"{name}: {known[name].help}",
                field=text,
                value=value,
            )
        canonical[name], written[name] = known[name].typed(value), text
    return canonical


def checked_hyperparameters(algorithm: Tunable, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all hyperparameters of an algorithm: the given ones checked, the others by default.

    Raises
    ------
    InvalidInputError
        See `canonical_hyperparameters`.
    """
    canonical = canonical_hyperparameters(algorithm, given)
    return {
        name: canonical.get(name, one.default) for name, one in algorithm.hyperparameters.items()
    }


def hyperparameters_from_text(algorithm: Tunable, given: Mapping[str, str]) -> dict[str, Any]:
    """Return hyperparameters that came as text, as SageMaker and command lines give them.

    Raises
    ------
    InvalidInputError
        See `canonical_hyperparameters`.

    Examples
    --------
    >>> from loopwright.train import get_algorithm
    >>> hyperparameters_from_text(get_algorithm("xgboost"), {"eta": "0.2", "num_round": "100"})
    {'learning_rate': 0.2, 'rounds': 100}
    """
    return canonical_hyperparameters(
        algorithm, {name: _value_of_text(text) for name, text in given.items()}
    )


def _value_of_text(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, bool) else value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _unknown(algorithm: Tunable, name: str, known: list[str]) -> InvalidInputError:
    return InvalidInputError(
        f"{algorithm.name} has no hyperparameter {name[:80]!r}.",
        hint=_ELSEWHERE.get(name) or did_you_mean(name[:80], known),
        field=name[:80],
        value=None,
    )
