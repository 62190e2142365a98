"""Configurations: an algorithm with its settings and its features; the portfolio to begin with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.train import ALGORITHMS, get_algorithm
from loopwright.train.algorithm import TargetTransform

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One way to train a model.

    Parameters
    ----------
    name
        Short and different from every other of a search.
    algorithm
        See `loopwright.train.get_algorithm`.
    hyperparameters
        What differs from the algorithm's defaults.
    origin
        Where the idea came from, for people.
    target_transform
        The scale it learns on.
    choice
        Which recipe of its family it learns from, where there are several; the suggested one when
        empty.
    """

    name: str
    algorithm: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "portfolio"
    target_transform: TargetTransform = "none"
    choice: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as JSON types."""
        return {
            "name": self.name,
            "algorithm": self.algorithm,
            "hyperparameters": dict(self.hyperparameters),
            "origin": self.origin,
            "target_transform": self.target_transform,
            "choice": self.choice,
        }


# in the order in which they were most often of use; see benchmarks/bench_auto.py
_PORTFOLIO: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("lightgbm", "lightgbm", {}),
    ("linear", "linear-learner", {}),
    ("xgboost", "xgboost", {}),
    ("catboost", "catboost", {}),
    (
        "lightgbm-large",
        "lightgbm",
        {"num_leaves": 127, "learning_rate": 0.03, "colsample": 0.9, "min_child_samples": 5},
    ),
    ("random-forest", "random-forest", {}),
    ("neural-network", "neural-network", {}),
    ("xgboost-shallow", "xgboost", {"max_depth": 4, "colsample": 0.6, "min_child_weight": 5.0}),
    ("knn", "knn", {}),
    (
        "lightgbm-small",
        "lightgbm",
        {"num_leaves": 10, "colsample": 0.5, "min_child_samples": 40, "reg_lambda": 5.0},
    ),
    (
        "xgboost-deep",
        "xgboost",
        {"max_depth": 10, "learning_rate": 0.03, "colsample": 0.6, "subsample": 0.9},
    ),
)
# which is better, errors of the value or of its logarithm, depends on what counts
_ALSO_PLAIN = ("lightgbm", "xgboost", "catboost")
# what tries other choices of a recipe, one a family
_TRIERS = ("lightgbm", "linear-learner")
_PACKAGES = {"catboost": "catboost"}
_BOOSTERS = ("lightgbm", "xgboost", "catboost")
# what a thread of a booster goes through in a second, on a machine that does other things as well
_CELLS_A_SECOND = 20e6
# steps times learning rate: LightGBM's own default is 100 steps of 0.1
_LEAST_LEARNT, _HIGHEST_RATE = 12.0, 0.3
# neighbours are looked for among all rows, and the search grows with them
_MOST_ROWS = {"knn": 50_000, "neural-network": 500_000}


def portfolio(
    *,
    n_rows: int,
    algorithms: Sequence[str] | None = None,
    target_transform: TargetTransform = "none",
    choices: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Configuration, ...]:
    """Return what is tried first, the most promising first.

    Parameters
    ----------
    n_rows
        Rows to learn from; what does not scale is left out of a large table.
    algorithms
        Only these; all that are installed when absent.
    target_transform
        The scale to learn on; with `log`, the plain scale is tried too.
    choices
        Other choices of the recipe of each family: each is tried once, by its quickest booster.
    """
    found = [
        Configuration(
            name=name,
            algorithm=algorithm,
            hyperparameters=settings,
            target_transform=target_transform,
        )
        for name, algorithm, settings in _PORTFOLIO
        if (algorithms is None or algorithm in algorithms)
        and algorithm in ALGORITHMS
        and n_rows <= _MOST_ROWS.get(algorithm, n_rows)
        and (algorithm not in _PACKAGES or find_spec(_PACKAGES[algorithm]) is not None)
    ]
    if target_transform != "none":
        plain = [
            replace(each, name=f"{each.name}-plain", target_transform="none")
            for each in found
            if each.name in _ALSO_PLAIN
        ]
        found[2:2] = plain[:1]
        found += plain[1:]
    found += _other_choices(found, choices or {})
    return tuple(found)


def _other_choices(
    first: Sequence[Configuration], choices: Mapping[str, Sequence[str]]
) -> list[Configuration]:
    """Return one configuration for each choice of a family that has a trier."""
    found = []
    for algorithm in _TRIERS:
        base = next((each for each in first if each.algorithm == algorithm), None)
        if base is None:
            continue
        for choice in choices.get(get_algorithm(algorithm).features, ()):
            name = f"{base.name}-{choice}"
            found.append(replace(base, name=name, choice=choice, origin="another recipe"))
    return found


def hastened(
    configuration: Configuration, *, n_cells: int, n_outputs: int, fit_s: float, threads: int
) -> Configuration:
    """Return a configuration whose booster comes far enough in the time of a fit.

    Many small steps are better than few large ones, but where the time ends a fit after a few small
    ones, it has hardly begun. So the learning rate is raised until the steps that there is time for
    add up to what a model usually needs.

    Parameters
    ----------
    n_cells
        Values in the rows to learn from.
    n_outputs
        How many trees a step grows: one, or one a class.
    fit_s
        Wall time of a fit, in seconds.
    """
    if configuration.algorithm not in _BOOSTERS:
        return configuration
    algorithm = get_algorithm(configuration.algorithm)
    settings = configuration.hyperparameters
    rate = settings.get("learning_rate", algorithm.hyperparameters["learning_rate"].default)
    n_steps = fit_s * threads * _CELLS_A_SECOND / max(1, n_cells * n_outputs)
    least = min(_HIGHEST_RATE, float(f"{_LEAST_LEARNT / max(n_steps, 1.0):.2g}"))
    if least <= rate:
        return configuration
    return replace(configuration, hyperparameters={**settings, "learning_rate": least})


def random_configurations(
    algorithms: Sequence[str],
    *,
    seed: int,
    target_transform: TargetTransform = "none",
    choices: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Configuration]:
    """Return an endless series of boosters with settings drawn at random, of these algorithms.

    The ranges are those in which the best settings of boosters usually lie. Every third is drawn
    with another choice of its recipe, where there is one.
    """
    rng = np.random.default_rng(seed)
    drawn = {"lightgbm": _random_lightgbm, "xgboost": _random_xgboost, "catboost": _random_catboost}
    usable = [name for name in algorithms if name in drawn]
    number = 0
    while usable:
        for algorithm in usable:
            number += 1
            others = (choices or {}).get(get_algorithm(algorithm).features, ())
            choice = others[int(rng.integers(len(others)))] if others and not number % 3 else ""
            yield Configuration(
                name=f"{algorithm}-r{number}",
                algorithm=algorithm,
                hyperparameters=drawn[algorithm](rng),
                origin="drawn at random",
                # every third on the plain scale
                target_transform="none" if number % 3 == 0 else target_transform,
                choice=choice,
            )


def _random_lightgbm(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "learning_rate": _log_uniform(rng, 0.015, 0.1),
        "num_leaves": round(_log_uniform(rng, 8, 256)),
        "min_child_samples": round(_log_uniform(rng, 2, 64)),
        "colsample": round(float(rng.uniform(0.4, 1.0)), 3),
        "subsample": round(float(rng.uniform(0.6, 1.0)), 3),
        "reg_lambda": _log_uniform(rng, 0.01, 10.0),
    }


def _random_xgboost(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "learning_rate": _log_uniform(rng, 0.015, 0.1),
        "max_depth": int(rng.integers(3, 12)),
        "min_child_weight": _log_uniform(rng, 0.5, 20.0),
        "colsample": round(float(rng.uniform(0.4, 1.0)), 3),
        "subsample": round(float(rng.uniform(0.6, 1.0)), 3),
        "reg_lambda": _log_uniform(rng, 0.01, 10.0),
    }


def _random_catboost(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "learning_rate": _log_uniform(rng, 0.02, 0.1),
        "max_depth": int(rng.integers(4, 9)),
        "reg_lambda": _log_uniform(rng, 0.5, 10.0),
    }


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.4g}")
