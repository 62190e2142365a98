"""Which hyperparameters mattered: from jobs that were run anyway."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

FEWEST = 8
"""Fewer jobs than this tell nothing about several hyperparameters."""
_MOST_PARAMETERS = 24
_SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """How much of what differs between jobs goes with each hyperparameter.

    Parameters
    ----------
    about
        The jobs it was found from: an algorithm, or `all`.
    shares
        Name and share, 0 to 1, the greatest first.
    n_jobs
        From how many jobs.
    method
        `fanova` or `ped-anova`.
    """

    about: str
    shares: tuple[tuple[str, float], ...]
    n_jobs: int
    method: str


def importances(
    jobs: Sequence[tuple[str, Mapping[str, Any], float]], *, higher_is_better: bool
) -> tuple[Importance, ...]:
    """Return what mattered within each algorithm that has at least 8 jobs, and among all of them.

    Parameters
    ----------
    jobs
        Algorithm, hyperparameters and value of the metric.

    Notes
    -----
    The share of the variance of a random forest's prediction that each hyperparameter explains:
    Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance"
    (fANOVA), ICML 2014, as Optuna computes it. Where that fails, PED-ANOVA: Watanabe, Bansal and
    Hutter, IJCAI 2023.
    """
    known = [(name, given, value) for name, given, value in jobs if math.isfinite(value)]
    algorithms = list(dict.fromkeys(name for name, _, _ in known))
    groups = {
        name: [(given, value) for each, given, value in known if each == name]
        for name in algorithms
    }
    found = [_of(name, group, higher_is_better) for name, group in groups.items()]
    if len(algorithms) > 1:
        together = [({**given, "algorithm": name}, value) for name, given, value in known]
        found.append(_of("all", together, higher_is_better))
    return tuple(each for each in found if each is not None)


def _of(
    about: str, group: Sequence[tuple[Mapping[str, Any], float]], higher_is_better: bool
) -> Importance | None:
    if len(group) < FEWEST or len({value for _, value in group}) < 2:
        return None
    names = _varying([given for given, _ in group])
    if about == "all":
        # what some algorithms do not have would stand for the algorithm
        names = [name for name in names if all(given[name] is not None for given, _ in group)]
    if not names:
        return None
    if len(names) == 1:
        shares: dict[str, float] = {names[0]: 1.0}
        method = "only one differs"
    else:
        shares, method = _evaluated(_study(group, names, higher_is_better))
    ranked = sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))
    return Importance(
        about=about,
        shares=tuple((name, float(share)) for name, share in ranked),
        n_jobs=len(group),
        method=method,
    )


def _varying(given: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the plain hyperparameters that all have and that differ."""
    first, *others = given
    names = [name for name in first if all(name in each for each in others)]
    plain = [n for n in names if all(isinstance(e[n], str | int | float | None) for e in given)]
    return [n for n in plain if len({repr(each[n]) for each in given}) > 1][:_MOST_PARAMETERS]


def _study(
    group: Sequence[tuple[Mapping[str, Any], float]], names: Sequence[str], higher_is_better: bool
) -> optuna.Study:
    import optuna
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize" if higher_is_better else "minimize")
    kinds = {name: _distribution([given[name] for given, _ in group]) for name in names}
    for given, value in group:
        params = {name: _as_choice(given[name], kinds[name]) for name in names}
        study.add_trial(create_trial(params=params, distributions=kinds, value=value))
    return study


def _distribution(values: Sequence[Any]) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        low, high = float(min(values)), float(max(values))
        # settings such as learning rates are searched by their order of magnitude
        return FloatDistribution(low, high, log=low > 0 and high / low > 50)
    return CategoricalDistribution(sorted({str(value) for value in values}))


def _as_choice(value: Any, kind: optuna.distributions.BaseDistribution) -> Any:
    from optuna.distributions import FloatDistribution

    return float(value) if isinstance(kind, FloatDistribution) else str(value)


def _evaluated(study: optuna.Study) -> tuple[dict[str, float], str]:
    import optuna
    from optuna import importance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            # needs scikit-learn
            evaluator = importance.FanovaImportanceEvaluator(seed=_SEED)
            return importance.get_param_importances(study, evaluator=evaluator), "fanova"
        except (ImportError, RuntimeError, ValueError):
            simpler = importance.PedAnovaImportanceEvaluator()
            return importance.get_param_importances(study, evaluator=simpler), "ped-anova"
