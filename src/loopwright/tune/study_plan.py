"""The plan of a study: what it searches for, within which budget, and what it tries first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from loopwright.core.errors import InvalidInputError
from loopwright.tune.space import Space

Sampler = Literal["tpe", "random"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """What a study searches for.

    Parameters
    ----------
    name
        Names the study in the store; taking the same name again goes on with it.
    algorithm
        What is trained.
    space
        See `checked_space`.
    metric
        Name of what counts on the validation rows.
    higher_is_better
        Which way is better.
    n_trials
        How many trials in all, at least 1.
    seconds
        Wall time of this run of the study; nothing means no limit.
    parallel
        How many jobs side by side.
    sampler
        `tpe` learns where good values lie, `random` does not.
    prunes
        Whether jobs whose learning curve falls behind are ended early.
    seed
        Of the sampler.
    guesses
        Hyperparameters to try first, with where they come from: defaults, winners of other studies.
    """

    name: str
    algorithm: str
    space: Space
    metric: str
    higher_is_better: bool
    n_trials: int
    seconds: float | None = None
    parallel: int = 1
    sampler: Sampler = "tpe"
    prunes: bool = True
    seed: int = 7
    guesses: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    def __post_init__(self) -> None:
        for name in ("n_trials", "parallel"):
            if getattr(self, name) < 1:
                raise InvalidInputError(
                    f"{name} is {getattr(self, name)!r}.",
                    hint="Give 1 or more.",
                    field=name,
                    value=getattr(self, name),
                )
        if self.seconds is not None and not self.seconds > 0:
            raise InvalidInputError(
                f"The study is given {self.seconds!r} seconds.",
                hint="Give some time, such as 600, or none for no limit.",
                field="seconds",
                value=self.seconds,
            )
