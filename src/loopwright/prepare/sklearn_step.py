"""Scikit-learn's preprocessing as steps: its fitted values become ours, nothing is pickled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.prepare.binning import FittedBin
from loopwright.prepare.encoding import FittedEncoding
from loopwright.prepare.imputation import FittedImpute
from loopwright.prepare.level import CATEGORIES, Level, level_text
from loopwright.prepare.lookup import Encoded
from loopwright.prepare.one_hot import FittedOneHot
from loopwright.prepare.power import FittedPower
from loopwright.prepare.quantile import FittedQuantileScale, curve_of
from loopwright.prepare.scaling import FittedScale
from loopwright.prepare.step import NUMBERS, Training, Types, checked_columns, fresh

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")

Translated = (
    FittedScale
    | FittedQuantileScale
    | FittedPower
    | FittedBin
    | FittedImpute
    | FittedOneHot
    | FittedEncoding
)
Setting = str | float | int | bool | None | list[float]


class SklearnStep(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="sklearn",
    tag_field="step",
):
    """Do what a transformer of scikit-learn does, with its own fit and our own row code.

    Fitting the recipe fits the named transformer with these settings on the training rows and
    translates what it learned, so serving needs no scikit-learn and nothing is pickled. Known are
    those in `TRANSLATORS`; any other is refused, as are settings that have no translation. Use
    `SklearnStep.like(transformer, columns)` for one you have, and `translated` to keep what it
    learned already.
    """

    columns: tuple[str, ...]
    transformer: str
    settings: dict[str, Setting] = {}
    reason: str = ""

    @classmethod
    def like(cls, transformer: Any, columns: Sequence[str], *, reason: str = "") -> SklearnStep:
        """Return the step that does what this transformer does, with its settings.

        Raises
        ------
        InvalidInputError
            If it is of a kind that cannot be translated, or a setting is no plain value.
        """
        name = _checked(type(transformer).__name__)
        usual = type(transformer)().get_params(deep=False)
        settings: dict[str, Setting] = {}
        for key, value in transformer.get_params(deep=False).items():
            same = value is usual[key] or (isinstance(value, float) and value != value)
            if same or value == usual[key]:
                continue
            plain = list(value) if isinstance(value, tuple) else value
            if not isinstance(plain, str | float | int | bool | list | None):
                raise _refused(name, f"{key}={value!r}", "Only plain settings can be stored.")
            settings[key] = plain
        return cls(columns=tuple(columns), transformer=name, settings=settings, reason=reason)

    def fit(self, training: Training) -> Translated:
        """Fit the transformer on the training rows and translate it."""
        from sklearn import impute, preprocessing

        name = _checked(self.transformer)
        numeric = name in _OF_NUMBERS or (
            name == "SimpleImputer" and all(training.types.get(c) in NUMBERS for c in self.columns)
        )
        checked_columns("sklearn", self.columns, training.types, NUMBERS if numeric else CATEGORIES)
        kind = getattr(preprocessing, name, None) or getattr(impute, name)
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in self.settings.items()}
        try:
            transformer = kind(**settings)
            transformer.fit(_values(training, self.columns, numeric=numeric))
        except (TypeError, ValueError) as cause:
            raise InvalidInputError(
                f"scikit-learn's {name} cannot be fitted: {cause}",
                hint="Change the settings, or fill what is missing before.",
                step="sklearn",
            ) from cause
        return translated(transformer, self.columns, training.types, reason=self.reason)


def translated(
    transformer: Any, columns: Sequence[str], types: Types, *, reason: str = ""
) -> Translated:
    """Return the fitted step that does what a fitted transformer of scikit-learn does.

    Parameters
    ----------
    transformer
        Fitted on these columns, in this order.
    types
        What the columns before the step store.

    Raises
    ------
    InvalidInputError
        If it cannot be translated, or was fitted on another number of columns.
    """
    name = _checked(type(transformer).__name__)
    n = getattr(transformer, "n_features_in_", None)
    if n != len(columns):
        raise _refused(
            name,
            f"{len(columns)} columns",
            "It is not fitted." if n is None else f"It was fitted on {n}.",
        )
    return TRANSLATORS[name](transformer, tuple(columns), types, reason)


def _checked(name: str) -> str:
    if name not in TRANSLATORS:
        raise InvalidInputError(
            f"scikit-learn's {name} cannot be a step: it would need a pickle to be stored.",
            hint=f"{did_you_mean(name, TRANSLATORS)} Or use RecipeTransformer in a pipeline with it.",
            step="sklearn",
            value=name,
        )
    return name


def _refused(name: str, what: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"scikit-learn's {name} with {what} cannot be translated into a step.",
        hint=why,
        step="sklearn",
        value=name,
    )


def _values(training: Training, columns: Sequence[str], *, numeric: bool) -> Any:
    if numeric:
        columns_ = [
            training.table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
            for name in columns
        ]
        return np.column_stack(columns_)
    found = np.empty((training.table.height, len(columns)), dtype=object)
    for at, name in enumerate(columns):
        column = training.table[name]
        found[:, at] = (column if column.dtype == pl.String else column.cast(pl.Float64)).to_list()
    return found


def _standard(it: Any, columns: tuple[str, ...], types: Types, reason: str) -> FittedScale:
    del types
    zeros, ones = [0.0] * len(columns), [1.0] * len(columns)
    centres = it.mean_ if type(it).__name__ == "StandardScaler" else it.center_
    centred = it.with_mean if type(it).__name__ == "StandardScaler" else it.with_centering
    return FittedScale(
        columns=columns,
        means=_floats(centres if centred and centres is not None else zeros),
        scales=_floats(it.scale_ if it.scale_ is not None else ones),
        reason=reason,
    )


def _quantile(it: Any, columns: tuple[str, ...], types: Types, reason: str) -> FittedQuantileScale:
    del types
    normal = it.output_distribution == "normal"
    curves = (curve_of(knots, it.references_, normal=normal) for knots in it.quantiles_.T)
    return FittedQuantileScale(columns=columns, curves=tuple(curves), reason=reason)


def _power(it: Any, columns: tuple[str, ...], types: Types, reason: str) -> FittedPower:
    del types
    if it.method != "yeo-johnson":
        raise _refused("PowerTransformer", f"method={it.method!r}", "Use method='yeo-johnson'.")
    scaler = it._scaler if it.standardize else None
    return FittedPower(
        columns=columns,
        powers=_floats(it.lambdas_),
        means=_floats(scaler.mean_ if scaler else [0.0] * len(columns)),
        scales=_floats(scaler.scale_ if scaler else [1.0] * len(columns)),
        reason=reason,
    )


def _bins(it: Any, columns: tuple[str, ...], types: Types, reason: str) -> FittedBin:
    del types
    if it.encode != "ordinal":
        raise _refused(
            "KBinsDiscretizer", f"encode={it.encode!r}", "Use encode='ordinal', then one_hot."
        )
    edges = tuple(_floats(edges[1:-1]) for edges in it.bin_edges_)
    return FittedBin(columns=columns, edges=edges, reason=reason)


def _imputer(it: Any, columns: tuple[str, ...], types: Types, reason: str) -> FittedImpute:
    fills = [None if isinstance(v, float) and v != v else v for v in it.statistics_.tolist()]
    if it.add_indicator or any(fill is None for fill in fills):
        what = "add_indicator" if it.add_indicator else "a column without any value"
        raise _refused("SimpleImputer", what, "Use the step impute.")
    return FittedImpute(
        columns=columns,
        fills=tuple(
            str(fill) if types[name] == "text" else float(fill or 0.0)
            for name, fill in zip(columns, fills, strict=True)
        ),
        indicators=(None,) * len(columns),
        reason=reason,
    )


def _one_hot(it: Any, columns: tuple[str, ...], types: Types, reason: str) -> FittedOneHot:
    if it.drop is not None or it.handle_unknown != "ignore" or _groups_rare(it):
        raise _refused(
            "OneHotEncoder",
            f"handle_unknown={it.handle_unknown!r}, drop={it.drop!r}",
            "Use handle_unknown='ignore', drop=None and no limit on frequencies.",
        )
    levels = tuple(_levels(found) for found in it.categories_)
    taken, names = list(types), []
    for column, known in zip(columns, levels, strict=True):
        own: list[str] = []
        for level in known:
            own.append(fresh(f"{column}={level_text(level)}", [*taken, *own]))
        taken += own
        names.append(tuple(own))
    return FittedOneHot(columns=columns, levels=levels, names=tuple(names), reason=reason)


def _ordinal(it: Any, columns: tuple[str, ...], types: Types, reason: str) -> FittedEncoding:
    if it.handle_unknown != "use_encoded_value" or _groups_rare(it):
        raise _refused(
            "OrdinalEncoder",
            f"handle_unknown={it.handle_unknown!r}",
            "Use handle_unknown='use_encoded_value' and no limit on frequencies.",
        )
    taken, outputs = list(types), []
    for column, found in zip(columns, it.categories_, strict=True):
        levels = _levels(found)
        codes: dict[Level | None, float] = {level: float(at) for at, level in enumerate(levels)}
        missing = _number_or_none(it.encoded_missing_value) if None in codes else None
        codes.pop(None, None)
        unseen = _number_or_none(it.unknown_value)
        name = fresh(f"{column}_code", taken)
        taken.append(name)
        outputs.append(
            Encoded(
                column=column,
                name=name,
                levels=tuple(level for level in codes if level is not None),
                values=tuple(codes.values()),
                # scikit-learn takes a gap that training did not have for a level never seen
                missing=missing if None in levels else unseen,
                unseen=unseen,
            )
        )
    return FittedEncoding(kind="ordinal", columns=columns, outputs=tuple(outputs), reason=reason)


def _groups_rare(it: Any) -> bool:
    return it.min_frequency is not None or it.max_categories is not None


def _levels(found: Any) -> tuple[Level | None, ...]:
    def level(value: Any) -> Level | None:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        return value if isinstance(value, str) else float(value)

    return tuple(level(value) for value in found.tolist())


def _number_or_none(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


TRANSLATORS: Mapping[str, Callable[[Any, tuple[str, ...], Types, str], Translated]] = {
    "StandardScaler": _standard,
    "RobustScaler": _standard,
    "QuantileTransformer": _quantile,
    "PowerTransformer": _power,
    "KBinsDiscretizer": _bins,
    "SimpleImputer": _imputer,
    "OneHotEncoder": _one_hot,
    "OrdinalEncoder": _ordinal,
}
"""The transformers that can be a step, and how what they learned is translated."""

_OF_NUMBERS = frozenset(TRANSLATORS) - {"SimpleImputer", "OneHotEncoder", "OrdinalEncoder"}
