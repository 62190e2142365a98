from __future__ import annotations

import re
from datetime import date
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from loopwright.explore import Profile, profile, profile_page, profile_summary

ATTACK = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def described() -> Profile:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "area": rng.lognormal(size=400),
            "town": rng.choice(["Kent", "Renton"], 400),
            "sold": [date(2026, 1 + n % 12, 1) for n in range(400)],
            "remark": [f"a remark about house {n}" for n in range(400)],
            "same": ["x"] * 400,
            "gone": pl.Series([None] * 400, dtype=pl.Float64),
            "price": rng.normal(size=400),
        }
    )
    return profile(frame, target="price", notes={"area": "in square feet"})


class Page(HTMLParser):
    """Collects the elements of a page and fails when they are not nested rightly."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_shows_every_column_finding_and_note(described: Profile):
    page = Page(profile_page(described, title="Houses"))

    assert page.tags.count("h3") == len(described.columns)
    assert all(column.name in page.words for column in described.columns)
    assert all(finding.evidence in page.words for finding in described.findings)
    assert "in square feet" in page.words
    assert "Houses" in page.words


def test_the_page_needs_no_network_and_runs_no_script(described: Profile):
    text = profile_page(described)

    assert not {"script", "link", "img", "iframe"} & set(Page(text).tags)
    assert not re.search(r"https?://|url\(|@import", text)
    assert "prefers-color-scheme: dark" in text


def test_the_bars_of_a_histogram_stay_inside_its_frame(described: Profile):
    rectangles = re.findall(
        r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)">',
        profile_page(described),
    )

    assert len(rectangles) > 20
    for x, y, width, height in (map(float, numbers) for numbers in rectangles):
        assert 0 <= x <= x + width <= 300
        assert 0 <= y <= y + height <= 72.01


def test_nothing_from_the_data_becomes_markup():
    frame = pl.DataFrame({ATTACK: [ATTACK, "b", "c"] * 20, "y": range(60)})
    described = profile(frame, target=ATTACK, notes={ATTACK: ATTACK, "y": ATTACK})

    page = Page(profile_page(described, title=ATTACK))

    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.words.count(ATTACK) >= 5


def test_the_page_of_an_odd_table_is_still_a_page():
    for frame in (
        pl.DataFrame({"x": [1]}),
        pl.DataFrame({"x": [None, None]}),
        pl.DataFrame({"x": [[1], [2]]}),
        pl.DataFrame({"x": [float("inf"), 1e308, -1e308]}),
    ):
        assert "h3" in Page(profile_page(profile(frame))).tags


def test_the_summary_names_the_table_its_strongest_columns_and_its_faults(described: Profile):
    lines = profile_summary(described)

    assert lines[0].startswith("400 rows, 7 columns: ")
    assert "2 constants" in lines[0]
    assert lines[1].startswith("Goes with price most (0 to 1): ")
    assert any(line.startswith("!  same: It has the same value") for line in lines)


def test_a_long_summary_says_how_much_is_left_out():
    frame = pl.DataFrame({f"c{n}": ["x"] * 5 for n in range(20)})

    assert profile_summary(profile(frame))[-1].strip().startswith("and ")


def test_the_page_draws_what_is_missing_together_and_how_the_target_moves():
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "sold": [date(2024 + n // 200, 1 + n // 17 % 12, 1) for n in range(400)],
            "area": [None if n % 4 == 0 else float(n) for n in range(400)],
            "town<": [None if n % 4 == 0 else "Kent" * (1 + n % 2) for n in range(400)],
            "price": np.arange(400) + rng.normal(size=400),
        }
    )

    text = profile_page(profile(frame, target="price"))

    page = Page(text)
    assert page.tags.count("polyline") == 1
    assert "Mean of price over sold" in page.words
    assert "area, town<" in page.words
    assert "nothing is missing" in page.words
    assert "town&lt;" in text
