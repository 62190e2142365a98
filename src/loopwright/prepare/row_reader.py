"""Rows of a request, checked and turned into features in one call of the compiled kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from loopwright.core.kernel import find_kernel
from loopwright.core.lazy import LazyModule
from loopwright.prepare.recipe import FittedRecipe
from loopwright.prepare.row import RowEncoder
from loopwright.prepare.signature import FieldKind, Signature
from loopwright.prepare.union import RecipeUnion
from loopwright.prepare.value import READERS, Value, ValueType

if TYPE_CHECKING:
    import numpy as np

    from loopwright.core import _kernel
else:
    np = LazyModule("numpy")

# the kernel looks at the usual values of these kinds itself
_KINDS: Mapping[FieldKind, str] = {"number": "n", "category": "t", "text": "t", "boolean": "b"}
_STORED: Mapping[FieldKind, ValueType] = {
    "number": "number",
    "category": "text",
    "text": "text",
    "boolean": "boolean",
}


class RowReader:
    """Does what `Signature.check_row` and the recipe's row encoder do, with the same results.

    Parameters
    ----------
    signature
        What a row must hold.
    fitted
        The recipe, or the union of recipes, that makes the features.
    """

    def __init__(self, signature: Signature, fitted: FittedRecipe | RecipeUnion) -> None:
        recipes = fitted.recipes if isinstance(fitted, RecipeUnion) else (fitted,)
        self._uses_today = fitted.uses_today
        self._widths = [len(recipe.feature_names) for recipe in recipes]
        self._compiled = [_compiled(signature, recipe) for recipe in recipes]

    def read(
        self, rows: Sequence[Any], *, today: date | None = None
    ) -> tuple[list[dict[str, Value]], np.ndarray] | None:
        """Return the checked rows and their features, float64, (n_rows, n_features).

        None where there is no kernel, or a row is not usual: then Python has to read the rows, or
        to say what is wrong with them.
        """
        if today is None and self._uses_today:
            today = datetime.now(UTC).date()
        checked: Any = rows if type(rows) is list else list(rows)
        parts = []
        for rows_, width in zip(self._compiled, self._widths, strict=True):
            features = np.empty((len(checked), width))
            checked = rows_.read(checked, today, features) if rows_ is not None else 0
            if type(checked) is int:
                return None
            parts.append(features)
        return checked, parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def one_row(self) -> OneRowReader | None:
        """Return what reads single rows; None where there is no kernel, or a union of recipes."""
        compiled = self._compiled[0]
        if len(self._compiled) > 1 or compiled is None:
            return None
        return OneRowReader(compiled, self._widths[0], uses_today=self._uses_today)


class OneRowReader:
    """Does what `RowReader.read` does for a single row, always into the same `features`.

    Parameters
    ----------
    features
        float64, (1, n_features): those of the row that was read last.
    """

    __slots__ = ("_rows", "_uses_today", "features")

    def __init__(self, rows: _kernel.Rows, n_features: int, *, uses_today: bool) -> None:
        self._rows = rows
        self._uses_today = uses_today
        self.features = np.empty((1, n_features))

    def __call__(self, row: Any) -> dict[str, Value] | None:
        """Return the checked row; None where Python has to read it, or to say what is wrong."""
        today = datetime.now(UTC).date() if self._uses_today else None
        checked = self._rows.read([row], today, self.features)
        return None if type(checked) is int else checked[0]  # type: ignore[index] # a list, if no number


class RowParts(NamedTuple):
    """What the kernel needs to know to read rows.

    Parameters
    ----------
    fields
        Of each field its name, the kind of its usual values (`n`umber, `t`ext, `b`oolean or `o`ther),
        whether it may be missing, its check, its register (-1 for none), and what a checked value
        becomes in its register (None for itself).
    encoder
        Holds the instructions that make the features.
    """

    fields: list[tuple[str, str, bool, Callable[[Any], Any], int, Callable[[Any], Any] | None]]
    encoder: RowEncoder


def row_parts(signature: Signature, fitted: FittedRecipe) -> RowParts:
    """Return what the kernel needs to know to read the rows of a signature for a recipe."""
    encoder = RowEncoder(fitted)
    checks = signature.checks
    fields: list[Any] = []
    for field in signature.fields:
        stored = fitted.inputs.get(field.name)
        read = None if stored is None or _STORED.get(field.kind) == stored else READERS[stored]
        fields.append(
            (
                field.name,
                # where only some values may be given, the field's own check has to say
                "o" if signature.levels(field) is not None else _KINDS.get(field.kind, "o"),
                field.nullable,
                checks[field.name],
                encoder.places.get(field.name, -1),
                read,
            )
        )
    return RowParts(fields, encoder)


def _compiled(signature: Signature, fitted: FittedRecipe) -> _kernel.Rows | None:
    kernel = find_kernel()
    if kernel is None:
        return None
    fields, encoder = row_parts(signature, fitted)
    made: _kernel.Rows = kernel.Rows(
        fields=fields,
        instructions=[tuple(instruction) for instruction in encoder.instructions],
        features=encoder.features,
        n_registers=encoder.n_registers,
        refuses_unknown=signature.unknown == "refuse",
        target=signature.target,
    )
    return made
