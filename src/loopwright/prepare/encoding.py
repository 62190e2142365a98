"""Steps that give every level of a category a number: its place, its share, its mean target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.level import CATEGORIES, Level, category, coded, level_text
from loopwright.prepare.step import (
    Operation,
    Registers,
    Training,
    Types,
    checked_columns,
    fresh,
    same_length,
)
from loopwright.prepare.value import ValueType

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")


class Ordinal(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="ordinal",
    tag_field="step",
):
    """Number the levels from 0: in the given order, else sorted. Levels never seen are missing."""

    columns: tuple[str, ...]
    order: tuple[Level, ...] = ()
    keep_source: bool = False
    reason: str = ""

    def fit(self, training: Training) -> FittedEncoding:
        """Learn the levels of each column."""
        checked_columns("ordinal", self.columns, training.types, CATEGORIES)
        outputs = []
        for column in self.columns:
            levels = self.order or coded(training.table[column])[0]
            values = tuple(float(code) for code in range(len(levels)))
            outputs.append(_Draft(column, "code", tuple(levels), values, None, None))
        return _encoding("ordinal", outputs, self.columns, self.reason, training, self.keep_source)


class Frequency(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="frequency",
    tag_field="step",
):
    """Replace a level by the share of training rows that hold it, 0 to 1; 0 if never seen."""

    columns: tuple[str, ...]
    keep_source: bool = False
    reason: str = ""

    def fit(self, training: Training) -> FittedEncoding:
        """Learn the share of each level."""
        checked_columns("frequency", self.columns, training.types, CATEGORIES)
        outputs = []
        for column in self.columns:
            levels, codes = coded(training.table[column])
            counts = np.bincount(codes, minlength=len(levels) + 1) / max(len(codes), 1)
            *shares, missing = counts.tolist()
            outputs.append(_Draft(column, "share", levels, tuple(shares), missing, 0.0))
        return _encoding(
            "frequency", outputs, self.columns, self.reason, training, self.keep_source
        )


class TargetEncode(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="target_encode",
    tag_field="step",
):
    """Replace a level by the mean target of the training rows that hold it, drawn to the overall mean.

    With n rows of sum s and overall mean m, a level becomes (s + smoothing * m) / (n + smoothing);
    a level never seen becomes m, and missing is a level of its own. Training rows get the value that
    the other folds give, so a row never sees its own target (scikit-learn's `TargetEncoder` does the
    same). For more than two classes set `per_class`: each class gets a column with its share.
    """

    columns: tuple[str, ...]
    smoothing: float = 10.0
    n_folds: int = 5
    per_class: bool = False
    keep_source: bool = False
    reason: str = ""

    def fit(self, training: Training) -> FittedEncoding:
        """Learn the mean of each level over all training rows."""
        checked_columns("target_encode", self.columns, training.types, CATEGORIES)
        suffixes, targets = self._targets(training)
        outputs = []
        for column in self.columns:
            levels, codes = coded(training.table[column])
            means, overall = self._means(codes, len(levels), targets)
            for at, suffix in enumerate(suffixes):
                *values, missing = means[:, at].tolist()
                unseen = float(overall[at])
                outputs.append(_Draft(column, suffix, levels, tuple(values), missing, unseen))
        return _encoding(
            "target_encode", outputs, self.columns, self.reason, training, self.keep_source
        )

    def out_of_fold(self, training: Training, fitted: FittedEncoding) -> dict[str, np.ndarray]:
        """Return, for each output of `fitted`, what training rows get: the means of other folds."""
        _, targets = self._targets(training)
        folds = _folds(training, self.n_folds)
        made: dict[str, np.ndarray] = {}
        names = iter(output.name for output in fitted.outputs)
        for column in self.columns:
            levels, codes = coded(training.table[column])
            values = np.empty(targets.shape)
            for fold in range(max(int(folds.max()) + 1, 1)):
                inside = folds == fold
                means, _ = self._means(codes[~inside], len(levels), targets[~inside])
                values[inside] = means[codes[inside]]
            made.update((next(names), values[:, at]) for at in range(targets.shape[1]))
        return made

    def _means(
        self, codes: np.ndarray, n_levels: int, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the value of every level and of missing, (n_levels + 1, n_outputs), and the means."""
        n_rows, n_outputs = targets.shape
        overall = targets.mean(axis=0) if n_rows else np.zeros(n_outputs)
        counts = np.bincount(codes, minlength=n_levels + 1)[:, None]
        sums = np.stack(
            [
                np.bincount(codes, weights=targets[:, at], minlength=n_levels + 1)
                for at in range(n_outputs)
            ],
            axis=1,
        )
        weights = counts + self.smoothing
        means = np.where(
            weights > 0, (sums + self.smoothing * overall) / np.where(weights > 0, weights, 1), 0.0
        )
        return np.where(counts > 0, means, overall), overall

    def _targets(self, training: Training) -> tuple[list[str], np.ndarray]:
        """Return the suffix of each output's name, and the target of each, (n_rows, n_outputs)."""
        target = training.target
        if target is None:
            raise InvalidInputError(
                "The step target_encode needs the target.",
                hint="Pass the target to fit_recipe, or encode another way.",
                step="target_encode",
            )
        if self.per_class:
            classes = np.unique(target)
            names = [f"share_of_{level_text(value)}" for value in classes.tolist()]
            return names, (target[:, None] == classes[None, :]).astype(np.float64)
        if target.dtype.kind not in "fiub":
            classes = np.unique(target)
            if len(classes) > 2:
                raise InvalidInputError(
                    f"The step target_encode met {len(classes)} classes.",
                    hint="Set per_class for more than two classes.",
                    step="target_encode",
                )
            target = target == classes[-1]
        return ["target_mean"], target.astype(np.float64)[:, None]


