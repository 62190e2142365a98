"""What the endpoint needs of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol


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


class OneRow(Protocol):
    """What answers single rows quickly, from one thread."""

    def answer(self, row: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return the row as the model read it and its answer, which the caller may change.

        None where `check_and_predict` has to read the row, or to say what is wrong with it.
        """
        ...


class WholeRequests(Protocol):
    """What answers whole JSON bodies, from one thread."""

    def answer(
        self, body: bytes, inference_id: str, *, at: str | None
    ) -> tuple[bytes, bytes | None, int] | None:
        """Return the answer, the lines to capture and the number of rows.

        There are no lines where `at`, the time that is captured, is None. None where the body has
        to be read otherwise, or something is wrong with it.
        """
        ...


class ServedModel(Protocol):
    """A model that is ready to answer; `loopwright.train.ServingModel` is one.

    `check_and_predict` is called from one thread at a time. `check_golden` may run in another thread
    before the first call.
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

    @property
    def extras(self) -> Mapping[str, Mapping[str, Any]]:
        """What can be added to an answer when a request asks for it: JSON Schemas by name."""
        ...

    def check_extras(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names once each, or raise `InvalidInputError` for one that cannot be added."""
        ...

    def check_and_predict(
        self, rows: Sequence[Mapping[str, Any]], *, index: int = 0, extras: Sequence[str] = ()
    ) -> tuple[Sequence[Mapping[str, Any]], list[dict[str, Any]]]:
        """Return the rows as the model read them, and one answer a row, which the caller may change.

        An answer is `{"prediction": ...}`, with `probability` or `probabilities` if it has; every
        extra is added under its own name, they have been checked. Raises `InvalidInputError` for
        the first row that does not fit the signature; `index` is the place of `rows[0]` in its
        request.
        """
        ...

    def one_row(self) -> OneRow | None:
        """Return what does the same for single rows in fewer steps; None if there is no such thing."""
        ...

    def whole_requests(self, *, after: bytes, head: bytes, tail: bytes) -> WholeRequests | None:
        """Return what answers whole JSON bodies in one step; None if there is no such thing.

        `after` ends every answer before its bracket; `head` and `tail` stand in a captured line
        between its time and its inputs, and after its prediction.
        """
        ...

    def with_unknown_columns(self, policy: Literal["ignore", "refuse"]) -> ServedModel:
        """Return the model with what becomes of columns that it does not read."""
        ...

    def with_unseen_categories(self, policy: Literal["allow", "refuse"]) -> ServedModel:
        """Return the model with what becomes of categories that training never saw.

        Raises `InvalidInputError` if it cannot tell them.
        """
        ...

    def check_golden(self) -> None:
        """Raise if the model answers its golden rows otherwise than when it was packed."""
        ...


OwnAnswer = Callable[..., Any]
"""Steps to an answer: takes a request, a `Served`, a capture log or None, and names of extras."""

ModelOpener = Callable[[Path], ServedModel]
"""Opens a `model.tar.gz`; raises a `LoopwrightError` for one that is broken or not to be trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model and what its answers carry; a request keeps to one of these to its end.

    `variant` is None where the endpoint has one model and no variants. `code` is how a user's own
    code takes whole requests, where that is what is served.
    """

    model: ServedModel
    version: int | str
    variant: str | None = None
    is_shadow: bool = False
    code: OwnAnswer | None = None
