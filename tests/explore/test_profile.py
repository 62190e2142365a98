from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.data import convert
from loopwright.data.decision import decide_conversions
from loopwright.explore import Finding, Profile, profile, profile_page, profile_summary

HOUSES = Path(__file__).parents[3] / "shared" / "datasets" / "kc_house.parquet"


@pytest.fixture(scope="module")
def planted() -> pl.DataFrame:
    rng = np.random.default_rng(7)
    n = 2_000
    y = rng.random(n) < 0.06
    return pl.DataFrame(
        {
            "customer_id": [f"c{i}" for i in range(n)],
            "email": [f"u{i}@example.com" for i in range(n)],
            "country": ["US"] * n,
            "nothing": pl.Series([None] * n, dtype=pl.String),
            "income": rng.lognormal(10, 1.2, n),
            "age": rng.integers(18, 90, n),
            "ratio": [float("inf")] * 2 + rng.normal(size=n - 2).tolist(),
            "fax": [None if i % 10 else "yes" for i in range(n)],
            "zipcode": rng.integers(98_001, 98_080, n),
            "months": (days := rng.integers(1, 700, n)) / 30,
            "days": days,
            "closed_by": np.where(y, "agent", "nobody"),
            "since": [date(2020, 1, 1) + timedelta(days=int(i % 300)) for i in range(n)],
            "churn": np.where(y, "Yes", "No"),
        }
    )


def found(of: Profile, column: str | None, kind: str) -> Finding:
    matches = [f for f in of.findings if f.column == column and f.kind == kind]
    assert len(matches) == 1, f"{len(matches)} findings of {kind} for {column}"
    return matches[0]


def test_every_planted_fault_is_found(planted: pl.DataFrame):
    frame = pl.concat([planted, planted.head(5)])

    result = profile(frame, target="churn")

    assert found(result, "closed_by", "leak").severity == "serious"
    assert found(result, "email", "personal_data").severity == "serious"
    assert "no values" in found(result, "nothing", "constant").evidence
    assert "same value" in found(result, "country", "constant").evidence
    assert "names rows" in found(result, "customer_id", "identifier").evidence
    assert "1,804 values (90.0%)" in found(result, "fax", "missing").evidence
    assert found(result, "ratio", "infinite").evidence == "4 values are infinite."
    assert "long tail to the right" in found(result, "income", "skew").evidence
    assert found(result, "income", "outliers")
    assert "name things" in found(result, "zipcode", "code").evidence
    assert found(result, "zipcode", "high_cardinality")
    assert "'months'" in found(result, "days", "near_duplicate").evidence
    assert "Class 'Yes'" in found(result, "churn", "imbalance").evidence
    assert "5 rows (0.2%)" in found(result, None, "duplicate_rows").evidence
    assert "'income' spreads" in found(result, None, "scale").evidence
    assert "2020-01-01 to 2020-10-26" in found(result, "since", "time").evidence
    assert result.task == "binary"


def test_harmless_columns_are_left_in_peace(planted: pl.DataFrame):
    result = profile(planted.select("age", "since", "churn").unique(), target="churn")

    assert [finding for finding in result.findings if finding.column == "age"] == []
    assert {finding.kind for finding in result.findings} == {"imbalance", "time"}


def test_the_most_serious_comes_first(planted: pl.DataFrame):
    severities = [finding.severity for finding in profile(planted, target="churn").findings]

    assert severities == sorted(severities, key=["serious", "warning", "info"].index)
    assert set(severities) == {"serious", "warning", "info"}


def test_a_hole_in_time_is_a_warning():
    days = [*range(50), *range(120, 170)]
    frame = pl.DataFrame({"at": [date(2026, 1, 1) + timedelta(days=d) for d in days]})

    finding = found(profile(frame), "at", "time")

    assert finding.severity == "warning"
    assert "largest hole is 71 days" in finding.evidence


def test_a_class_with_a_handful_of_rows_is_serious():
    frame = pl.DataFrame({"x": range(300), "y": ["a"] * 150 + ["b"] * 147 + ["c"] * 3})

    finding = found(profile(frame, target="y"), "y", "imbalance")

    assert finding.severity == "serious"
    assert "'c' has 3" in finding.evidence