class Encoded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column of numbers made from the levels of another; None is missing."""

    column: str
    name: str
    levels: tuple[Level, ...]
    values: tuple[float, ...]
    missing: float | None
    unseen: float | None

    def __post_init__(self) -> None:
        same_length(self.levels, self.values)


class FittedEncoding(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="encoding",
    tag_field="step",
):
    """Replaces levels by numbers; `kind` is the step that learned them."""

    kind: Literal["ordinal", "frequency", "target_encode"]
    columns: tuple[str, ...]
    outputs: tuple[Encoded, ...]
    keep_source: bool = False
    reason: str = ""

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the columns, without the categories unless they are kept; the new ones come last."""
        gone = () if self.keep_source else self.columns
        kept = {name: kind for name, kind in types.items() if name not in gone}
        return {**kept, **{output.name: "number" for output in self.outputs}}

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the numbers."""
        del today
        return table.with_columns(
            _encoded(category(output.column, types), output).alias(output.name)
            for output in self.outputs
        )

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what looks the numbers of one row up."""
        del types
        plan = []
        for output in self.outputs:
            known: dict[Level | None, float | None] = dict(
                zip(output.levels, output.values, strict=True)
            )
            known[None] = output.missing
            plan.append((place[output.column], place[output.name], known, output.unseen))

        def encode(row: Registers) -> None:
            for source, own, known, unseen in plan:
                row[own] = known.get(row[source], unseen)

        return encode


class _Draft(msgspec.Struct, frozen=True):
    column: str
    suffix: str
    levels: tuple[Level, ...]
    values: tuple[float, ...]
    missing: float | None
    unseen: float | None


def _encoding(
    kind: Literal["ordinal", "frequency", "target_encode"],
    drafts: Sequence[_Draft],
    columns: tuple[str, ...],
    reason: str,
    training: Training,
    keep_source: bool,
) -> FittedEncoding:
    taken, outputs = list(training.types), []
    for draft in drafts:
        name = fresh(f"{draft.column}_{draft.suffix}", taken)
        taken.append(name)
        outputs.append(
            Encoded(
                column=draft.column,
                name=name,
                levels=draft.levels,
                values=draft.values,
                missing=draft.missing,
                unseen=draft.unseen,
            )
        )
    return FittedEncoding(
        kind=kind, columns=columns, outputs=tuple(outputs), keep_source=keep_source, reason=reason
    )


def _encoded(column: pl.Expr, output: Encoded) -> pl.Expr:
    missing, unseen = (pl.lit(value, dtype=pl.Float64) for value in (output.missing, output.unseen))
    if not output.levels:
        return pl.when(column.is_null()).then(missing).otherwise(unseen)
    found = column.replace_strict(
        list(output.levels), list(output.values), default=unseen, return_dtype=pl.Float64
    )
    return pl.when(column.is_null()).then(missing).otherwise(found)


def _folds(training: Training, n_folds: int) -> np.ndarray:
    """Return the fold of each row; classes, if the target has them, are spread evenly."""
    n_rows = training.table.height
    places = np.random.default_rng(training.seed).permutation(n_rows)
    target = training.target
    if target is not None and (target.dtype.kind != "f" or len(np.unique(target)) <= 2):
        _, codes = np.unique(target, return_inverse=True)
        order = np.lexsort((places, codes))
    else:
        order = np.argsort(places)
    folds = np.empty(n_rows, dtype=np.int64)
    folds[order] = np.arange(n_rows) % max(min(n_folds, n_rows), 1)
    return folds
