from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.data.conversion import (
    Conversion,
    check_convertible,
    convert,
    trimmed,
)
from loopwright.data.decision import decide_conversions
from loopwright.data.reading import READINGS


def moment(*parts: int) -> datetime:
    return datetime(*parts)  # noqa: DTZ001 snapshots hold UTC without a zone


def converted(
    *cells: object, dtype: pl.DataType | None = None
) -> tuple[list[object], list[Conversion]]:
    raw = pl.DataFrame({"x": pl.Series(cells, dtype=dtype, strict=False)}).lazy()
    found = decide_conversions(raw)
    return convert(raw, found).collect()["x"].to_list(), list(found)


def test_a_text_column_of_numbers_with_placeholders_becomes_numbers():
    values, (conversion,) = converted("1.5", "?", " 2 ", "NA", "", None, "-", "3e2")

    assert values == [1.5, None, 2.0, None, None, None, None, 300.0]
    assert (conversion.was, conversion.now, conversion.n_nulled) == ("String", "Float64", 4)
    assert conversion.reason == "Every value reads as a number, 4 placeholders aside."


def test_whole_numbers_and_truth_values_get_their_own_types():
    assert converted("1", "-20", "+3", "0")[0] == [1, -20, 3, 0]
    assert converted("True", "FALSE", "n/a")[0] == [True, False, None]


@pytest.mark.parametrize(
    "cells",
    [
        ("01234", "98101"),  # a code with a leading zero
        ("1234567890123456789", "1"),  # more digits than a number keeps
        ("1", "two"),
        ("1e999", "2"),  # beyond what a number holds
        ("inf", "1"),
        ("1,000", "2,000"),
        ("?", "NA"),  # nothing but placeholders says nothing about the type
        ("yes", "no"),
        ("01/13/2014", "13/01/2014"),  # two formats in one column
        ("1/1/14", "2/1/14"),
        ("2014-02-30", "2014-02-01"),
    ],
)
def test_text_that_means_something_else_stays_text(cells: tuple[str, ...]):
    values, conversions = converted(*cells)

    assert values == list(cells)
    assert not any(conversion.reading for conversion in conversions)


def test_placeholders_in_a_column_of_text_keep_their_meaning():
    assert converted("?", "Kent", "None")[0] == ["?", "Kent", "None"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("2014-10-13", "2015-01-02"), date(2014, 10, 13)),
        (("10/13/2014", "1/2/2015"), date(2014, 10, 13)),
        (("13/10/2014", "2/1/2015"), date(2014, 10, 13)),
        (("13.10.2014", "2.1.2015"), date(2014, 10, 13)),
        (("13-10-2014", "2-1-2015"), date(2014, 10, 13)),
        (("20141013T000000", "20150102T120000"), moment(2014, 10, 13)),
        (("2014-10-13 09:08:07", "2015-01-02 00:00:00.25"), moment(2014, 10, 13, 9, 8, 7)),
        (("2014-10-13T09:08:07Z", "2015-01-02T00:00:00+02:00"), moment(2014, 10, 13, 9, 8, 7)),
        (("10/13/2014 9:08", "1/2/2015 10:00"), moment(2014, 10, 13, 9, 8)),
        (("13 Oct 2014", "2 january 2015"), date(2014, 10, 13)),
        (("13-OCT-2014", "02-Jan-2015"), date(2014, 10, 13)),
        (("Oct 13, 2014", "January 2, 2015"), date(2014, 10, 13)),
        (("October 13 2014", "Jan 02 2015"), date(2014, 10, 13)),
        (("13-OCT-14", "02-JAN-69"), date(2014, 10, 13)),
        (("10/13/14", "1/2/69"), date(2014, 10, 13)),
        (("13/10/14", "2/1/68"), date(2014, 10, 13)),
        (("13.10.14", "2.1.15"), date(2014, 10, 13)),
        (("69-10-13", "70-12-31"), date(1969, 10, 13)),
    ],
)
def test_dates_in_one_consistent_format_are_read(cells: tuple[str, ...], expected: date):
    values, (conversion,) = converted(*cells, "NA")

    assert values[0] == expected
    assert values[2] is None
    assert all(conversion.cell(cell) == value for cell, value in zip(cells, values, strict=False))


