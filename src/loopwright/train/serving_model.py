"""A model ready to answer rows: its signature, its recipe as row code, its predictor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from loopwright.core.digest import canonical_json
from loopwright.core.errors import BackendError, InvalidInputError, NotFoundError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.prepare import (
    FittedRecipe,
    RecipeUnion,
    RowEncoder,
    Signature,
    UnionEncoder,
    open_fitted,
    row_encoder,
)
from loopwright.problem import Task
from loopwright.train.outcome import Outcome
from loopwright.train.predictor import Predictor
from loopwright.train.predictor_file import ARRAYS_MEMBER, META_MEMBER, open_predictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")

RECIPE_MEMBER = "recipe.json"
SIGNATURE_MEMBER = "signature.json"
GOLDEN_MEMBER = "golden.json"
REQUIRED_MEMBERS = (ARRAYS_MEMBER, META_MEMBER, RECIPE_MEMBER, SIGNATURE_MEMBER)
# another processor may round an exponential otherwise in its last bit, nothing more
_SAME_ANSWER = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServingModel:
    """Answers raw rows; made by `open_bundle`.

    Any thread may call it. Parameters are what a bundle holds; `version` is the start of the
    bundle's digest.
    """

    name: str
    version: str
    algorithm: str
    outcome: Outcome
    signature: Signature
    fitted: FittedRecipe | RecipeUnion
    predictor: Predictor
    members: Mapping[str, bytes] = field(repr=False)
    _encoder: RowEncoder | UnionEncoder = field(init=False, repr=False)

    def __post_init__(self) -> None:
        n_features = len(self.fitted.feature_names)
        if (self.predictor.n_features, self.predictor.n_outputs) != (
            n_features,
            self.outcome.n_outputs,
        ):
            raise InvalidInputError(
                f"The model {self.name!r} does not fit together: its recipe makes {n_features} "
                f"features and its outcome has {self.outcome.n_outputs} numbers, its predictor "
                f"takes {self.predictor.n_features} and gives {self.predictor.n_outputs}.",
                hint="Pack the files of one training job.",
                field="members",
            )
        object.__setattr__(self, "_encoder", row_encoder(self.fitted))

    @property
    def task(self) -> Task:
        """One of regression, binary, multiclass."""
        return self.outcome.task

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes of a classification, in a fixed order; nothing for regression."""
        return self.outcome.classes or None

    def predict(
        self, rows: Sequence[Mapping[str, Any]], *, today: date | None = None
    ) -> list[dict[str, Any]]:
        """Return one answer a row; a row's answer does not depend on the rows that come with it.

        Parameters
        ----------
        rows
            Raw rows as JSON gives them, or as `signature.check_row` returns them.
        today
            The date for features that depend on it; by default the present one, in UTC.

        Returns
        -------
        list of dict
            See `Outcome.answers`.

        Raises
        ------
        InvalidInputError
            For the first value that does not fit the signature.
        """
        if not rows:
            return []
        check = self.signature.check_row
        checked = [check(row, index=index) for index, row in enumerate(rows)]
        features = self._encoder.encode(checked, today=today)
        return self.outcome.answers(self.predictor.predict_raw(features))

    def predict_frame(
        self, frame: pl.DataFrame, *, today: date | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the numbers behind the answers for a table; see `Predictor.predict_raw`.

        For evaluation: imports Polars. By default `today` is the day of training, so that a table
        gives the same numbers on every day.
        """
        return self.predictor.predict_raw(self.fitted.transform(frame, today=today))

    def check_golden(self) -> None:
        """Compare the answers to the packed rows with those given when the model was packed.

        Raises
        ------
        BackendError
            If one differs: this machine or this release computes something else.
        InvalidInputError
            If the packed rows cannot be read.
        """
        if GOLDEN_MEMBER not in self.members:
            return
        rows, expected, today = _golden(self.members[GOLDEN_MEMBER])
        for row, (answer, before) in enumerate(
            zip(self.predict(rows, today=today), expected, strict=True)
        ):
            if not _is_same(answer, before):
                raise BackendError(
                    f"The model {self.name!r} answers golden row {row} with {answer}, not with "
                    f"{before} as when it was packed.",
                    hint="Do not serve it; open it with the release of loopwright that packed it.",
                    row=row,
                )

    def read_member(self, name: str) -> bytes:
        """Return a file of the bundle, such as `reference.json`.

        Raises
        ------
        NotFoundError
            If the bundle has no such file.
        """
        if name not in self.members:
            raise NotFoundError(
                f"The bundle of {self.name!r} holds no {name[:80]!r}.",
                hint=did_you_mean(name[:80], self.members),
                kind="member",
                name=name[:80],
            )
        return self.members[name]


def assembled_model(
    members: Mapping[str, bytes], *, name: str, algorithm: str, outcome: Outcome, version: str
) -> ServingModel:
    """Return the model that some files make; they hold at least `REQUIRED_MEMBERS`.

    Raises
    ------
    InvalidInputError
        If one of them is not what it must be, or they do not fit together.
    """
    return ServingModel(
        name=name,
        version=version,
        algorithm=algorithm,
        outcome=outcome,
        signature=_read(Signature.from_json, members, SIGNATURE_MEMBER),
        fitted=_read(open_fitted, members, RECIPE_MEMBER),
        predictor=open_predictor(members[ARRAYS_MEMBER], members[META_MEMBER]),
        members=members,
    )


def _read(reader: Any, members: Mapping[str, bytes], name: str) -> Any:
    try:
        return reader(members[name])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInputError(
            f"{name} in the bundle cannot be read: {error!r}.",
            hint="Pack the model again.",
            field=name,
        ) from error


def golden_member(model: ServingModel, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return `golden.json`: some raw rows, the answers to them, and the day they were given.

    Parameters
    ----------
    model
        The model about to be packed.
    rows
        Rows as a table or JSON gives them; dates become text as in a request.
    """
    plain = [{name: _json_value(value) for name, value in row.items()} for row in rows]
    today = model.fitted.today
    return canonical_json(
        {
            "today": today.isoformat() if today else None,
            "rows": plain,
            "answers": model.predict(plain, today=today),
        }
    )


def _json_value(value: Any) -> Any:
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, float) and value != value:
        return None
    return value


def _golden(data: bytes) -> tuple[list[Any], list[Any], date | None]:
    try:
        content = json.loads(data)
        rows, answers, today = content["rows"], content["answers"], content["today"]
        if not isinstance(rows, list) or not isinstance(answers, list) or len(rows) != len(answers):
            raise ValueError("rows and answers do not go together")
        return rows, answers, date.fromisoformat(today) if today else None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidInputError(
            f"{GOLDEN_MEMBER} in the bundle cannot be read: {error}.",
            hint="Pack the model again.",
            field=GOLDEN_MEMBER,
        ) from error


def _is_same(answer: Any, expected: Any) -> bool:
    if isinstance(answer, dict) and isinstance(expected, dict):
        return answer.keys() == expected.keys() and all(
            _is_same(answer[key], expected[key]) for key in answer
        )
    if isinstance(answer, float) and isinstance(expected, int | float):
        return abs(answer - expected) <= _SAME_ANSWER * max(1.0, abs(expected))
    return bool(answer == expected)
