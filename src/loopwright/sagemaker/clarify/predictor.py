"""The model of an analysis: records in the form it takes, and what its answers say."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.clarify.config import AnalysisConfig, Predictor, Where
from loopwright.sagemaker.clarify.table import found_at, typed

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_CSV, _LINES, _JSON = "text/csv", "application/jsonlines", "application/json"
_MOST_BYTES = 1 << 20
_MOST_RECORDS = 5_000
_TOGETHER = 2
_CUT = 0.5

Ask = Callable[[bytes, str, str], bytes]
"""Returns the answer to a body of a content type, of the type that is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a model says of a record: at its `label` and its `probability`, as far as told to look."""

    label: Any
    probability: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that can be asked.

    Parameters
    ----------
    about
        How, by the analysis configuration.
    names
        Of the features.
    ask
        Sends one request.
    dataset_type
        What the content type is where none is given.
    """

    about: Predictor
    names: Sequence[str]
    ask: Ask = field(repr=False)
    dataset_type: str

    @property
    def content_type(self) -> str:
        """Return the media type of requests."""
        kind = self.about.content_type or self.dataset_type
        return kind.lower() if kind.lower() in (_CSV, _LINES, _JSON) else _CSV

    @property
    def accept_type(self) -> str:
        """Return the media type of answers."""
        return (self.about.accept_type or self.content_type).lower()

    def said(self, rows: Sequence[Sequence[Any]] | np.ndarray) -> list[Said]:
        """Return what the model says of rows of cells.

        Raises
        ------
        InvalidInputError
            If an answer does not hold what the configuration says.
        """
        with ThreadPoolExecutor(_TOGETHER) as pool:
            found = pool.map(self._asked, self._requests(rows))
            return [each for part in found for each in part]

    def scores(self, rows: Sequence[Sequence[Any]] | np.ndarray) -> np.ndarray:
        """Return the scores of rows, `(n_rows, n_scores)`."""
        found = [
            each.label if each.probability is None else each.probability for each in self.said(rows)
        ]
        try:
            table = np.array([_numbers(each) for each in found], dtype=float)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"The model's answer {str(found[0])[:200]!r} holds no scores: {error}. Say where they "
                "are with predictor.label or predictor.probability."
            ) from error
        return table.reshape(len(found), -1)

    def _requests(self, rows: Any) -> Iterator[tuple[bytes, int]]:
        one_by_one = self.content_type == _JSON and "$records" not in self._template()
        parts: list[str] = []
        size = 0
        for row in rows:
            parts.append(self._record(row))
            size += len(parts[-1])
            if one_by_one or size > _MOST_BYTES or len(parts) >= _MOST_RECORDS:
                yield self._body(parts), len(parts)
                parts, size = [], 0
        if parts:
            yield self._body(parts), len(parts)

    def _template(self) -> str:
        found = self.about.content_template
        if not isinstance(found, str):
            raise InvalidInputError(
                f"predictor.content_template is needed for the content type {self.content_type}."
            )
        return found

    def _record(self, row: Any) -> str:
        if self.content_type == _CSV:
            return ",".join(map(_cell, row))
        values = [_value(each) for each in row]
        if self.content_type == _LINES:
            return self._template().replace("$features", json.dumps(values))
        return self._filled(values)

    def _filled(self, values: Sequence[Any]) -> str:
        """Return a record of JSON by the template of records."""
        found = self.about.record_template
        if found is None:
            raise InvalidInputError("predictor.record_template is needed for application/json.")
        pairs = dict(zip(self.names, values, strict=True))
        found = found.replace("$features_kvp", json.dumps(pairs))
        found = found.replace("$feature_names", json.dumps(list(self.names)))
        found = found.replace("$features", json.dumps(values))
        for name, value in pairs.items():
            found = found.replace(f'"${{{name}}}"', json.dumps(value))
        return found

    def _body(self, parts: Sequence[str]) -> bytes:
        if self.content_type != _JSON:
            return ("\n".join(parts) + "\n").encode()
        whole = self._template().replace("$records", f"[{', '.join(parts)}]")
        return whole.replace("$record", parts[0]).encode()

    def _asked(self, request: tuple[bytes, int]) -> list[Said]:
        body, n_records = request
        answer = self.ask(body, self.content_type, self.accept_type)
        found = read_answer(answer, self.accept_type, self.about, n_records)
        if len(found) != n_records:
            raise InvalidInputError(
                f"The model answered {n_records} records with {len(found)} predictions: "
                f"{answer[:200].decode(errors='replace')!r}."
            )
        return found


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    if any(letter in text for letter in ',"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _value(cell: Any) -> Any:
    """Return a cell as JSON has it: a number where a text is one."""
    if not isinstance(cell, str):
        return cell.item() if hasattr(cell, "item") else cell
    text = cell.strip()
    if not text:
        return None
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if number == number and abs(number) != float("inf") else text
    return text


def read_answer(answer: bytes, kind: str, about: Predictor, n_records: int) -> list[Said]:
    """Return what an answer says of each record.

    Raises
    ------
    InvalidInputError
        If it cannot be read, or what the configuration names is not in it.
    """
    text = answer.decode(errors="replace").strip()
    try:
        if kind == _CSV:
            return [_of_cells(row, about) for row in _csv_rows(text, n_records)]
        if kind == _LINES:
            values = [json.loads(line) for line in text.splitlines() if line.strip()]
            if len(values) == 1 and n_records > 1 and isinstance(values[0], list):
                values = values[0]
            return [_of_value(each, about) for each in values]
        return _of_whole(json.loads(text), about, n_records)
    except (ValueError, csv.Error) as error:
        raise InvalidInputError(
            f"The model's answer is no {kind}: {text[:200]!r} ({error})."
        ) from error


def _csv_rows(text: str, n_records: int) -> list[list[Any]]:
    if text.startswith(("[", "{")):
        # some containers answer a list whatever is accepted
        found = json.loads(text)
        return [each if isinstance(each, list) else [each] for each in found]
    rows: list[list[Any]] = [row for row in csv.reader(io.StringIO(text)) if row]
    if len(rows) == 1 and n_records > 1 and len(rows[0]) == n_records:
        return [[each] for each in rows[0]]
    return rows


def _of_cells(row: Sequence[Any], about: Predictor) -> Said:
    def at(where: Where) -> Any:
        number = int(where)
        if not 0 <= number < len(row):
            raise InvalidInputError(f"The model's answer {row!r} has no value {number}.")
        return _opened(row[number])

    if about.label is None and about.probability is None:
        return Said(label=[_opened(each) for each in row] if len(row) > 1 else _opened(row[0]))
    return Said(
        label=None if about.label is None else at(about.label),
        probability=None if about.probability is None else at(about.probability),
    )


def _opened(cell: Any) -> Any:
    """Return a cell; one that holds a list, as a list."""
    if isinstance(cell, str) and cell.strip().startswith("["):
        try:
            return json.loads(cell.replace("'", '"'))
        except ValueError:
            return cell
    return cell


def _of_value(value: Any, about: Predictor) -> Said:
    if about.label is None and about.probability is None:
        return Said(label=value)
    found = {
        name: None if where is None else _there(str(where), value)
        for name, where in (("label", about.label), ("probability", about.probability))
    }
    return Said(label=found["label"], probability=found["probability"])


def _there(where: str, value: Any) -> Any:
    found = value[int(where)] if where.isdecimal() and isinstance(value, list) else None
    if found is None:
        found = found_at(where, value)
    if found is None:
        raise InvalidInputError(f"There is nothing at {where!r} in {str(value)[:200]}.")
    return found


def _of_whole(value: Any, about: Predictor, n_records: int) -> list[Said]:
    """Return what one JSON value says of all records."""

    def every(where: Where | None) -> list[Any]:
        if where is None:
            return [None] * n_records
        found = _there(str(where), value)
        if n_records == 1 and not (isinstance(found, list) and len(found) == 1):
            return [found]
        if not isinstance(found, list) or len(found) != n_records:
            raise InvalidInputError(
                f"There are no {n_records} values at {str(where)!r} in the model's answer."
            )
        return found

    if about.label is None and about.probability is None:
        whole = value if isinstance(value, list) else [value]
        return [Said(label=each) for each in whole]
    pairs = zip(every(about.label), every(about.probability), strict=True)
    return [Said(label=label, probability=probability) for label, probability in pairs]


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, list) else [value]
    return [float(each) for each in values]