def test_years_of_two_digits_turn_at_69():
    values, (conversion,) = converted("31/12/00", "31/12/68", "31/12/69", "31/12/99")

    assert [value.year for value in values] == [2000, 2068, 1969, 1999]
    assert conversion.reading == "date (D/M/y)"


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (("1.234,56", "-0,5", "12"), [1234.56, -0.5, 12.0]),
        (("1,5", "2,25"), [1.5, 2.25]),
        (("0,125", "0,250"), [0.125, 0.25]),
        (("1.234", "1.234.567"), [1234.0, 1234567.0]),
        (("1,234.56", "+7", "1,234"), [1234.56, 7.0, 1234.0]),
        (("1,234,567", "1,234"), [1234567.0, 1234.0]),
        # a point alone is the plain decimal point, as it always was
        (("1.234", "5.678"), [1.234, 5.678]),
    ],
)
def test_numbers_with_commas_are_read_where_the_column_leaves_no_doubt(
    cells: tuple[str, ...], values: list[float]
):
    found, (conversion,) = converted(*cells, "n/a")

    assert found == [*values, None]
    assert [conversion.cell(cell) for cell in cells] == values


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (("1,234", "12"), "Could be number (1.234,5) or number (1,234.5): left as text."),
        (("1/2/14", "3/4/15"), "Could be date (M/D/y) or date (D/M/y): left as text."),
        (("20/1/14", "1/3/15"), ""),
        (("20/01/14", "21/03/15"), "Could be date (D/M/y) or date (y/M/D): left as text."),
        (("12.03.20", "13.04.21"), ""),
    ],
)
def test_what_reads_two_ways_stays_text_and_says_so(cells: tuple[str, ...], reason: str):
    values, (conversion,) = converted(*cells)

    assert (conversion.reading is None) == bool(reason)
    assert not reason or (values == list(cells) and conversion.reason == reason)


@pytest.mark.parametrize(
    "cells",
    [
        ("1,5", "1.5"),
        ("1.5", "1.234,5"),
        ("01,5", "2,5"),
        ("1.2345,6", "1,5"),
        ("1,,5", "2,5"),
        ("13 Okt 2014", "2 Jan 2015"),
        ("31 Feb 2014", "2 Jan 2015"),
        ("13 Oct 14", "2 Jan 15"),
        ("2014", "Oct 13, 2014"),
    ],
)
def test_numbers_and_dates_written_in_several_ways_stay_text(cells: tuple[str, ...]):
    values, conversions = converted(*cells)

    assert values == list(cells)
    assert not any(conversion.reading for conversion in conversions)


def test_a_date_that_reads_two_ways_stays_text_and_says_so():
    values, (conversion,) = converted("1/2/2014", "3/4/2014")

    assert values == ["1/2/2014", "3/4/2014"]
    assert conversion.reason == "Could be date (M/D/Y) or date (D/M/Y): left as text."


def test_the_whole_column_decides_and_not_its_first_rows():
    assert converted(*["1"] * 5_000, "2.5")[0][-1] == 2.5
    assert converted(*["1"] * 5_000, "x")[0][-1] == "x"
    assert converted(*["1/2/2014"] * 5_000, "31/12/2014")[0][0] == date(2014, 2, 1)


def test_representations_of_missing_are_put_in_order():
    assert converted(1.0, float("nan"), None)[0] == [1.0, None, None]
    assert converted(" a ", "", "  ", dtype=pl.String)[0] == ["a", None, None]

    (nan,) = converted(1.0, float("nan"))[1]

    assert (nan.was, nan.now, nan.n_nulled) == ("Float64", "Float64", 1)