def test_rows_without_a_target_are_named():
    frame = pl.DataFrame({"x": range(100), "y": [None, 1.5, 2.5, 9.5] * 25})

    assert "25 rows (25.0%)" in found(profile(frame, target="y"), "y", "target_missing").evidence


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (list(range(100)), "regression"),
        ([0, 1] * 50, "binary"),
        ([1, 2, 3, 4] * 25, "multiclass"),
        (["a", "b", "c", "d"] * 25, "multiclass"),
        ([True, False] * 50, "binary"),
    ],
)
def test_the_task_follows_from_the_target(values: list[Any], task: str):
    assert profile(pl.DataFrame({"y": values}), target="y").task == task


def test_without_a_target_there_are_no_associations(planted: pl.DataFrame):
    result = profile(planted)

    assert (result.target, result.task) == (None, None)
    assert all(column.association is None for column in result.columns)


@pytest.mark.skipif(not HOUSES.exists(), reason="the shared data sets are not here")
def test_the_houses_look_as_they_are_known_to():
    raw = pl.scan_parquet(HOUSES)
    houses = convert(raw, decide_conversions(raw)).collect()

    result = profile(houses, target="price", notes={"grade": "King County's own scale"})

    kinds = {column.name: column.kind for column in result.columns}
    assert (kinds["id"], kinds["zipcode"], kinds["date"]) == ("identifier", "category", "date")
    assert (kinds["waterfront"], kinds["price"]) == ("boolean", "number")
    assert not [f for f in result.findings if f.severity == "serious"]
    assert not [f for f in result.findings if f.kind in ("leak", "near_duplicate")]
    assert found(result, "zipcode", "code")
    assert found(result, "price", "skew")
    strengths = {c.name: c.association.value for c in result.columns if c.association}
    assert min(strengths[name] for name in ("sqft_living", "grade", "lat", "zipcode")) > 0.6
    note = result.column("grade").note
    assert note is not None
    assert note.text == "King County's own scale"


def test_a_profile_survives_its_record(planted: pl.DataFrame):
    result = profile(planted, target="churn")

    text = json.dumps(result.to_json(), allow_nan=False)

    assert Profile.from_json(json.loads(text)) == result


def test_a_profile_of_a_later_release_is_refused(planted: pl.DataFrame):
    record = profile(planted).to_json() | {"version": 3}

    with pytest.raises(InvalidInputError, match="version 3"):
        Profile.from_json(record)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"target": "chrun"}, r"target 'chrun' .* mean 'churn'\?"),
        ({"notes": {"agee": "?"}}, r"note 'agee' .* mean 'age'\?"),
    ],
)
def test_an_unknown_column_is_refused(
    planted: pl.DataFrame, keywords: dict[str, Any], message: str
):
    with pytest.raises(InvalidInputError, match=message):
        profile(planted, **keywords)
    with pytest.raises(InvalidInputError, match="'agee'"):
        profile(planted).column("agee")


@pytest.mark.parametrize("target", ["tags", "place", "bytes"])
def test_a_target_that_is_nested_is_refused(target: str):
    frame = pl.DataFrame({"tags": [[1, 2]], "place": [{"x": 1}], "bytes": [b"x"]})

    with pytest.raises(
        InvalidInputError, match=f"{target!r} holds .*nothing can predict"
    ) as caught:
        profile(frame, target=target)

    assert caught.value.facts["field"] == "target"


def test_a_notebook_shows_the_page_and_a_terminal_the_first_lines(planted: pl.DataFrame):
    found = profile(planted)

    framed, said = found._repr_html_(), repr(found)

    assert framed.startswith("<iframe srcdoc=")
    assert "<script" not in framed.lower()
    assert "Data profile" in framed
    assert said.startswith(profile_summary(found)[0])
    assert len(said.splitlines()) <= 9


def test_what_a_notebook_keeps_of_a_wide_table_stays_small():
    wide = pl.DataFrame({f"c{n}": range(60) for n in range(300)})

    assert len(profile(wide)._repr_html_()) < 400_000


def test_a_table_without_rows_is_refused(planted: pl.DataFrame):
    with pytest.raises(InvalidInputError, match="no rows"):
        profile(planted.clear())


cells = st.one_of(
    st.none(), st.floats(), st.integers(-(2**62), 2**62), st.text(max_size=6), st.booleans()
)


def floats_in(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from floats_in(item)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=12), st.sampled_from([None, "a"]))
def test_any_small_table_gives_a_profile_without_nan(rows: list[Any], target: str | None):
    columns = [
        pl.Series(name, [row[i] for row in rows], strict=False).fill_nan(None)
        if pl.Series([row[i] for row in rows], strict=False).dtype.is_float()
        else pl.Series(name, [row[i] for row in rows], strict=False)
        for i, name in enumerate("ab")
    ]

    result = profile(pl.DataFrame(columns), target=target)

    assert all(math.isfinite(value) for value in floats_in(result.to_json()))
    for column in result.columns:
        assert column.n_missing + sum(v.n_rows for v in column.top) <= len(rows)
        assert column.association is None or 0 <= column.association.value <= 1