def label_names(model: Model, n_scores: int) -> list[str]:
    """Return the names of scores: the headers that are given, else `label0`, ...

    Raises
    ------
    InvalidInputError
        If there are more or fewer headers than scores.
    """
    headers = model.about.headers()
    if not headers:
        return [f"label{number}" for number in range(n_scores)]
    if len(headers) != n_scores:
        raise InvalidInputError(
            f"There are {len(headers)} label headers and {n_scores} scores in the model's answer."
        )
    return headers


def predicted_labels(
    config: AnalysisConfig, said: Sequence[Said], *, is_quantity: bool
) -> pl.Series:
    """Return the predicted label of each record.

    The most probable one where there are several scores; 1 where a single score, which is no label
    itself, is above the threshold.

    Parameters
    ----------
    is_quantity
        Whether the label of the data is a quantity, as in a regression.
    """
    headers = config.predictor.headers() if config.predictor else []
    found = [_label(each, headers) for each in said]
    column = typed("predicted_label", found)
    is_score = all(each.label is None for each in said) or _is_share(column)
    is_cut = config.probability_threshold is not None or is_score
    if is_quantity or not is_cut or not column.dtype.is_numeric():
        return column
    above = column.cast(pl.Float64) > (config.probability_threshold or _CUT)
    if len(headers) == 1:
        words = pl.Series([headers[0] if each else f"not {headers[0]}" for each in above.to_list()])
        return typed("predicted_label", words.to_list())
    return above.cast(pl.Int64)


def _is_share(column: pl.Series) -> bool:
    """Tell whether these are shares rather than labels: fractions between 0 and 1."""
    if not column.dtype.is_float():
        return False
    known = column.drop_nulls()
    inside = bool(((known >= 0) & (known <= 1)).all())
    return inside and not bool((known == known.round(0)).all())


def _label(said: Said, headers: Sequence[str]) -> Any:
    scores = said.label if said.probability is None else said.probability
    if said.probability is not None and said.label is not None and not isinstance(said.label, list):
        return said.label
    if not isinstance(scores, list):
        return scores
    if len(scores) == 1:
        return scores[0]
    best = int(np.argmax(_numbers(scores)))
    names = said.label if isinstance(said.label, list) and said.probability is not None else headers
    if not names:
        return best
    if len(names) != len(scores):
        raise InvalidInputError(
            f"There are {len(names)} label headers and {len(scores)} scores in the model's answer."
        )
    return names[best]
