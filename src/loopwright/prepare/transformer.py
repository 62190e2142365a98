"""A recipe as a scikit-learn transformer; importing this module imports scikit-learn."""

from __future__ import annotations

import warnings
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from loopwright.core.errors import InvalidInputError
from loopwright.prepare.fitting import fit_recipe
from loopwright.prepare.recipe import Recipe
from loopwright.prepare.step import fresh
from loopwright.prepare.suggestion import Family, suggest

if TYPE_CHECKING:
    from sklearn.utils import Tags


class RecipeTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Fit and apply a recipe inside a scikit-learn pipeline.

    It takes Polars and pandas tables, and arrays of numbers, whose columns it names `x0`, `x1`, ...
    and gives float64 arrays in which missing is NaN. `fit_transform` gives each training row the
    target encoding that the other folds know, as scikit-learn's `TargetEncoder` does; `transform`
    of the same rows therefore differs in those columns.

    Parameters
    ----------
    recipe
        What to do; by default what `suggest` proposes for the rows and the target.
    family
        What the model wants, if there is no recipe: `scaled` (linear models, neighbours) or `tree`.
    task
        regression, binary or multiclass; by default judged by the target.
    seed
        Decides the folds.
    today
        The date that `today()` gives.

    Attributes
    ----------
    recipe_
        The recipe that was used.
    fitted_
        The fitted recipe, for `RowEncoder`, `to_json` and `transform_file`.
    """

    def __init__(
        self,
        recipe: Recipe | None = None,
        *,
        family: Family = "scaled",
        task: str | None = None,
        seed: int = 0,
        today: date | None = None,
    ) -> None:
        self.recipe = recipe
        self.family = family
        self.task = task
        self.seed = seed
        self.today = today

    def fit(self, X: Any, y: Any = None) -> RecipeTransformer:
        """Learn the recipe from the rows of X, (n_rows, n_columns)."""
        self._fit(X, y)
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Learn the recipe and return the features to train with, target encodings out of fold."""
        del fit_params
        return self._fit(X, y)

    def transform(self, X: Any) -> Any:
        """Return the features, float64, (n_rows, n_features)."""
        check_is_fitted(self, "fitted_")
        return self.fitted_.transform(self._table(X, reset=False))

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Return the names of the features; `input_features` must be those of `fit`, if given."""
        check_is_fitted(self, "fitted_")
        if input_features is not None and list(input_features) != self._columns:
            raise ValueError("input_features is not equal to feature_names_in_")
        return np.asarray(self.fitted_.feature_names, dtype=object)

    def _fit(self, X: Any, y: Any) -> Any:
        table = self._table(X, reset=True)
        target = None if y is None else np.asarray(y).reshape(-1)
        if target is not None and len(target) != table.height:
            raise ValueError(f"X has {table.height} rows, y has {len(target)}.")
        self._columns = table.columns
        self.recipe_ = self.recipe if self.recipe is not None else self._suggested(table, target)
        self.fitted_, features = fit_recipe(
            self.recipe_, table, target, seed=self.seed, today=self.today
        )
        return features

    def _suggested(self, table: pl.DataFrame, target: Any) -> Recipe:
        # a recipe suggested for one row would drop every column as constant
        check_array(np.zeros((table.height, 1)), ensure_min_samples=2)
        name = fresh("target", table.columns)
        if target is None:
            # as many classes as rows: too many for a mean target, which nobody could compute
            with_target = table.with_row_index(name)
            return suggest(with_target, name, "multiclass", family=self.family, today=self.today)
        type_of_target(target, raise_unknown=True)
        with_target = table.with_columns(pl.Series(name, target))
        task = self.task or _task(target)
        return suggest(with_target, name, task, family=self.family, today=self.today)

    def _table(self, X: Any, *, reset: bool) -> pl.DataFrame:
        """Return X as a table after scikit-learn's own checks of names and widths."""
        if not isinstance(X, pl.DataFrame) and not hasattr(X, "iloc"):
            X = validate_data(self, X, reset=reset, ensure_all_finite="allow-nan", dtype="numeric")
            return pl.DataFrame({f"x{at}": X[:, at] for at in range(X.shape[1])})
        validate_data(self, X, reset=reset, skip_check_array=True)
        table = X if isinstance(X, pl.DataFrame) else _from_pandas(X)
        if not table.height or not table.width:
            # for scikit-learn's own words
            check_array(np.zeros((table.height, table.width)))
        return table

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        tags.non_deterministic = False
        return tags


def _task(target: Any) -> str:
    n_levels = len(np.unique(target))
    if n_levels == 2:
        return "binary"
    return "regression" if target.dtype.kind in "fiu" and n_levels > 20 else "multiclass"


def _from_pandas(table: Any) -> pl.DataFrame:
    if not all(isinstance(name, str) for name in table.columns):
        table = table.set_axis([f"x{at}" for at in range(table.shape[1])], axis=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=UserWarning)
            return pl.from_pandas(table)
    except (TypeError, ValueError, pl.exceptions.PolarsError, ImportError) as cause:
        raise InvalidInputError(
            f"The pandas table cannot be read: {cause}.",
            hint="Give each column values of one type; text columns need pyarrow.",
        ) from cause
