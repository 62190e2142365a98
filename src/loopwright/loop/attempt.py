"""What to try next when the criteria are missed: each attempt has a hypothesis and a conclusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

BOOSTERS = ("xgboost", "lightgbm")
_ABSOLUTE_METRICS = ("mape", "mae", "share_within")
MAX_ATTEMPTS = 4
# a round of the loop's own must beat the champion soon, not find the best model there can be
MAX_OWN_ATTEMPTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One set of training jobs.

    Parameters
    ----------
    number
        From 1.
    idea
        A short name, each used once in a round.
    hypothesis
        Why this may help, in one sentence.
    algorithms
        What is trained.
    hyperparameters
        For each algorithm, what differs from its defaults.
    variant
        Which choice of features; see `loopwright.prepare.suggest`.
    windows
        Which of the round's windows of rows are learnt from.
    """

    number: int
    idea: str
    hypothesis: str
    algorithms: tuple[str, ...]
    hyperparameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    variant: Literal["plain", "places"] = "plain"
    windows: tuple[str, ...] = ("all",)

    def to_json(self) -> dict[str, Any]:
        """Return the attempt as JSON types."""
        return {
            "number": self.number,
            "idea": self.idea,
            "hypothesis": self.hypothesis,
            "algorithms": list(self.algorithms),
            "hyperparameters": self.hyperparameters,
            "variant": self.variant,
            "windows": list(self.windows),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the attempts so far showed.

    Parameters
    ----------
    ranking
        Algorithms, the best on validation first.
    window
        The window of rows that the best model learnt from.
    missed
        The metrics of the criteria whose bound misses its target on validation.
    best_iterations
        Rounds kept by each booster.
    jobs_used
        Training jobs so far.
    ideas
        Ideas tried already.
    """

    ranking: tuple[str, ...]
    missed: tuple[str, ...]
    best_iterations: dict[str, int]
    jobs_used: int
    ideas: tuple[str, ...]
    window: str = "all"


def first_attempt(
    algorithms: Sequence[str],
    hyperparameters: dict[str, dict[str, Any]],
    *,
    windows: Sequence[str] = ("all",),
) -> Attempt:
    """Return the attempt every round begins with: all algorithms as they are."""
    return Attempt(
        number=1,
        idea="defaults",
        hypothesis="perhaps one of the algorithms meets the criteria as it is",
        algorithms=tuple(algorithms),
        hyperparameters=hyperparameters,
        windows=tuple(windows),
    )


def next_attempt(
    evidence: Evidence,
    *,
    task: str,
    given: dict[str, dict[str, Any]],
    max_jobs: int,
    max_attempts: int = MAX_ATTEMPTS,
) -> Attempt | None:
    """Return what to try next, or None when nothing is left to try within the budget.

    Parameters
    ----------
    evidence
        What was seen so far.
    task
        Some ideas fit some tasks only.
    given
        Hyperparameters a person set; they are kept.
    max_jobs
        The budget of training jobs of the round.
    max_attempts
        So many in all.
    """
    number = len(evidence.ideas) + 1
    boosters = tuple(name for name in evidence.ranking if name in BOOSTERS)
    if not evidence.missed or not boosters or number > max_attempts:
        return None
    for idea, hypothesis, algorithms, changes in _ideas(evidence, task, boosters):
        if idea in evidence.ideas:
            continue
        if evidence.jobs_used + len(algorithms) > max_jobs:
            return None
        return Attempt(
            number=number,
            idea=idea,
            hypothesis=hypothesis,
            algorithms=algorithms,
            hyperparameters={name: {**changes[name], **given.get(name, {})} for name in algorithms},
            windows=(evidence.window,),
        )
    return None


_Idea = tuple[str, str, tuple[str, ...], dict[str, dict[str, Any]]]


def _ideas(evidence: Evidence, task: str, boosters: tuple[str, ...]) -> list[_Idea]:
    """Return the ideas the evidence suggests, the most promising first."""
    missed = ", ".join(evidence.missed)
    absolute: dict[str, Any] = {}
    ideas: list[_Idea] = []
    if task == "regression" and any(m.startswith(_ABSOLUTE_METRICS) for m in evidence.missed):
        absolute = {"objective": "absolute"}
        ideas.append(
            (
                "absolute errors",
                f"{missed} counts absolute errors, the models minimise squared ones",
                boosters,
                dict.fromkeys(boosters, absolute),
            )
        )
    stopped_early = [name for name in boosters if evidence.best_iterations.get(name, 0) < 150]
    larger = (
        "larger trees",
        f"{missed} is missed because the trees are too small for how the columns work together",
        boosters,
        {
            "xgboost": {**absolute, "max_depth": 9, "learning_rate": 0.03},
            "lightgbm": {**absolute, "num_leaves": 127, "learning_rate": 0.03},
        },
    )
    smaller = (
        "smaller trees",
        "training stopped early, so the trees fit noise; smaller ones generalise better"
        if stopped_early
        else "smaller trees average out more noise",
        boosters,
        {
            "xgboost": {**absolute, "max_depth": 3, "min_child_weight": 10.0},
            "lightgbm": {**absolute, "num_leaves": 8, "min_child_samples": 50},
        },
    )
    return [*ideas, *((smaller, larger) if stopped_early else (larger, smaller))]