def test_every_type_becomes_one_of_six_plain_ones():
    zone = timezone(timedelta(hours=2))
    frame = pl.DataFrame(
        {
            "small": pl.Series([1], dtype=pl.UInt8),
            "big": pl.Series([2**63], dtype=pl.UInt64),
            "single": pl.Series([0.5], dtype=pl.Float32),
            "decimal": pl.Series(["1.25"]).cast(pl.Decimal(10, 2)),
            "category": pl.Series(["a"], dtype=pl.Categorical),
            "nothing": pl.Series([None], dtype=pl.Null),
            "zoned": pl.Series(
                [datetime(2026, 1, 1, 2, tzinfo=zone)], dtype=pl.Datetime("ms", "UTC")
            ),
            "span": pl.Series([timedelta(minutes=1)]),
            "list": pl.Series([[1, 2]]),
            "bytes": pl.Series([b"x"]),
        }
    )

    conversions = decide_conversions(frame.lazy())
    plain = convert(frame.lazy(), conversions).collect()
    left_out = [c.column for c in conversions if c.now == "left out"]

    assert plain.row(0) == (
        1,
        "9223372036854775808",
        0.5,
        1.25,
        "a",
        None,
        moment(2026, 1, 1),
        60.0,
    )
    assert left_out == ["list", "bytes"]


WIDE = [pl.UInt64(), pl.Int128(), pl.Decimal(38, 0)]


@pytest.mark.parametrize("dtype", WIDE)
def test_whole_numbers_keep_all_their_digits(dtype: pl.DataType):
    near = [2**53, 2**53 + 1, None]

    fitting, no_conversions = converted(*near, dtype=dtype)
    too_long, (conversion,) = converted(*near, 2**63, dtype=dtype)

    assert (fitting, no_conversions) == (near, [])
    assert too_long == ["9007199254740992", "9007199254740993", None, "9223372036854775808"]
    assert conversion.reason == "Kept as text: 1 values are too long for whole numbers of 64 bits."
    assert conversion.cell(2**63) == conversion.cell("9223372036854775808")


@pytest.mark.parametrize("dtype", WIDE)
def test_later_whole_numbers_have_the_type_of_the_first_ones(dtype: pl.DataType):
    def frame(*cells: int) -> pl.LazyFrame:
        return pl.DataFrame({"id": pl.Series(cells, dtype=dtype, strict=False)}).lazy()

    as_text = decide_conversions(frame(7, 2**63))
    narrow = pl.LazyFrame({"id": [5]})

    assert convert(frame(8), as_text).collect()["id"].to_list() == ["8"]
    assert convert(narrow, as_text).collect()["id"].to_list() == ["5"]
    with pytest.raises(
        InvalidInputError, match=r"1 new values of 'id' are too long.*9223372036854"
    ):
        check_convertible(frame(8, 2**63), decide_conversions(frame(7)))


def test_a_decimal_number_with_decimals_stays_a_number():
    values, conversions = converted("1.00", "2.50", dtype=pl.Decimal(10, 2))

    assert (values, conversions) == ([1.0, 2.5], [])


@pytest.mark.parametrize(
    "cells",
    [
        ("0000-01-01", "2024-01-01"),
        ("01/31/0000", "01/31/2024"),
        ("0001-01-01T00:00:00+05:00", "2024-01-31T00:00:00Z"),
        ("9999-12-31T23:00:00-05:00", "2024-01-31T00:00:00Z"),
        ("0000-02-29 10:00:00", "2024-01-31 10:00:00"),
    ],
)
def test_a_date_outside_of_the_calendar_leaves_its_column_text_with_the_reason(
    cells: tuple[str, str],
):
    values, (conversion,) = converted(*[cells[1]] * 19, cells[0])
    reading = decide_conversions(pl.LazyFrame({"x": [cells[1]]}))[0]

    assert values == [*[cells[1]] * 19, cells[0]]
    assert conversion.reason.startswith("Left as text: 1 of 20 are no ")
    assert conversion.reason.endswith(f"such as {cells[0]!r}.")
    with pytest.raises(InvalidInputError, match="which is not a"):
        reading.cell(cells[0])


@pytest.mark.parametrize("dtype", [pl.Date(), pl.Datetime("ms"), pl.Datetime("us", "UTC")])
def test_native_dates_outside_of_the_calendar_become_missing(dtype: pl.DataType):
    days = [-719_163, -719_162, 2_932_896, 2_932_897, None]
    raw = pl.DataFrame({"x": pl.Series(days, dtype=pl.Int32).cast(pl.Date)}).lazy()
    raw = raw.select(pl.col("x").cast(dtype))

    (conversion,) = decide_conversions(raw)
    values = convert(raw, [conversion]).collect()["x"].to_list()

    assert [None if at is None else at.year for at in values] == [None, 1, 9999, None, None]
    assert (conversion.n_nulled, conversion.reason) == (
        2,
        "Dates outside of the years 1 to 9999 mean missing.",
    )


