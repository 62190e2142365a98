"""Steps that give every level of a category a number: its place, its share, its mean target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.instruction import Instruction
from loopwright.prepare.level import (
    CATEGORIES,
    Level,
    category,
    category_of,
    coded,
    level_counts,
    level_text,
    sorted_levels,
)
from loopwright.prepare.lookup import Encoded
from loopwright.prepare.step import (
    Operation,
    Registers,
    Training,
    Types,
    checked_columns,
    fresh,
)
from loopwright.prepare.value import ValueType

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")


_BLOCK_ROWS = 1_000_000


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
            levels = self.order or sorted_levels(category_of(training.table, column))
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
            levels, counts = level_counts(category_of(training.table, column))
            *shares, missing = (counts / max(training.table.height, 1)).tolist()
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
        return self.fit_out_of_fold(training, folds=False)[0]

    def fit_out_of_fold(
        self,
        training: Training,
        *,
        folds: bool = True,
        keep: Callable[[np.ndarray], np.ndarray] = lambda made: made,
    ) -> tuple[FittedEncoding, dict[str, np.ndarray]]:
        """Return the fitted step and, for each output, what training rows get: means of other folds.

        `keep` may put each of them elsewhere, so that memory holds one at a time.
        """
        checked_columns("target_encode", self.columns, training.types, CATEGORIES)
        suffixes, targets = self._targets(training)
        fold_of = _folds(training, self.n_folds) if folds else np.zeros(len(targets), dtype=np.int8)
        outputs, made = [], []
        for column in self.columns:
            levels, codes = coded(category_of(training.table, column))
            sums = _Sums.of(codes, len(levels) + 1, fold_of, targets)
            means, overall = sums.means(smoothing=self.smoothing)
            for at, suffix in enumerate(suffixes):
                *values, missing = means[:, at].tolist()
                unseen = float(overall[at])
                outputs.append(_Draft(column, suffix, levels, tuple(values), missing, unseen))
            if folds:
                by_fold = sums.means_of_others(smoothing=self.smoothing)
                for at in range(targets.shape[1]):
                    values = np.empty(len(codes))
                    for rows, cells in _cells(codes, fold_of, len(levels) + 1):
                        values[rows] = by_fold[:, :, at].ravel()[cells]
                    made.append(keep(values))
        fitted = _encoding(
            "target_encode", outputs, self.columns, self.reason, training, self.keep_source
        )
        names = (output.name for output in fitted.outputs)
        return fitted, dict(zip(names, made, strict=True)) if folds else {}

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
        return ["target_mean"], target.astype(np.float64, copy=False)[:, None]


class _Sums(msgspec.Struct, frozen=True):
    """Rows and sums of the target by fold and level: (n_folds, n_levels), with outputs behind."""

    counts: np.ndarray
    sums: np.ndarray

    @classmethod
    def of(
        cls, codes: np.ndarray, n_levels: int, fold_of: np.ndarray, targets: np.ndarray
    ) -> _Sums:
        n_folds = int(fold_of.max(initial=0)) + 1
        n_cells = n_folds * n_levels
        counts = np.zeros(n_cells, dtype=np.int64)
        sums = np.zeros((targets.shape[1], n_cells))
        for rows, cells in _cells(codes, fold_of, n_levels):
            counts += np.bincount(cells, minlength=n_cells)
            for at in range(targets.shape[1]):
                sums[at] += np.bincount(cells, weights=targets[rows, at], minlength=n_cells)
        shape = (n_folds, n_levels)
        return cls(counts.reshape(shape), np.stack([each.reshape(shape) for each in sums], axis=-1))

    def means(self, *, smoothing: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the value of every level, (n_levels, n_outputs), and the means, (n_outputs,)."""
        return _smoothed(self.counts.sum(axis=0), self.sums.sum(axis=0), smoothing)

    def means_of_others(self, *, smoothing: float) -> np.ndarray:
        """Return the value of every level in each fold, from the other folds only."""
        n_folds = len(self.counts)
        found = np.empty(self.sums.shape)
        for fold in range(n_folds):
            # added, not taken off: nothing of the fold's own targets is left, not even by rounding
            others = [other for other in range(n_folds) if other != fold]
            found[fold], _ = _smoothed(
                self.counts[others].sum(axis=0), self.sums[others].sum(axis=0), smoothing
            )
        return found


def _cells(
    codes: np.ndarray, fold_of: np.ndarray, n_levels: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Give, some rows at a time, which rows and the cell of fold and level each is in."""
    # of many levels more rows at once, as every block is added to all cells
    size = max(_BLOCK_ROWS, 4 * n_levels)
    for first in range(0, len(codes), size):
        rows = slice(first, first + size)
        yield rows, codes[rows] + fold_of[rows] * np.int64(n_levels)


def _smoothed(
    counts: np.ndarray, sums: np.ndarray, smoothing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of levels drawn to the overall mean, and that mean."""
    overall = sums.sum(axis=0) / max(counts.sum(), 1)
    weights = counts[:, None] + smoothing
    means = np.where(
        weights > 0, (sums + smoothing * overall) / np.where(weights > 0, weights, 1), 0.0
    )
    return np.where(counts[:, None] > 0, means, overall), overall


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
            output.expression(category(output.column, types)).alias(output.name)
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

    def instructions(self, types: Types, place: Mapping[str, int]) -> list[Instruction]:
        """Return what the kernel does to one row."""
        del types
        made = []
        for output in self.outputs:
            known: dict[Level | None, float | None] = dict(
                zip(output.levels, output.values, strict=True)
            )
            known[None] = output.missing
            source, own = place[output.column], place[output.name]
            made.append(Instruction("l", source, own, table=known, other=output.unseen))
        return made


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
    taken, outputs = set(training.types), []
    for draft in drafts:
        name = fresh(f"{draft.column}_{draft.suffix}", taken)
        taken.add(name)
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


def _folds(training: Training, n_folds: int) -> np.ndarray:
    """Return the fold of each row; classes, if the target has them, are spread evenly."""
    n_rows = training.table.height
    places = np.random.default_rng(training.seed).permutation(n_rows)
    target, n = training.target, max(min(n_folds, n_rows), 1)
    folds = np.empty(n_rows, dtype=np.int8 if n <= 127 else np.int64)
    if target is not None and (target.dtype.kind != "f" or not _has_many(target)):
        _, codes = np.unique(target, return_inverse=True)
        folds[np.lexsort((places, codes))] = np.arange(n_rows) % n
    else:
        # in blocks, so that the permutation is not held twice
        for start in range(0, n_rows, _BLOCK_ROWS):
            folds[start : start + _BLOCK_ROWS] = places[start : start + _BLOCK_ROWS] % n
    return folds


def _has_many(target: np.ndarray) -> bool:
    # nearly always a few rows tell; the whole column is sorted only where they do not
    return len(np.unique(target[:1_000])) > 2 or len(np.unique(target)) > 2