def test_a_column_that_no_step_can_read_is_a_finding():
    frame = pl.DataFrame({"tags": [["a"], ["b"]] * 20, "raw": [b"x", b"y"] * 20, "y": range(40)})

    result = profile(frame, target="y")

    assert "List(String)" in found(result, "tags", "nested").evidence
    assert "Binary" in found(result, "raw", "nested").evidence


def test_huge_numbers_are_a_finding_and_nothing_overflows():
    frame = pl.DataFrame({"x": [1e308, -1e308, 2.0, 3.0] * 20, "y": [1e200, 1.0, 2.0, 3.0] * 20})

    result = profile(frame, target="y", task="regression")

    assert "from -1e+308 to 1e+308" in found(result, "x", "huge").evidence
    assert found(result, "y", "huge")


@pytest.mark.parametrize(
    ("values", "kind"),
    [([7.0] * 40, "constant"), ([None] * 40, "constant"), ([float("inf"), 1.0] * 20, "infinite")],
)
def test_a_target_from_which_nothing_can_be_learned_is_serious(values: list[Any], kind: str):
    frame = pl.DataFrame({"x": range(40), "y": pl.Series(values, dtype=pl.Float64)})

    assert found(profile(frame, target="y"), "y", kind).severity == "serious"


def test_a_value_that_prevails_and_many_zeros_are_told():
    frame = pl.DataFrame(
        {
            "view": [0] * 92 + [1, 2, 3, 4] * 2,
            "gain": [0.0] * 30 + [n * 1.5 for n in range(1, 71)],
            "warm": [0.0] * 30 + [n - 30.5 for n in range(70)],
            "y": range(100),
        }
    )

    result = profile(frame, target="y")

    assert found(result, "view", "dominant").evidence == "92.0% of its values are 0."
    assert found(result, "gain", "zeros").evidence == "30 values (30.0%) are 0."
    assert [f for f in result.findings if f.column == "warm" and f.kind == "zeros"] == []


def test_types_beside_the_plain_ones_are_described_by_what_they_hold():
    frame = pl.DataFrame(
        {
            "price": pl.Series(["1.50", "2.25"] * 30).cast(pl.Decimal(scale=2)),
            "lasted": [timedelta(hours=1), timedelta(hours=3)] * 30,
            "size": pl.Series(["S", "M"] * 30, dtype=pl.Categorical),
            "nan": [float("nan"), 1.0, 2.0] * 20,
        }
    )

    result = profile(frame)

    price, lasted = result.column("price").number, result.column("lasted").number
    assert price is not None
    assert lasted is not None
    assert (price.minimum, price.maximum) == (1.5, 2.25)
    assert (lasted.minimum, lasted.maximum) == (3_600, 10_800)
    assert (result.column("size").kind, result.column("size").n_distinct) == ("category", 2)
    assert (result.column("nan").n_missing, result.column("nan").n_distinct) == (20, 2)


def test_a_wide_table_keeps_its_record_and_its_page_small():
    rng = np.random.default_rng(0)
    wide = {f"c{n}": rng.normal(size=60) for n in range(600)}
    wide["c599"] = wide["c3"]
    frame = pl.DataFrame({**wide, "y": rng.normal(size=60)})

    result = profile(frame, target="y")

    assert found(result, "c599", "near_duplicate").evidence == "It is identical to 'c3'."
    assert len(json.dumps(result.to_json())) < 1_500 * 601
    page = profile_page(result)
    assert page.count("<h3>") == 200
    assert all(f">c{n}<" in page for n in range(600))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 2)), min_size=1, max_size=30
    )
)
def test_repeated_rows_are_counted_as_polars_counts_them(rows: list[Any]):
    frame = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.Int64}, orient="row")

    assert profile(frame).n_duplicate_rows == frame.height - frame.n_unique()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(alphabet="abc", max_size=2), min_size=1, max_size=60))
def test_frequent_texts_are_those_that_counting_gives(values: list[str]):
    column = profile(pl.DataFrame({"x": values})).column("x")

    counts = Counter(values)
    assert column.n_distinct == len(counts)
    assert [top.n_rows for top in column.top] == sorted(counts.values(), reverse=True)[:10]
    assert all(counts[top.value] == top.n_rows for top in column.top)