@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [
        ("1.5", "n/a unknown", "Left as text: 1 of 20 are not numbers, such as 'n/a unknown'."),
        ("1.5", "1e400", "Left as text: 1 of 20 are not numbers, such as '1e400'."),
        ("7", "inf", "Left as text: 1 of 20 are not numbers, such as 'inf'."),
        ("2024-01-31", "soon", "Left as text: 1 of 20 are no date (Y-M-D), such as 'soon'."),
        (
            "9" * 19,
            "7",
            f"Left as text: 19 of 20 whole numbers have more than 18 digits, such as '{'9' * 19}'.",
        ),
    ],
)
def test_a_column_that_nearly_reads_says_what_keeps_it_text(good: str, bad: str, reason: str):
    cells = [*[good] * 10, bad, *[good] * 9]

    values, (conversion,) = converted(*cells, "NA", None)

    assert values == [*cells, "NA", None]
    assert (conversion.now, conversion.reading, conversion.n_nulled) == ("String", None, 0)
    assert conversion.reason == reason
    assert conversion.cell(f" {bad} ") == bad


def test_a_column_of_which_one_in_eight_does_not_read_is_plain_text():
    assert converted(*["1.5"] * 7, "about 2")[1] == []


def test_a_binary_column_that_was_left_out_stays_so_when_it_is_empty():
    conversions = decide_conversions(pl.LazyFrame({"x": [1], "b": [b"abc"]}))

    later = convert(pl.LazyFrame({"x": [2], "b": [None]}), conversions).collect()

    assert later.columns == ["x"]


def test_later_rows_are_read_as_the_first_ones_were():
    conversions = decide_conversions(pl.LazyFrame({"x": ["1", "2.5"], "d": ["13/1/2014"] * 2}))
    later = pl.LazyFrame({"x": ["3", "?"], "d": ["2/1/2014", "3/1/2014"]})

    check_convertible(later, conversions)

    assert convert(later, conversions).collect().rows() == [
        (3.0, date(2014, 1, 2)),
        (None, date(2014, 1, 3)),
    ]


def test_later_rows_that_do_not_fit_are_refused():
    conversions = decide_conversions(pl.LazyFrame({"x": ["1", "2.5"]}))
    later = pl.LazyFrame({"x": ["3", "?", "about 4", "five"]})

    with pytest.raises(InvalidInputError, match=r"2 new values of 'x' .* such as 'about 4'"):
        check_convertible(later, conversions)


def test_a_typed_source_needs_no_reading_of_text():
    conversions = decide_conversions(pl.LazyFrame({"x": ["1", "2.5"]}))

    assert convert(pl.LazyFrame({"x": [3, 4]}), conversions).collect()["x"].to_list() == [3, 4]


def test_a_cell_that_does_not_fit_is_refused_with_its_column():
    conversion = Conversion(column="area", was="String", now="Float64", reading="number")

    with pytest.raises(InvalidInputError, match="area is 'big', which is not a number"):
        conversion.cell("big")


def test_a_conversion_survives_its_record():
    _, (conversion,) = converted("1", "?")

    assert Conversion.from_json(conversion.to_json()) == conversion
    assert not conversion.is_routine
    assert converted("1", "2")[1][0].is_routine


numbers = st.one_of(
    st.integers(-(10**17), 10**17).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["?", " NA ", "", "1e-7", ".5", "7."]),
)
moments = st.datetimes(moment(1950, 1, 1), moment(2100, 1, 1), timezones=st.just(UTC)).map(
    lambda at: at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
)
dates = st.dates(date(1950, 1, 1), date(2100, 1, 1)).map(
    lambda day: f"{day.month}/{day.day}/{day.year}"
)


