"""How text becomes numbers, truth values and dates: decided once from all rows, then repeated.

Only the representation of a cell changes here, never its meaning: a zip code with a leading zero
stays text, and so does a date that could be read in two ways.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.data.reading import (
    FIRST_SHORT_YEAR,
    MONTHS,
    PLACEHOLDERS,
    READINGS,
    Reading,
    reading_named,
)

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_SAMPLE_ROWS = 1_000
_LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What was done to the representation of one column.

    Parameters
    ----------
    column
        The column.
    was, now
        The types before and after, as Polars names them; `now` is `left out` for a column of lists,
        bytes or the like, which no stage uses.
    reading
        The reading that turns text into values (see `loopwright.data.reading`); None when the
        column only had its missing values or spaces put in order.
    n_nulled
        How many cells that held something are now missing.
    reason
        Why, one sentence.
    """

    column: str
    was: str
    now: str
    reading: str | None = None
    n_nulled: int = 0
    reason: str = ""

    @property
    def is_routine(self) -> bool:
        """Whether this is plain typing of text, as every number of a CSV file needs."""
        return self.reading in ("whole number", "number", "truth value") and not self.n_nulled

    def cell(self, value: object) -> object:
        """Return one cell as this conversion would give it, without Polars; for rows at serving.

        Raises
        ------
        InvalidInputError
            If the text is neither a value of this reading nor a placeholder for a missing one.
        """
        if not isinstance(value, str):
            return None if isinstance(value, float) and value != value else value
        text = value.strip()
        if self.reading is None:
            return text or None
        if text.lower() in PLACEHOLDERS:
            return None
        reading = reading_named(self.reading)
        found = _read_cell(reading, text) if re.fullmatch(reading.pattern, text) else None
        if found is None:
            raise InvalidInputError(
                f"{self.column} is {text[:80]!r}, which is not a {self.reading}.",
                hint=f"Give a {self.reading}, or null where it is not known.",
                field=self.column,
                value=value,
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the conversion as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Conversion:
        """Return the conversion that `to_json` wrote."""
        return cls(**value)


def _read_cell(reading: Reading, text: str) -> object:
    if reading.dtype == "Boolean":
        return text.lower() == "true"
    if reading.dtype == "Int64":
        return int(text)
    if reading.dtype == "Float64":
        number = float(text.replace(reading.grouping, "").replace(reading.decimal, "."))
        return number if abs(number) != float("inf") else None
    try:
        if reading.has_short_year or reading.has_month_name:
            return _spelt_date(text, reading)
        if reading.format.startswith("%Y-%m-%d") and "%m-%d" in reading.format:
            moment = _iso(text)
        else:
            moment = datetime.strptime(text, reading.format)  # noqa: DTZ007 naive means UTC here
    except ValueError:
        return None
    if reading.dtype == "Date":
        return date(moment.year, moment.month, moment.day)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _spelt_date(text: str, reading: Reading) -> date:
    """Return a date with a month by name or a year of two digits; `strptime` reads local names."""
    parts = re.findall("[0-9]+|[A-Za-z]+", text)
    marks = re.findall("%([a-zA-Z])", reading.format)
    found = dict(zip(marks, parts, strict=True))
    year = int(found["y" if reading.has_short_year else "Y"])
    if reading.has_short_year:
        year += 1900 if year >= FIRST_SHORT_YEAR else 2000
    if reading.has_month_name:
        name = found["B"][:3].lower()
        month = next(n for n, known in enumerate(MONTHS, start=1) if known.startswith(name))
    else:
        month = int(found["m"])
    return date(year, month, int(found["d"]))


def _iso(text: str) -> datetime:
    day, mark, clock = text.replace("T", " ").partition(" ")
    year, month, day_of_month = (int(part) for part in day.split("-"))
    start = f"{year:04}-{month:02}-{day_of_month:02}"
    # Python reads 6 digits of a second at most
    clock = re.sub(r"(\.\d{6})\d+", r"\1", clock)
    return datetime.fromisoformat(f"{start} {clock}" if mark else start)


def decide_conversions(rows: pl.LazyFrame) -> tuple[Conversion, ...]:
    """Return what has to be done to the raw rows of a source, decided from all of them.

    Two streaming passes: one counts NaN, blank and padded cells, one verifies for each text column
    the readings that its first rows allow.
    """
    schema = dict(rows.collect_schema())
    plain = plain_rows(rows)
    untidy = _untidy_cells(rows, schema)
    texts = [name for name, dtype in plain.collect_schema().items() if dtype == pl.String]
    readings = _readings(plain, texts)
    found = []
    for name, dtype in schema.items():
        if name in readings:
            fits, n_placeholders = readings[name]
            n_placeholders += untidy.get((name, "blank"), 0)
            found.append(_conversion(name, str(dtype), fits, n_placeholders))
        else:
            found += _plain_conversion(name, dtype, untidy)
    return tuple(found)


def plain_rows(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return rows in the few types that the stages use: Int64, Float64, Boolean, String, Date, Datetime.

    NaN and blank text become missing, text is trimmed, moments become UTC without a zone.
    """
    columns = [
        changed
        for name, dtype in rows.collect_schema().items()
        if (changed := _plain(name, dtype)) is not None
    ]
    return rows.select(columns)


def _plain(name: str, dtype: pl.DataType) -> pl.Expr | None:
    cell = pl.col(name)
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        trimmed = cell.cast(pl.String).str.strip_chars()
        return pl.when(trimmed != "").then(trimmed).alias(name)
    if dtype in (pl.UInt64, pl.Int128, pl.UInt128) or dtype.is_decimal():
        return cell.cast(pl.Float64)
    if dtype.is_integer():
        return cell.cast(pl.Int64)
    if dtype.is_float():
        return cell.cast(pl.Float64).fill_nan(None)
    if dtype == pl.Null:
        return cell.cast(pl.String)
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is not None:
            cell = cell.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return cell.dt.cast_time_unit("us")
    if dtype == pl.Duration:
        return cell.dt.total_microseconds() / 1e6
    if dtype == pl.Time:
        return cell.dt.to_string("%H:%M:%S")
    return cell if dtype in (pl.Boolean, pl.Date) else None


def _untidy_cells(
    rows: pl.LazyFrame, schema: Mapping[str, pl.DataType]
) -> dict[tuple[str, str], int]:
    """Return how many cells of each column are NaN, blank or padded with spaces."""
    counts: dict[tuple[str, str], pl.Expr] = {}
    for name, dtype in schema.items():
        cell = pl.col(name)
        if dtype.is_float():
            counts[name, "nan"] = cell.is_nan().sum()
        elif dtype in (pl.String, pl.Categorical, pl.Enum):
            text = cell.cast(pl.String)
            trimmed = text.str.strip_chars()
            counts[name, "blank"] = (trimmed == "").sum()
            counts[name, "padded"] = ((trimmed != text) & (trimmed != "")).sum()
    if not counts:
        return {}
    query = rows.select(count.alias(str(index)) for index, count in enumerate(counts.values()))
    found = query.collect(engine="streaming").row(0)
    return {key: n for key, n in zip(counts, found, strict=True) if n}


def _plain_conversion(
    name: str, dtype: pl.DataType, untidy: Mapping[tuple[str, str], int]
) -> list[Conversion]:
    n_nan, n_blank = untidy.get((name, "nan"), 0), untidy.get((name, "blank"), 0)
    n_padded = untidy.get((name, "padded"), 0)
    was = str(dtype)
    if _plain(name, dtype) is None:
        reason = f"Cells of type {was} are not used by any stage."
        return [Conversion(column=name, was=was, now=_LEFT_OUT, reason=reason)]
    if n_nan:
        reason = "Not-a-number means missing."
        return [Conversion(column=name, was=was, now="Float64", n_nulled=n_nan, reason=reason)]
    if n_blank:
        reason = "Blank text means missing."
        return [Conversion(column=name, was=was, now="String", n_nulled=n_blank, reason=reason)]
    if n_padded:
        reason = f"Spaces around {n_padded:,} values were removed."
        return [Conversion(column=name, was=was, now="String", reason=reason)]
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        reason = f"Moments in {dtype.time_zone} are kept as UTC."
        return [Conversion(column=name, was=was, now="Datetime", reason=reason)]
    return []


def _readings(plain: pl.LazyFrame, texts: Sequence[str]) -> dict[str, tuple[list[Reading], int]]:
    """Return the readings that fit every value of a text column, and its number of placeholders."""
    if not texts:
        return {}
    sample = plain.select(texts).head(_SAMPLE_ROWS).collect()
    possible = [(name, reading) for name in texts for reading in _possible(sample[name])]
    if not possible:
        return {}
    # read first and count then: otherwise every count would read the cells again
    read = plain.select(
        *{name for name, _ in possible},
        *(_read(name, reading).alias(f"{i}") for i, (name, reading) in enumerate(possible)),
    )
    counts = [
        count.alias(f"{i}{kind}")
        for i, (name, _) in enumerate(possible)
        for kind, count in _counts(pl.col(name), pl.col(f"{i}")).items()
    ]
    found = read.select(counts).collect(engine="streaming").row(0, named=True)
    fitting: dict[str, list[Reading]] = {}
    placed: dict[str, int] = {}
    for index, (name, reading) in enumerate(possible):
        if found[f"{index}unread"] == found[f"{index}placed"] and found[f"{index}read"]:
            fitting.setdefault(name, []).append(reading)
            placed[name] = found[f"{index}placed"]
    return {name: (fits, placed[name]) for name, fits in fitting.items()}


def _possible(cells: pl.Series) -> list[Reading]:
    """Return the readings whose pattern all of these cells match."""
    values = {cell for cell in cells if cell is not None and cell.lower() not in PLACEHOLDERS}
    return [
        reading
        for reading in READINGS
        if all(re.fullmatch(reading.pattern, value) for value in values)
    ]


def _conversion(name: str, was: str, fits: Sequence[Reading], n_placeholders: int) -> Conversion:
    best = fits[0]
    others = [reading for reading in fits[1:] if best.family and reading.family == best.family]
    if others:
        reason = f"Could be {best.name} or {others[0].name}: left as text."
        return Conversion(column=name, was=was, now="String", reason=reason)
    missing = f", {n_placeholders:,} placeholders aside" if n_placeholders else ""
    return Conversion(
        column=name,
        was=was,
        now=best.dtype,
        reading=best.name,
        n_nulled=n_placeholders,
        reason=f"Every value reads as a {best.name}{missing}.",
    )


def convert(rows: pl.LazyFrame, conversions: Sequence[Conversion]) -> pl.LazyFrame:
    """Return plain rows with the decided readings applied; cells that do not fit become missing.

    Use `check_convertible` first on rows that the conversions were not decided from.
    """
    plain = plain_rows(rows)
    schema = plain.collect_schema()
    return plain.with_columns(
        _read(conversion.column, reading_named(conversion.reading)).alias(conversion.column)
        for conversion in conversions
        if conversion.reading is not None and schema.get(conversion.column) == pl.String
    )


def check_convertible(rows: pl.LazyFrame, conversions: Sequence[Conversion]) -> None:
    """Raise if later rows hold text that the readings decided earlier cannot read.

    Raises
    ------
    InvalidInputError
        With the column, the number of such cells and one of them.
    """
    plain = plain_rows(rows)
    schema = plain.collect_schema()
    for conversion in conversions:
        name = conversion.column
        if conversion.reading is None or schema.get(name) != pl.String:
            continue
        reading = reading_named(conversion.reading)
        unread = plain.filter(_is_unread(name, reading)).select(
            pl.len().alias("n"), pl.col(name).first().alias("example")
        )
        n, example = unread.collect(engine="streaming").row(0)
        if n:
            raise InvalidInputError(
                f"{n:,} new values of {name!r} are not a {reading.name}, such as {example[:80]!r}.",
                hint="Correct them at the source; earlier rows of this column were all of that kind.",
                field=name,
                value=example[:200],
            )


def _is_placeholder(name: str) -> pl.Expr:
    return pl.col(name).str.to_lowercase().is_in(sorted(PLACEHOLDERS))


def _read(name: str, reading: Reading) -> pl.Expr:
    """Return the values of a text column; missing where the text is no such value."""
    text: pl.Expr = pl.when(pl.col(name).str.contains(f"^(?:{reading.pattern})$")).then(
        pl.col(name)
    )
    if reading.dtype == "Boolean":
        return text.str.to_lowercase() == "true"
    if reading.dtype == "Int64":
        return text.cast(pl.Int64, strict=False)
    if reading.dtype == "Float64":
        if reading.grouping:
            text = text.str.replace_all(reading.grouping, "", literal=True)
            text = text.str.replace(reading.decimal, ".", literal=True)
        number = text.cast(pl.Float64, strict=False)
        return pl.when(number.is_finite()).then(number)
    if reading.dtype == "Date":
        if reading.has_short_year:
            text = _with_century(text, at_start=reading.format.startswith("%y"))
        return text.str.to_date(reading.format.replace("%y", "%Y"), strict=False)
    moment = text.str.to_datetime(reading.format, strict=False, time_unit="us", time_zone=None)
    return moment.dt.replace_time_zone(None) if reading.has_zone else moment


def _with_century(text: pl.Expr, *, at_start: bool) -> pl.Expr:
    """Return dates whose years of two digits have four."""
    short = text.str.head(2) if at_start else text.str.tail(2)
    rest = text.str.slice(2) if at_start else text.str.head(-2)
    is_last = short.cast(pl.Int64, strict=False) >= FIRST_SHORT_YEAR
    century = pl.when(is_last).then(pl.lit("19")).otherwise(pl.lit("20"))
    return century + short + rest if at_start else rest + century + short


def _is_unread(name: str, reading: Reading) -> pl.Expr:
    return pl.col(name).is_not_null() & ~_is_placeholder(name) & _read(name, reading).is_null()


def _counts(cells: pl.Expr, values: pl.Expr) -> dict[str, pl.Expr]:
    """Return how many cells are read, are not, and are placeholders (which never read as values)."""
    rest = cells.filter(values.is_null()).drop_nulls()
    return {
        "read": values.count(),
        "unread": rest.count(),
        "placed": rest.str.to_lowercase().is_in(sorted(PLACEHOLDERS)).sum(),
    }
