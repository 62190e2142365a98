"""What the endpoint needs of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class InputField(Protocol):
    """One column of a row."""

    @property
    def name(self) -> str:
        """Name of the column."""
        ...

    @property
    def kind(self) -> str:
        """One of number, category, text, boolean, date."""
        ...


class InputSignature(Protocol):
    """The columns of a row, and the check of one row against them."""

    @property
    def fields(self) -> Sequence[InputField]:
        """The columns, in the order of the training table."""
        ...

    def json_schema(self) -> Mapping[str, Any]:
        """Return the JSON Schema of one row, with an example."""
        ...

    def check_row(self, row: Mapping[str, Any], *, index: int) -> Mapping[str, Any]:
        """Return the row as the model expects it, or raise `InvalidInputError` naming the field."""
        ...


class ServedModel(Protocol):
    """A model that is ready to answer; `loopwright.train.ServingModel` is one.

    `predict` is called from one thread at a time, with rows that `signature.check_row` returned.
    `check_golden` may run in another thread before the first `predict`.
    """

    @property
    def name(self) -> str:
        """Name of the model."""
        ...

    @property
    def task(self) -> str:
        """One of regression, binary, multiclass."""
        ...

    @property
    def signature(self) -> InputSignature:
        """What a row must bring."""
        ...

    @property
    def classes(self) -> Sequence[Any] | None:
        """The classes of a classification, in a fixed order; nothing for regression."""
        ...

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return one `{"prediction": ...}` a row, with `probability` or `probabilities` if it has."""
        ...

    def check_golden(self) -> None:
        """Raise if the model answers its golden rows otherwise than when it was packed."""
        ...


ModelOpener = Callable[[Path], ServedModel]
"""Opens a `model.tar.gz`; raises a `LoopwrightError` for one that is broken or not to be trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model and the version that its answers carry; a request keeps to one of these to its end."""

    model: ServedModel
    version: int | str
