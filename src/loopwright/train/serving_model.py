"""A model ready to answer rows: its signature, its recipe as row code, its predictor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.digest import canonical_json
from loopwright.core.errors import BackendError, InvalidInputError, NotFoundError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.data import Conversion, check_convertible, convert
from loopwright.prepare import (
    FittedRecipe,
    RecipeUnion,
    RowEncoder,
    RowReader,
    Signature,
    UnionEncoder,
    open_fitted,
    row_encoder,
)
from loopwright.problem import Task
from loopwright.train.array_file import pack_arrays
from loopwright.train.extra import EXTRAS, checked_extras
from loopwright.train.one_row import OneRow
from loopwright.train.outcome import Outcome
from loopwright.train.predictor import Predictor
from loopwright.train.predictor_file import ARRAYS_MEMBER, META_MEMBER, open_predictor
from loopwright.train.request_plan import Frame, RequestPlan, request_plan

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

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
    bundle's digest. `members` leaves out the predictor's arrays, which would be held twice;
    `read_member` returns them too.
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
    _reader: RowReader = field(init=False, repr=False)

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
        object.__setattr__(self, "_reader", RowReader(self.signature, self.fitted))

    @property
    def task(self) -> Task:
        """One of regression, binary, multiclass."""
        return self.outcome.task

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes of a classification, in a fixed order; nothing for regression."""
        return self.outcome.classes or None

    @property
    def extras(self) -> dict[str, Mapping[str, Any]]:
        """What the model can add to its answers, each with its JSON Schema; see `train.extra`."""
        return {name: extra.schema for name, extra in EXTRAS.items() if extra.is_offered(self)}

    def check_extras(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names without repetition if the model can add all of them.

        Raises
        ------
        InvalidInputError
            If one is unknown, or this model cannot add it.
        """
        return checked_extras(names, offered=self.extras)

    def predict(
        self,
        rows: Sequence[Mapping[str, Any]] | pl.DataFrame | pd.DataFrame,
        *,
        today: date | None = None,
        extras: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """Return one answer a row; a row's answer does not depend on the rows that come with it.

        Parameters
        ----------
        rows
            Raw rows as JSON gives them, or as `signature.check_row` returns them; or a table of
            Polars or pandas.
        today
            The date for features that depend on it; by default the present one, in UTC.
        extras
            What to add to every answer, such as `interval`; each comes under its own name.

        Returns
        -------
        list of dict
            See `Outcome.answers`.

        Raises
        ------
        InvalidInputError
            For the first value that does not fit the signature, or an extra that cannot be added.
        """
        extras = self.check_extras(extras) if extras else ()
        if hasattr(rows, "collect_schema") or hasattr(rows, "columns"):
            rows = _table_rows(rows)
        if not rows:
            return []
        return self.check_and_predict(rows, today=today, extras=extras)[1]

    def check_and_predict(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        index: int = 0,
        today: date | None = None,
        extras: Sequence[str] = (),
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the rows as `signature.check_row` gives them, and one answer a row.

        Parameters
        ----------
        rows
            At least one.
        index
            The place of the first row in its request, for errors.
        today, extras
            See `predict`; the extras have been checked.

        Raises
        ------
        InvalidInputError
            For the first value that does not fit the signature.
        """
        found = self._reader.read(rows, today=today)
        if found is None:
            check = self.signature.check_row
            checked = [check(row, index=at) for at, row in enumerate(rows, start=index)]
            features = self._encoder.encode(checked, today=today)
        else:
            checked, features = found
        raw = self.outcome.calibrated(self.predictor.predict_raw(features))
        answers = self.outcome.answers(raw)
        for name in extras:
            added = EXTRAS[name].added(self, checked, features, raw)
            for answer, each in zip(answers, added, strict=True):
                answer[name] = each
        return checked, answers

    def one_row(self) -> OneRow | None:
        """Return what answers single rows quickly, for one thread; None where the kernel cannot."""
        read = self._reader.one_row()
        return None if read is None else OneRow(read, self.predictor, self.outcome)

    def whole_requests(self, *, after: bytes, head: bytes, tail: bytes) -> RequestPlan | None:
        """Return what answers JSON bodies in one call, for one thread; None where the kernel cannot.

        Parameters
        ----------
        after, head, tail
            See `Frame`.
        """
        frame = Frame(after=after, head=head, tail=tail)
        return request_plan(self.signature, self.fitted, self.predictor, self.outcome, frame)

    def predict_frame(
        self,
        frame: pl.DataFrame | pd.DataFrame,
        *,
        today: date | None = None,
        calibrated: bool = True,
    ) -> npt.NDArray[np.float64]:
        """Return the numbers behind the answers for a table; see `Predictor.predict_raw`.

        For evaluation: imports Polars. By default `today` is the day of training, so that a table
        gives the same numbers on every day.

        Parameters
        ----------
        frame
            A table of Polars or pandas, as training read it or as it came: text is read as it was
            at training.
        calibrated
            False for probabilities as they were before their repair; for those who judge it.

        Raises
        ------
        InvalidInputError
            If a column holds something else than at training.
        """
        frame = self._with_texts_read(_polars_table(frame))
        raw = self.predictor.predict_raw(self.fitted.transform(frame, today=today))
        return self.outcome.calibrated(raw) if calibrated else raw

    def _with_texts_read(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a table with the conversions of training applied where its text is as it came."""
        conversions = [
            field.conversion
            for field in self.signature.fields
            if field.conversion is not None and _is_raw(frame, field.conversion)
        ]
        if not conversions:
            return frame
        raw = frame.lazy().select(each.column for each in conversions)
        check_convertible(raw, conversions)
        return frame.with_columns(convert(raw, conversions).collect())

    def with_unknown_columns(self, policy: Literal["ignore", "refuse"]) -> ServingModel:
        """Return the model with what becomes of columns that it does not read."""
        if self.signature.unknown == policy:
            return self
        return replace(self, signature=replace(self.signature, unknown=policy))

    def with_unseen_categories(self, policy: Literal["allow", "refuse"]) -> ServingModel:
        """Return the model with what becomes of categories that training never saw.

        Raises
        ------
        InvalidInputError
            If it is to refuse them, and the bundle does not say what training saw.
        """
        known = self.signature
        if known.unseen == policy:
            return self
        signature = (
            known.refusing_unseen() if policy == "refuse" else replace(known, unseen="allow")
        )
        return replace(self, signature=signature)

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
        """Return a file of the bundle, such as `reference.json`; the predictor's is packed anew.

        Raises
        ------
        NotFoundError
            If the bundle has no such file.
        """
        if name == ARRAYS_MEMBER:
            return pack_arrays(self.predictor.arrays())
        if name not in self.members:
            raise NotFoundError(
                f"The bundle of {self.name!r} holds no {name[:80]!r}.",
                hint=did_you_mean(name[:80], [*self.members, ARRAYS_MEMBER]),
                kind="member",
                name=name[:80],
            )
        return self.members[name]


def _is_raw(frame: pl.DataFrame, conversion: Conversion) -> bool:
    dtype = frame.schema.get(conversion.column)
    if dtype is None:
        return False
    if conversion.reading is not None:
        return dtype in (pl.String, pl.Categorical, pl.Enum)
    return conversion.is_code and dtype.is_integer()


def _polars_table(table: Any) -> pl.DataFrame:
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    if hasattr(table, "to_dict") and hasattr(table, "columns"):
        return pl.from_pandas(table)
    raise InvalidInputError(
        f"Rows were given as {type(table).__name__}.",
        hint="Give a list of mappings, or a Polars or pandas table.",
        field="rows",
        value=type(table).__name__,
    )


def _table_rows(table: Any) -> list[dict[str, Any]]:
    """Return the rows of a table; what is not a number in it is missing, as everywhere."""
    decimals = pl.col(pl.Decimal).cast(pl.Float64)
    return _polars_table(table).with_columns(decimals).fill_nan(None).to_dicts()


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
        # the predictor holds the arrays, and can be as large as the training table
        members={path: held for path, held in members.items() if path != ARRAYS_MEMBER},
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
