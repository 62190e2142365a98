from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from loopwright.evaluate import SegmentComparison
from loopwright.loop.gate import (
    Evidence,
    Held,
    Rule,
    harmed,
    measured_evidence,
    passage,
    spent_alpha,
)
from loopwright.problem import metric_named, value_answers

MAE = metric_named("mae")


def beside(gain: float, lower: float, n: int = 500) -> Held:
    return Held(n_rows=n, champion=1.0, challenger=1.0 - gain, gain=gain, lower=lower)


def evidence(newest: Held, *, kind: Any = "superiority", **changes: Any) -> Evidence:
    return Evidence(
        rule=Rule(kind=kind), metric="mae", **{"newest": newest, "recent": newest, **changes}
    )


def segment(name: str, gain: float, lower: float) -> SegmentComparison:
    return SegmentComparison(
        name=name,
        n_rows=90,
        champion=1.0,
        challenger=1.0 - gain,
        gain=gain,
        lower=lower,
        margin=0.05,
        not_worse=lower >= -0.05,
    )


def test_the_levels_of_all_trials_add_up_to_five_percent() -> None:
    total = sum(spent_alpha(trial) for trial in range(1, 100_000))

    assert total == pytest.approx(0.05, abs=1e-5)
    assert spent_alpha(1) == pytest.approx(0.05 * 6 / math.pi**2)


@pytest.mark.parametrize(("lower", "passes"), [(0.001, True), (0.0, False), (-0.001, False)])
def test_superiority_asks_for_a_gain_beyond_doubt(lower: float, passes: bool) -> None:
    assert passage(evidence(beside(0.05, lower))).passes is passes


@pytest.mark.parametrize(
    ("newest", "recent", "passes"),
    [(-0.009, 0.02, True), (-0.011, 0.02, False), (-0.009, 0.0, False), (0.02, 0.02, True)],
)
def test_after_a_harm_no_worse_in_all_and_better_of_late_is_enough(
    newest: float, recent: float, passes: bool
) -> None:
    found = evidence(beside(0.01, newest), kind="non_inferiority", recent=beside(0.03, recent, 100))

    assert passage(found).passes is passes


@pytest.mark.parametrize(("gain", "passes"), [(0.0, True), (-0.0099, True), (-0.0101, False)])
def test_golden_rows_may_not_get_worse_by_more_than_one_percent(gain: float, passes: bool) -> None:
    said = passage(evidence(beside(0.05, 0.01), golden=beside(gain, gain)))

    assert said.passes is passes
    assert passes or "500 golden rows" in said.reasons[0]


def test_a_segment_in_doubt_stops_a_challenger_that_is_better_overall() -> None:
    said = passage(evidence(beside(0.05, 0.01), segments=(segment("coast", -0.02, -0.08),)))

    assert not said.passes
    assert said.but_for_segments
    assert said.in_doubt == ("coast",)
    assert said.harmed == ()


def test_harm_is_told_beyond_doubt_among_all_that_were_looked_at() -> None:
    # 1.645 deviations of 0.05 between gain and bound; 0.25 below the margin is 5 deviations
    worse = segment("coast", -0.30, -0.30 - 1.645 * 0.05)
    # 2 deviations below: p = 0.023, which 20 segments do not allow
    luck = segment("hills", -0.15, -0.15 - 1.645 * 0.05)
    fine = [segment(f"s{n}", 0.0, -1.645 * 0.05) for n in range(20)]

    assert harmed((luck, worse, *fine)) == ("coast",)
    assert harmed((luck,)) == ("hills",)


def test_the_recent_rows_are_those_since_the_harm_if_there_are_enough() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=400)
    old, new = value_answers(y + 1.0), value_answers(y + 0.5)
    late = np.arange(400) >= 300

    many = measured_evidence(MAE, y, champion=old, challenger=new, rule=Rule(), recent=late)
    few = measured_evidence(
        MAE, y, champion=old, challenger=new, rule=Rule(), recent=np.arange(400) >= 351
    )

    assert (many.newest.n_rows, many.recent.n_rows, few.recent.n_rows) == (400, 100, 400)
    assert many.newest.gain == pytest.approx(0.5)


def test_later_trials_need_more() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=400)
    old, new = value_answers(y + rng.normal(size=400)), value_answers(y + rng.normal(size=400))

    bounds = [
        measured_evidence(MAE, y, champion=old, challenger=new, rule=Rule(trial=trial)).newest.lower
        for trial in (1, 2, 5, 20)
    ]

    assert bounds == sorted(bounds, reverse=True)
    assert len(set(bounds)) == 4


def test_the_same_model_is_never_better_than_itself() -> None:
    y = np.random.default_rng(3).normal(size=200)
    same = value_answers(y + 1)

    found = measured_evidence(MAE, y, champion=same, challenger=same, rule=Rule())

    assert (found.newest.gain, found.newest.lower) == (0.0, 0.0)
    assert not passage(found).passes
