"""Quick models: what a search that has no time for its first fit still ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import LoopwrightError
from loopwright.core.lazy import LazyModule
from loopwright.prepare import FittedRecipe, fit_recipe
from loopwright.train import Predictor, TrainingData, fit_algorithm, get_algorithm
from loopwright.train.linear_predictor import LinearPredictor
from loopwright.train.link import Link
from loopwright.tune.prepared import Table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

# what may learn from a few rows, the quicker first
_LEARNERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("lightgbm", {"rounds": 60, "learning_rate": 0.1}),
    ("linear-learner", {}),
)
# rows that a recipe is fitted on whose features count for nothing, and rows to learn from
_CONSTANT_ROWS, _SAMPLE_ROWS = 200, 2_000
# of those, the share that says when to end
_SHARE_HELD_OUT = 0.2
_LEAST_SHARE = 1e-6
_LINKS: dict[str, Link] = {"regression": "identity", "binary": "sigmoid", "multiclass": "softmax"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuickModel:
    """A model that needs no time to speak of.

    Parameters
    ----------
    name
        What it is.
    fitted, predictor
        Its recipe and what it computes.
    """

    name: str
    fitted: FittedRecipe
    predictor: Predictor


def constant_model(table: Table) -> QuickModel:
    """Return the model that answers every row alike: the mean, or how frequent each class is."""
    rows = _some(table, _CONSTANT_ROWS)
    family = next(name for name in ("linear", "scaled", *table.recipes) if name in table.recipes)
    fitted, _ = fit_recipe(
        table.recipes[family],
        table.frame[rows],
        table.recipe_target(rows),
        seed=table.seed,
        today=table.today,
    )
    intercepts = _intercepts(table)
    return QuickModel(
        name="constant",
        fitted=fitted,
        predictor=LinearPredictor(
            coefficients=np.zeros((len(intercepts), len(fitted.feature_names))),
            intercepts=intercepts,
            link=_LINKS[table.outcome.task],
        ),
    )


def sampled_model(table: Table, algorithms: Sequence[str] | None = None) -> QuickModel | None:
    """Return a model of a few rows; None if there are hardly more, or it cannot learn from them.

    Parameters
    ----------
    algorithms
        Those that may be used; nothing means any.
    """
    usable = [each for each in _LEARNERS if algorithms is None or each[0] in algorithms]
    if not usable or len(table) < 2 * _SAMPLE_ROWS:
        return None
    algorithm, settings = get_algorithm(usable[0][0]), usable[0][1]
    rows = _some(table, _SAMPLE_ROWS)
    n_held = int(_SHARE_HELD_OUT * len(rows))
    held, learnt = np.sort(rows[:n_held]), np.sort(rows[n_held:])
    try:
        fitted, X = fit_recipe(
            table.recipes[algorithm.features],
            table.frame[learnt],
            table.recipe_target(learnt),
            seed=table.seed,
            today=table.today,
        )
        model = fit_algorithm(
            algorithm,
            TrainingData(
                train=table.part(X, learnt),
                validation=table.part(fitted.transform(table.frame[held]), held),
                n_classes=len(table.outcome.classes),
                feature_names=fitted.feature_names,
                class_names=table.outcome.classes,
            ),
            task=table.outcome.task,
            hyperparameters=settings,
            seed=table.seed,
            target_transform=table.target_transform,
        )
    except (LoopwrightError, ValueError):
        # such as a class that none of the few rows has
        return None
    name = f"{algorithm.name} of {len(rows):,} rows"
    return QuickModel(name=name, fitted=fitted, predictor=model.predictor)


def _some(table: Table, n_rows: int) -> npt.NDArray[np.int64]:
    rng = np.random.default_rng(table.seed)
    return rng.permutation(len(table))[:n_rows]


def _intercepts(table: Table) -> npt.NDArray[np.float64]:
    weight = table.weight if table.weight is not None else np.ones(len(table))
    if table.outcome.task == "regression":
        return np.array([np.average(table.y, weights=weight)])
    n_classes = len(table.outcome.classes)
    counts = np.bincount(table.y.astype(np.intp), weights=weight, minlength=n_classes)
    shares = np.clip(counts / counts.sum(), _LEAST_SHARE, 1.0)
    logs = np.log(shares)
    return np.array([logs[1] - logs[0]]) if table.outcome.task == "binary" else logs
