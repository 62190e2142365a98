"""Something remarkable about a table: the finding, its evidence, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from loopwright.explore.association import Pair
from loopwright.explore.column import ColumnProfile
from loopwright.explore.missing import MissingTogether
from loopwright.explore.mixture import Mixture
from loopwright.explore.trend import Trend

Severity = Literal["serious", "warning", "info"]
FindingKind = Literal[
    "leak",
    "personal_data",
    "target_missing",
    "imbalance",
    "duplicate_rows",
    "constant",
    "identifier",
    "missing",
    "missing_together",
    "infinite",
    "ordinal",
    "out_of_range",
    "near_duplicate",
    "code",
    "high_cardinality",
    "outliers",
    "skew",
    "scale",
    "time",
    "trend",
    "zeros",
    "dominant",
    "correlated",
    "mixed",
    "nested",
    "huge",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something remarkable about one column, or about the whole table when `column` is None."""

    column: str | None
    kind: FindingKind
    severity: Severity
    evidence: str
    recommendation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What findings are drawn from.

    `classes` holds the number of rows of every class of the target, empty for a regression;
    `personal` what personal data a column seems to hold, by column; `outside` the number of values
    outside the range that its note allows, by column; `together` the groups of columns that are
    missing in the same rows; `trends` how the target moves over date columns; `related` the pairs
    that go together without saying nearly the same; `mixed` what the values of a column of text are a
    mixture of, by column.
    """

    n_rows: int
    n_duplicate_rows: int
    columns: Sequence[ColumnProfile]
    target: str | None
    classes: Mapping[str, int]
    pairs: Sequence[Pair]
    personal: Mapping[str, str]
    outside: Mapping[str, int]
    together: Sequence[MissingTogether]
    trends: Sequence[Trend]
    related: Sequence[Pair] = ()
    mixed: Mapping[str, Mixture] = field(default_factory=dict)
