from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopwright.explore import Profile, profile
from loopwright.explore.related import MOST_COLUMNS


def told(of: Profile) -> dict[str | None, str]:
    return {f.column: f.evidence for f in of.findings if f.kind == "correlated"}


def test_pairs_of_every_kind_are_found_and_no_others():
    rng = np.random.default_rng(0)
    n = 3_000
    town = rng.integers(0, 6, n)
    size = rng.lognormal(size=n)
    frame = pl.DataFrame(
        {
            "size": size,
            "rooms": size * np.exp(rng.normal(scale=0.3, size=n)),
            "town": pl.Series([f"t{i}" for i in town]),
            "latitude": town * 10 + rng.normal(size=n),
            "county": pl.Series([f"c{i // 2}" for i in town]),
            "noise": rng.normal(size=n),
            "word": rng.choice(["a", "b"], n),
            "y": rng.normal(size=n),
        }
    )

    found = told(profile(frame, target="y"))

    text = " ".join(f"{name}: {evidence}" for name, evidence in found.items())
    assert "|Spearman| 0.9" in text
    assert "Cramér's V" in text
    assert "correlation ratio 0.9" in text
    assert not {"noise", "word"} & set(found)
    assert "noise" not in text.replace("noise:", "")


def test_the_one_that_goes_less_with_the_target_is_named():
    rng = np.random.default_rng(1)
    strong = rng.normal(size=2_000)
    frame = pl.DataFrame(
        {
            "strong": strong,
            "weak": strong + rng.normal(scale=0.4, size=2_000),
            "y": strong + rng.normal(scale=0.1, size=2_000),
        }
    ).select("weak", "strong", "y")

    (finding,) = [f for f in profile(frame, target="y").findings if f.kind == "correlated"]

    assert finding.column == "weak"
    assert "'weak' goes less with the target than 'strong'" in finding.recommendation


@pytest.mark.parametrize("seed", range(3))
def test_spearman_of_a_pair_with_gaps_is_near_that_of_the_rows_both_have(seed: int):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(seed)
    x = rng.normal(size=1_000)
    y = x + rng.normal(scale=0.4, size=1_000)
    gone = rng.random(1_000) < 0.3
    frame = pl.DataFrame({"x": np.where(gone, np.nan, x), "y": y}).fill_nan(None)

    evidence = " ".join(told(profile(frame)).values())

    expected = stats.spearmanr(x[~gone], y[~gone]).statistic
    value = float(evidence.split("|Spearman| ")[1].split(")")[0])
    assert value == pytest.approx(expected, abs=0.02)


def test_of_very_many_columns_the_strongest_are_paired_and_the_profile_says_so():
    rng = np.random.default_rng(2)
    columns = {f"c{n}": rng.normal(size=200) for n in range(MOST_COLUMNS + 50)}
    y = columns["c140"] + 0.01 * rng.normal(size=200)
    twin = columns["c140"] + 0.2 * rng.normal(size=200)

    result = profile(pl.DataFrame({**columns, "twin": twin, "y": y}), target="y")

    assert result.n_paired == MOST_COLUMNS
    assert "twin" in told(result)
