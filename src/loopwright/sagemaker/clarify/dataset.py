"""The data set of an analysis: which columns are features, label, facets and identifiers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.clarify.config import CAPTURED, AnalysisConfig, Where
from loopwright.sagemaker.clarify.table import Table, read_table, typed

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_JSON = ("application/json", "application/jsonlines")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Rows, and what their columns are for.

    Parameters
    ----------
    table
        All columns.
    features
        The numbers of those that the model is asked with.
    label, predicted
        The numbers of the label and of the predicted label, if the data have them.
    identifier
        The number of the column that names rows.
    facets
        Columns of a data set of their own, if there is one, by row of `table`.
    answers
        Predicted labels of a data set of their own.
    kind, path
        The media type, and the JMESPath of the features.
    """

    table: Table
    features: tuple[int, ...]
    label: int | None = None
    predicted: int | None = None
    identifier: int | None = None
    facets: Table | None = None
    answers: pl.Series | None = None
    kind: str = "text/csv"
    path: str | None = None

    def column(self, where: Where) -> pl.Series:
        """Return a column of the facets or of the data; `InvalidInputError` if there is none."""
        if self.facets is not None and str(where) in self.facets.names:
            return self.facets.column(where)
        return self.table.column(where)

    def label_column(self) -> pl.Series:
        """Return the labels; `InvalidInputError` if the configuration names none."""
        if self.label is None:
            raise InvalidInputError("label is needed for an analysis of bias.")
        return self.table.column(self.label)

    def predicted_column(self) -> pl.Series | None:
        """Return the predicted labels that the data have, if they do."""
        if self.answers is not None:
            return self.answers
        return None if self.predicted is None else self.table.column(self.predicted)

    @property
    def feature_names(self) -> list[str]:
        """Return the names of what the model is asked with."""
        return [self.table.names[at] for at in self.features]

    def feature_rows(self) -> list[list[Any]]:
        """Return the cells of what the model is asked with, row by row."""
        return [[row[at] for at in self.features] for row in self.table.rows]

    def feature_at(self, where: Where) -> int:
        """Return the place among the features of a name, or of a number of a column."""
        at = self.table.at(where)
        if at not in self.features:
            raise InvalidInputError(f"The column {where!r} is no feature of the model.")
        return self.features.index(at)


def read_dataset(config: AnalysisConfig, folder: Path, fetched: Callable[[str], Path]) -> Dataset:
    """Return the data of an analysis.

    Parameters
    ----------
    folder
        Where the data set lies.
    fetched
        Says where what lies at an S3 URI is to be found here.

    Raises
    ------
    InvalidInputError
        If data cannot be read, or a column that is named is not there.
    """
    if config.dataset_type == CAPTURED:
        raise InvalidInputError(f"{CAPTURED} can be analysed by a monitor only.")
    table = read_table(
        folder,
        config.dataset_type,
        headers=config.headers,
        features=config.features,
        label=config.label,
        predicted=config.predicted_label,
    )
    return assigned(config, table, fetched)


def assigned(config: AnalysisConfig, table: Table, fetched: Callable[[str], Path]) -> Dataset:
    """Return what the columns of a table are for; see `read_dataset`."""
    label, predicted = _roles(config, table)
    identifier = config.joinsource_name_or_index
    own = None if identifier is None else table.at(identifier)
    others = {at for at in (label, predicted, own) if at is not None}
    others |= {table.at(each) for each in config.excluded_columns}
    facets = answers = None
    if config.facet_dataset_uri:
        facets = _beside(
            table, own, config, fetched(config.facet_dataset_uri), config.facet_headers
        )
    if config.predicted_label_dataset_uri:
        place = fetched(config.predicted_label_dataset_uri)
        found = _beside(table, own, config, place, config.predicted_label_headers)
        answers = _only_column(found, config, identifier)
    return Dataset(
        table=table,
        features=tuple(at for at in range(len(table.names)) if at not in others),
        label=label,
        predicted=predicted,
        identifier=own,
        facets=facets,
        answers=answers,
        kind=config.dataset_type,
        path=config.features,
    )


def _roles(config: AnalysisConfig, table: Table) -> tuple[int | None, int | None]:
    """Return the columns of the label and of the predicted label."""
    if config.dataset_type not in _JSON:
        found = [
            None if each is None else table.at(each)
            for each in (config.label, config.predicted_label)
        ]
        return found[0], found[1]
    # of JSON they come after the features, in this order
    at = len(table.names)
    predicted = label = None
    if config.predicted_label is not None:
        at -= 1
        predicted = at
    if config.label is not None:
        label = at - 1
    return label, predicted


def _beside(
    table: Table, own: int | None, config: AnalysisConfig, place: Path, headers: list[str] | None
) -> Table:
    """Return a data set of its own in the order of the rows of the table."""
    other = read_table(place, config.dataset_type, headers=headers)
    name = config.joinsource_name_or_index
    if own is not None and name is not None and (isinstance(name, int) or name in other.names):
        at = other.at(name)
        rows = {str(row[at]): row for row in other.rows}
        wanted = [str(row[own]) for row in table.rows]
        missing = [each for each in wanted if each not in rows]
        if missing:
            raise InvalidInputError(
                f"The row {missing[0]!r} of the data set is not in {place.name}."
            )
        return Table(names=other.names, rows=[rows[each] for each in wanted])
    if len(other.rows) != len(table.rows):
        raise InvalidInputError(
            f"The data set has {len(table.rows)} rows and the one beside it {len(other.rows)}; "
            "without a joinsource they must be the same."
        )
    return other


def _only_column(table: Table, config: AnalysisConfig, identifier: Where | None) -> pl.Series:
    if config.predicted_label is not None:
        return table.column(config.predicted_label)
    known = str(identifier) if identifier is not None else None
    left = [at for at, name in enumerate(table.names) if name != known]
    if isinstance(identifier, int):
        left = [at for at in range(len(table.names)) if at != identifier]
    if len(left) != 1:
        raise InvalidInputError(
            f"predicted_label must say which of {', '.join(table.names)} holds predicted labels."
        )
    return typed(table.names[left[0]], [row[left[0]] for row in table.rows])