days = st.dates(date(1969, 1, 1), date(2068, 12, 31))
spelt = st.sampled_from(["%d %B %Y", "%b %d, %Y", "%d-%b-%y", "%m/%d/%y", "%y-%m-%d"]).flatmap(
    lambda format_: st.lists(days.map(lambda day: day.strftime(format_)), min_size=1, max_size=20)
)
commas = st.sampled_from([",.", ".,"]).flatmap(
    lambda marks: st.lists(
        st.decimals(-(10**12), 10**12, places=3).map(
            lambda n: f"{n:,}".translate(str.maketrans(",.", marks))
        ),
        min_size=1,
        max_size=20,
    )
)


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        *(st.lists(s, min_size=1, max_size=20) for s in (numbers, moments, dates)), spelt, commas
    )
)
def test_a_single_cell_reads_as_it_does_in_a_table(cells: list[str]):
    values, conversions = converted(*cells, dtype=pl.String)

    if not conversions:
        conversions = [Conversion(column="x", was="String", now="String")]
    assert [conversions[0].cell(cell) for cell in cells] == values


SPACES = "".join(chr(n) for n in range(0x3001) if chr(n).isspace()) + "\u200b\ufeff"


@settings(max_examples=100, deadline=None)
@given(st.text(SPACES, max_size=3), st.text(SPACES, max_size=3))
def test_the_same_white_space_is_taken_off_a_cell_and_a_table(before: str, after: str):
    reading = Conversion(column="x", was="String", now="Int64", reading="whole number")
    text = f"{before}7{after}"

    in_table = convert(pl.LazyFrame({"x": [text]}), [reading]).collect().item()

    assert in_table == (7 if trimmed(text) == "7" else None)
    if in_table is None:
        with pytest.raises(InvalidInputError, match="x is "):
            reading.cell(text)
    else:
        assert reading.cell(text) == in_table


clocks = st.tuples(
    *(st.sampled_from(parts) for parts in (["00", "23", "24"], ["00", "59", "60"])),
    st.sampled_from(["00", "59", "60", "61"]),
)
clock_days = st.sampled_from([("2016", "12", "31"), ("9999", "12", "31"), ("0001", "01", "01")])
clock_formats = st.sampled_from(
    [
        ("moment (Y-M-DTh:m:s)", "{Y}-{M}-{D}T{h}:{m}:{s}"),
        ("moment (Y-M-D h:m:s)", "{Y}-{M}-{D} {h}:{m}:{s}.25"),
        ("moment (Y-M-DTh:m:s, zone)", "{Y}-{M}-{D}T{h}:{m}:{s}+02:00"),
        ("moment (Y-M-D h:m:s, zone)", "{Y}-{M}-{D} {h}:{m}:{s}.5-0560"),
        ("moment (Y-M-DTh:m:s, zone)", "{Y}-{M}-{D}T{h}:{m}:{s}Z"),
        ("moment (Y-M-DTh:m)", "{Y}-{M}-{D}T{h}:{m}"),
        ("moment (YMDThms)", "{Y}{M}{D}T{h}{m}{s}"),
        ("moment (M/D/Y h:m:s)", "{M}/{D}/{Y} {h}:{m}:{s}"),
    ]
)


@settings(max_examples=150, deadline=None)
@given(clock_formats, clock_days, clocks)
def test_leap_seconds_and_odd_clocks_read_the_same_in_a_cell_and_a_table(
    form: tuple[str, str], day: tuple[str, ...], clock: tuple[str, ...]
):
    conversion = Conversion(column="x", was="String", now="Datetime", reading=form[0])
    text = form[1].format(**dict(zip("YMDhms", (*day, *clock), strict=True)))

    in_table = convert(pl.LazyFrame({"x": [text]}), [conversion]).collect().item()

    try:
        in_row = conversion.cell(text)
    except InvalidInputError:
        in_row = None
    assert in_row == in_table


def test_a_leap_second_is_the_first_second_of_the_next_day():
    values, (conversion,) = converted("2016-12-31T23:59:60Z")

    assert values == [moment(2017, 1, 1)]
    assert conversion.cell("2016-12-31T23:59:60Z") == moment(2017, 1, 1)


def test_the_names_of_readings_are_unique_because_records_hold_them():
    names = [reading.name for reading in READINGS]

    assert len(set(names)) == len(names)
