"""How text becomes numbers, truth values and dates: decided once from all rows, then repeated.

Only the representation of a cell changes here, never its meaning: a zip code with a leading zero
stays text, and so does a date that could be read in two ways.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.data.piece import pieces
from loopwright.data.reading import (
    FIRST_SHORT_YEAR,
    MONTHS,
    PLACEHOLDERS,
    Reading,
    reading_named,
)

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

LEFT_OUT = "left out"
# what Unicode calls white space and Polars trims; `str.strip` would take U+001C to U+001F too
_SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
# the years 1 to 9999, which Python has, in microseconds since 1970
_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
_LEAP = re.compile(r"([T ](?:[0-9]{1,2}:[0-9]{2}:|[0-9]{4}))60")


def trimmed(text: str) -> str:
    """Return text without the white space around it, as it is taken off when data is read."""
    return text.strip(_SPACES)


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

    @property
    def is_code(self) -> bool:
        """Whether whole numbers were too long for a column of numbers, and are kept as text."""
        return self.now == "String" and self.was.startswith(("Int", "UInt", "Decimal"))

    def cell(self, value: object) -> object:
        """Return one cell as this conversion would give it, without Polars; for rows at serving.

        Raises
        ------
        InvalidInputError
            If the text is neither a value of this reading nor a placeholder for a missing one.
        """
        if self.is_code and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            return None if isinstance(value, float) and value != value else value
        text = trimmed(value)
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
        leap = 0
        if "%S" in reading.format:
            # the last second of a day can be its 61st; it is the first of the next, as Polars has it
            text, leap = _LEAP.subn(r"\g<1>59", text, count=1)
        if reading.format.startswith("%Y-%m-%d") and "%m-%d" in reading.format:
            moment = _iso(text)
        else:
            moment = datetime.strptime(text, reading.format)  # noqa: DTZ007 naive means UTC here
        if reading.dtype == "Date":
            return date(moment.year, moment.month, moment.day)
        moment += timedelta(seconds=leap)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return None


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


def plain_rows(
    rows: pl.LazyFrame,
    tidy: Collection[str] = (),
    *,
    texts: Collection[str] = (),
    left_out: Collection[str] = (),
) -> pl.LazyFrame:
    """Return rows in the few types that the stages use: Int64, Float64, Boolean, String, Date, Datetime.

    NaN, blank text and dates outside of the years 1 to 9999 become missing, text is trimmed, moments
    become UTC without a zone. Text in the columns `tidy` is known to be neither blank nor padded, and
    stays; whole numbers in the columns `texts` become text; the columns `left_out` go.
    """
    columns = []
    for name, dtype in rows.collect_schema().items():
        plain = plain_cell(name, dtype)
        if plain is None or name in left_out:
            continue
        if name in tidy and dtype == pl.String:
            plain = pl.col(name)
        elif name in texts and is_whole(dtype):
            plain = pl.col(name).cast(pl.String)
        columns.append(plain)
    return rows.select(columns)


def is_whole(dtype: pl.DataType) -> bool:
    """Return whether a column of this type holds whole numbers only."""
    return dtype.is_integer() or (isinstance(dtype, pl.Decimal) and dtype.scale == 0)


def is_wide(dtype: pl.DataType) -> bool:
    """Return whether a column of this type holds whole numbers that Int64 may not hold."""
    if dtype.is_integer():
        return dtype in (pl.UInt64, pl.Int128, pl.UInt128)
    return is_whole(dtype)


def is_beyond(name: str) -> pl.Expr:
    """Return whether whole numbers are too long for Int64."""
    return pl.col(name).cast(pl.Int64, strict=False).is_null() & pl.col(name).is_not_null()


def is_outside(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return whether dates or moments are outside of the years 1 to 9999."""
    if dtype == pl.Date:
        return ~pl.col(name).to_physical().is_between(_FIRST_DAY, _LAST_DAY)
    unit = {"ms": 1_000, "us": 1}.get(getattr(dtype, "time_unit", "ns"))
    if unit is None:
        # 64 bits of nanoseconds hold the years 1677 to 2262
        return pl.lit(value=False)
    return ~pl.col(name).to_physical().is_between(_FIRST_US // unit, _LAST_US // unit)


def plain_cell(name: str, dtype: pl.DataType) -> pl.Expr | None:
    """Return a column in one of those types; None where it is of none that a stage uses."""
    cell = pl.col(name)
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        trimmed = cell.cast(pl.String).str.strip_chars()
        return pl.when(trimmed != "").then(trimmed).alias(name)
    if is_whole(dtype):
        return cell.cast(pl.Int64)
    if dtype.is_float() or dtype.is_decimal():
        return cell.cast(pl.Float64).fill_nan(None)
    if dtype == pl.Null:
        return cell.cast(pl.String)
    if isinstance(dtype, pl.Datetime) or dtype == pl.Date:
        cell = pl.when(~is_outside(name, dtype)).then(cell)
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is not None:
            cell = cell.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return cell.dt.cast_time_unit("us")
    if dtype == pl.Duration:
        return cell.dt.total_microseconds() / 1e6
    if dtype == pl.Time:
        return cell.dt.to_string("%H:%M:%S")
    return cell if dtype in (pl.Boolean, pl.Date) else None


def convert(
    rows: pl.LazyFrame, conversions: Sequence[Conversion], *, are_own: bool = False
) -> pl.LazyFrame:
    """Return plain rows with the decided readings applied; cells that do not fit become missing.

    Use `check_convertible` first on rows that the conversions were not decided from. Where they
    were (`are_own`), text without a conversion is in order and need not be looked at again.
    """
    tidy: set[str] = set()
    if are_own:
        tidy = set(rows.collect_schema()) - {each.column for each in conversions}
    plain = plain_rows(
        rows,
        tidy,
        texts={each.column for each in conversions if each.is_code},
        left_out={each.column for each in conversions if each.now == LEFT_OUT},
    )
    schema = plain.collect_schema()
    return plain.with_columns(
        read_cell(conversion.column, reading_named(conversion.reading)).alias(conversion.column)
        for conversion in conversions
        if conversion.reading is not None and schema.get(conversion.column) == pl.String
    )


def check_convertible(rows: pl.LazyFrame, conversions: Sequence[Conversion]) -> None:
    """Raise if later rows hold what cannot be read as it was decided earlier.

    Raises
    ------
    InvalidInputError
        With the column, the number of such cells and one of them.
    """
    _check_long_numbers(rows, conversions)
    schema = plain_rows(rows).collect_schema()
    readings = {
        each.column: reading_named(each.reading)
        for each in conversions
        if each.reading is not None and schema.get(each.column) == pl.String
    }
    n_unread: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for piece in pieces(rows.select(*readings)) if readings else ():
        plain = plain_rows(piece.lazy())
        unread = [pl.col(n).filter(_is_unread(n, each)) for n, each in readings.items()]
        counts = plain.select(cells.count() for cells in unread).collect().row(0, named=True)
        n_unread.update(counts)
        if any(counts.values()):
            first = plain.select(cells.first() for cells in unread).collect().row(0, named=True)
            examples = {name: value for name, value in first.items() if value} | examples
    for name, reading in readings.items():
        if n_unread[name]:
            raise InvalidInputError(
                f"{n_unread[name]:,} new values of {name!r} are not a {reading.name}, such as "
                f"{examples[name][:80]!r}.",
                hint="Correct them at the source; earlier rows of this column were all of that kind.",
                field=name,
                value=examples[name][:200],
            )


def _check_long_numbers(rows: pl.LazyFrame, conversions: Sequence[Conversion]) -> None:
    known = {each.column for each in conversions if each.is_code or each.now == LEFT_OUT}
    schema = rows.collect_schema()
    names = [name for name, dtype in schema.items() if is_wide(dtype) and name not in known]
    for piece in pieces(rows.select(names)) if names else ():
        for name in names:
            beyond = piece.filter(is_beyond(name))[name]
            if len(beyond):
                raise InvalidInputError(
                    f"{len(beyond):,} new values of {name!r} are too long for the whole numbers that "
                    f"it held, such as {beyond[0]}.",
                    hint="Correct them at the source, or read it anew, with the column as text.",
                    field=name,
                    value=str(beyond[0]),
                )


def is_placeholder(text: pl.Expr) -> pl.Expr:
    """Return whether texts stand for a missing value."""
    return text.str.to_lowercase().is_in(sorted(PLACEHOLDERS))


def read_cell(name: str, reading: Reading) -> pl.Expr:
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
        day = text.str.to_date(reading.format.replace("%y", "%Y"), strict=False)
        return pl.when(day.to_physical().is_between(_FIRST_DAY, _LAST_DAY)).then(day)
    moment = text.str.to_datetime(reading.format, strict=False, time_unit="us", time_zone=None)
    moment = moment.dt.replace_time_zone(None) if reading.has_zone else moment
    return pl.when(moment.to_physical().is_between(_FIRST_US, _LAST_US)).then(moment)


def _with_century(text: pl.Expr, *, at_start: bool) -> pl.Expr:
    """Return dates whose years of two digits have four."""
    short = text.str.head(2) if at_start else text.str.tail(2)
    rest = text.str.slice(2) if at_start else text.str.head(-2)
    is_last = short.cast(pl.Int64, strict=False) >= FIRST_SHORT_YEAR
    century = pl.when(is_last).then(pl.lit("19")).otherwise(pl.lit("20"))
    return century + short + rest if at_start else rest + century + short


def _is_unread(name: str, reading: Reading) -> pl.Expr:
    return (
        pl.col(name).is_not_null()
        & ~is_placeholder(pl.col(name))
        & read_cell(name, reading).is_null()
    )
