"""What a tuning job tries next, which of its jobs fall behind, and when it has seen enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any

from loopwright.core.digest import digest_value
from loopwright.sagemaker.tuning_space import Parameter, grid
from loopwright.tune.sampling import Sampling
from loopwright.tune.study_plan import StudyPlan
from loopwright.tune.trial import TrialRecord, TrialState

# so many curves there must be before one is held against them
_LEAST_CURVES = 3
# of the jobs that come to a rung, one in so many goes on
_REDUCTION = 3
_LARGEST_SEED = 1 << 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What is known of a training job of a search.

    Parameters
    ----------
    texts
        The searched hyperparameters, as the job was given them.
    value
        The objective; None where the job runs, or told none.
    has_ended
        Whether it can change no more.
    curve
        Every value of the objective so far, in order.
    """

    texts: Mapping[str, str]
    value: float | None = None
    has_ended: bool = False
    curve: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search over one set of ranges.

    Parameters
    ----------
    strategy
        `Bayesian`, `Random`, `Hyperband` or `Grid`.
    maximizes
        Whether more is better.
    seed
        Decides, with the number of a job and what is known by then, what is tried.
    """

    name: str
    parameters: tuple[Parameter, ...]
    strategy: str
    maximizes: bool
    seed: int
    parallel: int = 1

    def next(self, tried: Sequence[Tried], *, earlier: Sequence[Tried] = ()) -> dict[str, str]:
        """Return the hyperparameters of the next job, as text.

        Parameters
        ----------
        tried
            The jobs of this search, in the order of their beginning.
        earlier
            Jobs of the searches before, whose results are learnt from.
        """
        if self.strategy == "Grid":
            return next(islice(grid(self.parameters), len(tried), None))
        plan = StudyPlan(
            name=self.name,
            algorithm="",
            space={},
            metric="",
            higher_is_better=self.maximizes,
            n_trials=1,
            parallel=self.parallel,
            sampler="random" if self.strategy == "Random" else "tpe",
            prunes=False,
            seed=self.seed,
        )
        known = [
            record
            for number, each in enumerate([*earlier, *tried])
            if (record := self._record(number, each)) is not None
        ]
        space = {each.name: each.distribution() for each in self.parameters}
        asked = Sampling(plan=plan, known=known, distributions=space).ask().hyperparameters
        return {each.name: each.text(asked[each.name]) for each in self.parameters}

    def _record(self, number: int, tried: Tried) -> TrialRecord | None:
        values = {each.name: each.value(tried.texts.get(each.name, "")) for each in self.parameters}
        # a range of another search may lie elsewhere
        values = {name: value for name, value in values.items() if value is not None}
        if len(values) < len(self.parameters):
            return None
        state = TrialState.DONE if tried.value is not None else TrialState.FAILED
        if not tried.has_ended:
            state = TrialState.RUNNING
        return TrialRecord(number=number, hyperparameters=values, state=state, value=tried.value)


def seed_of(given: int | None, name: str) -> int:
    """Return the seed of a search: the one that was given, or one made of its name."""
    if given is not None:
        return given % _LARGEST_SEED
    return int(digest_value(name).rpartition(":")[2][:8], 16) % _LARGEST_SEED


def falls_behind(
    curve: Sequence[float], others: Sequence[Sequence[float]], *, maximizes: bool
) -> bool:
    """Tell whether a job is worse than the median of the others' running averages, as far as it came.

    The rule is SageMaker's ("Stop Training Jobs Early", developer guide), Golovin et al., "Google
    Vizier", KDD 2017, section 3.2.1; there must be three others at least.
    """
    n = len(curve)
    # one that has ended earlier stands there with all it told
    averages = [sum(each[:n]) / len(each[:n]) for each in others if n and each]
    if len(averages) < _LEAST_CURVES:
        return False
    middle = median(averages)
    return curve[-1] < middle if maximizes else curve[-1] > middle


def leaves_rung(
    curve: Sequence[float],
    others: Sequence[Sequence[float]],
    *,
    maximizes: bool,
    least: int,
    most: int,
) -> bool:
    """Tell whether a job is not among the best third of those that came to its last rung.

    Asynchronous successive halving: Li et al., "A System for Massively Parallel Hyperparameter
    Tuning", MLSys 2020, with its reduction factor of 3 (the one bracket that begins at `least`).

    Parameters
    ----------
    least, most
        How many values of the objective a job tells before it is compared, and at the most.
    """
    rung = _last_rung(len(curve), least, most)
    if rung is None:
        return False
    sign = 1.0 if maximizes else -1.0
    there = [sign * each[rung - 1] for each in others if len(each) >= rung]
    if len(there) + 1 < _REDUCTION:
        return False
    better = sum(value > sign * curve[rung - 1] for value in there)
    return better >= max(1, (len(there) + 1) // _REDUCTION)


def _last_rung(n: int, least: int, most: int) -> int | None:
    rung, found = least, None
    while rung <= n and rung < most:
        found, rung = rung, rung * _REDUCTION
    return found


def best(values: Sequence[float | None], *, maximizes: bool) -> int | None:
    """Return the place of the best value; of equal ones the first; None where there is none."""
    places = [place for place, value in enumerate(values) if value is not None]
    sign = -1.0 if maximizes else 1.0
    return min(places, key=lambda place: (sign * (values[place] or 0.0), place), default=None)


def not_improving(values: Sequence[float | None], *, maximizes: bool) -> int:
    """Return how many jobs with a value came since the best one."""
    known = [each for each in values if each is not None]
    place = best(known, maximizes=maximizes)
    return 0 if place is None else len(known) - 1 - place


def is_enough(
    criteria: Mapping[str, Any], values: Sequence[float | None], *, maximizes: bool
) -> bool:
    """Tell whether a tuning job's own criteria of completion are met."""
    place = best(values, maximizes=maximizes)
    if place is None:
        return False
    target = criteria.get("TargetObjectiveMetricValue")
    reached = values[place] or 0.0
    if target is not None and (reached >= target if maximizes else reached <= target):
        return True
    about = criteria.get("BestObjectiveNotImproving", {})
    limit = about.get("MaxNumberOfTrainingJobsNotImproving")
    return limit is not None and not_improving(values, maximizes=maximizes) >= limit
