"""What to try next when the criteria are missed: each attempt has a hypothesis and a conclusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

BOOSTERS = ("xgboost", "lightgbm")
_ABSOLUTE_METRICS = ("mape", "mae", "share_within")
MAX_ATTEMPTS = 5
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
    drop
        Columns left out besides those that people left out.
    recipe
        Choices about the recipe that a search found; see `RecipeChoice`.
    evidence
        What the idea follows from, a sentence each.
    """

    number: int
    idea: str
    hypothesis: str
    algorithms: tuple[str, ...]
    hyperparameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    variant: Literal["plain", "places"] = "plain"
    windows: tuple[str, ...] = ("all",)
    drop: tuple[str, ...] = ()
    recipe: dict[str, str] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the attempt as JSON types."""
        more: dict[str, Any] = {"drop": list(self.drop)} if self.drop else {}
        if self.recipe:
            more["recipe"] = self.recipe
        return more | {
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
    fit
        `overfitting`, `underfitting`, `balanced` or `unknown`; see `Diagnosis`.
    weak_columns, leaks
        Columns that carry almost nothing, and those that may be known only with the answer.
    has_places
        Whether there are a latitude and a longitude.
    told
        The same in sentences.
    """

    ranking: tuple[str, ...]
    missed: tuple[str, ...]
    best_iterations: dict[str, int]
    jobs_used: int
    ideas: tuple[str, ...]
    window: str = "all"
    fit: str = "unknown"
    weak_columns: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()
    has_places: bool = False
    told: tuple[str, ...] = ()


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
    for idea in _ideas(evidence, task, boosters):
        if idea.name in evidence.ideas:
            continue
        if evidence.jobs_used + len(idea.algorithms) > max_jobs:
            return None
        return Attempt(
            number=number,
            idea=idea.name,
            hypothesis=idea.hypothesis,
            algorithms=idea.algorithms,
            hyperparameters={
                name: {**idea.changes.get(name, {}), **given.get(name, {})}
                for name in idea.algorithms
            },
            variant=idea.variant,
            windows=(evidence.window,),
            drop=idea.drop,
            evidence=evidence.told,
        )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Idea:
    """What may help: settings, features, or columns to leave out."""

    name: str
    hypothesis: str
    algorithms: tuple[str, ...]
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    variant: Literal["plain", "places"] = "plain"
    drop: tuple[str, ...] = ()


def _ideas(evidence: Evidence, task: str, boosters: tuple[str, ...]) -> list[_Idea]:
    """Return the ideas the evidence suggests, the most promising first."""
    missed = ", ".join(evidence.missed)
    absolute: dict[str, Any] = {}
    ideas: list[_Idea] = []
    if task == "regression" and any(m.startswith(_ABSOLUTE_METRICS) for m in evidence.missed):
        absolute = {"objective": "absolute"}
        ideas.append(
            _Idea(
                name="absolute errors",
                hypothesis=f"{missed} counts absolute errors, the models minimise squared ones",
                algorithms=boosters,
                changes=dict.fromkeys(boosters, absolute),
            )
        )
    return [
        *ideas,
        *_about_columns(evidence, boosters, absolute),
        *_about_size(evidence, missed, boosters, absolute),
    ]


def _about_columns(
    evidence: Evidence, boosters: tuple[str, ...], absolute: dict[str, Any]
) -> list[_Idea]:
    same = dict.fromkeys(boosters, absolute)
    ideas = []
    if evidence.leaks:
        ideas.append(
            _Idea(
                name="without leaks",
                hypothesis=f"{', '.join(evidence.leaks)} may be known only with the answer, and "
                "mislead where it is not",
                algorithms=boosters,
                changes=same,
                drop=evidence.leaks,
            )
        )
    if evidence.has_places:
        ideas.append(
            _Idea(
                name="places",
                hypothesis="what is near each other on the map has much in common: the mean of the "
                "target around a place may tell more than its coordinates",
                algorithms=boosters,
                changes=same,
                variant="places",
            )
        )
    if evidence.weak_columns and evidence.fit == "overfitting":
        ideas.append(
            _Idea(
                name="fewer columns",
                hypothesis=f"{len(evidence.weak_columns)} columns carry almost nothing, and give an "
                "overfitting model noise to learn by heart",
                algorithms=boosters,
                changes=same,
                drop=evidence.weak_columns,
            )
        )
    return ideas


def _about_size(
    evidence: Evidence, missed: str, boosters: tuple[str, ...], absolute: dict[str, Any]
) -> list[_Idea]:
    stopped_early = any(evidence.best_iterations.get(name, 0) < 150 for name in boosters)
    overfits = evidence.fit == "overfitting"
    smaller_first = overfits or (stopped_early and evidence.fit != "underfitting")
    larger = _Idea(
        name="larger trees",
        hypothesis=f"{missed} is missed on the rows learnt from too: the trees are too small for how "
        "the columns work together"
        if evidence.fit == "underfitting"
        else f"{missed} is missed because the trees are too small for how the columns work together",
        algorithms=boosters,
        changes={
            "xgboost": {**absolute, "max_depth": 9, "learning_rate": 0.03},
            "lightgbm": {**absolute, "num_leaves": 127, "learning_rate": 0.03},
        },
    )
    smaller = _Idea(
        name="smaller trees",
        hypothesis="the model does much worse on new rows than on those it learnt from: smaller "
        "trees learn less by heart"
        if overfits
        else "training stopped early, so the trees fit noise; smaller ones generalise better"
        if stopped_early
        else "smaller trees average out more noise",
        algorithms=boosters,
        changes={
            "xgboost": {**absolute, "max_depth": 3, "min_child_weight": 10.0},
            "lightgbm": {**absolute, "num_leaves": 8, "min_child_samples": 50},
        },
    )
    return [smaller, larger] if smaller_first else [larger, smaller]
