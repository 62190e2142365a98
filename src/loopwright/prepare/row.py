"""Features of single rows, without a table: the fitted recipe as plain Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.instruction import Instruction, called
from loopwright.prepare.node import TODAY
from loopwright.prepare.recipe import FittedRecipe
from loopwright.prepare.step import Operation, Types
from loopwright.prepare.value import READERS

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


_WHOLE = 2**53


class RowEncoder:
    """Turns rows into features, with the same bits as `FittedRecipe.transform`.

    For serving: it needs no Polars, and one row costs microseconds. For tables use `transform`.
    It may be shared between threads.

    Parameters
    ----------
    fitted
        The recipe as it was fitted.

    Attributes
    ----------
    instructions
        The steps in the words of the compiled kernel.
    places, features, n_registers
        The register of every column that is read, those of the features, and how many there are.

    Raises
    ------
    InvalidInputError
        If the recipe was stored and its parts do not fit each other.
    """

    def __init__(self, fitted: FittedRecipe) -> None:
        place: dict[str, int] = {TODAY: 0}
        types: Types = fitted.inputs
        _give_places(types, place)
        self._inputs = [(name, READERS[kind], kind == "number") for name, kind in types.items()]
        self._operations: list[Operation] = []
        self.instructions: list[Instruction] = []
        try:
            for step in fitted.steps:
                after = step.types_after(types)
                _give_places(after, place)
                operation = step.operation(types, place)
                if operation is not None:
                    self._operations.append(operation)
                    known = getattr(step, "instructions", None)
                    self.instructions += known(types, place) if known else called([operation])
                types = after
        except (KeyError, ValueError) as cause:
            # a stored recipe may come from anywhere
            raise InvalidInputError(
                f"The fitted recipe does not hold together: {cause!r}.",
                hint="Fit the recipe again, or restore the file.",
            ) from cause
        self._spare = [None] * (len(place) - 1 - len(fitted.inputs))
        self.places = {name: place[name] for name in fitted.inputs}
        self.features = [place[name] for name in types]
        self.n_registers = len(place)
        self._uses_today = fitted.uses_today
        self.feature_names = fitted.feature_names

    def encode(self, rows: Sequence[Mapping[str, Any]], *, today: date | None = None) -> np.ndarray:
        """Return the features, float64, (n_rows, n_features); missing is NaN.

        Parameters
        ----------
        rows
            Values as `Signature.check_row` returns them or as Polars gives rows; what is not there
            is missing.
        today
            What `today()` gives; by default the present day in UTC.

        Raises
        ------
        InvalidInputError
            If a value is of another type than the column had in training.
        """
        if today is None and self._uses_today:
            today = datetime.now(UTC).date()
        encoded = np.array([self._features_of(row, today) for row in rows], dtype=np.float64)
        # what overflowed on the way is missing; None came as NaN already
        encoded[np.isinf(encoded)] = np.nan
        return encoded.reshape(len(rows), len(self.features))

    def _features_of(self, row: Mapping[str, Any], today: date | None) -> list[Any]:
        registers: list[Any] = [today]
        put, get = registers.append, row.get
        for name, read, is_number in self._inputs:
            value = get(name)
            # a finite float is what nearly every value is; x - x is 0 for those only
            if value is None or (is_number and type(value) is float and value - value == 0.0):
                put(value)
            elif is_number and type(value) is int and -_WHOLE < value < _WHOLE:
                put(float(value))
            else:
                put(read(value))
        registers += self._spare
        for operation in self._operations:
            operation(registers)
        return [registers[place] for place in self.features]


def _give_places(types: Types, place: dict[str, int]) -> None:
    for name in types:
        place.setdefault(name, len(place))
