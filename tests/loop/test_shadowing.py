from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.deploy import DesiredState, Rollout, RolloutState
from loopwright.deploy.rollout import (
    Model,
    ShadowPlan,
    begun,
    checked_rollout,
    desired,
    entered,
)
from loopwright.loop.shadowing import ShadowStanding, after_trial, standing

NOW = datetime(2026, 5, 2, 9, tzinfo=UTC)
PLAN = ShadowPlan()


def shadowing() -> RolloutState:
    base = DesiredState(name="churn", bundle="/m/1", version="old", generation=4)
    first = begun(
        Rollout(kind="canary", shadow=PLAN),
        loop="churn",
        round_=2,
        base=base,
        next_=Model(bundle="/m/2", version="new"),
        now=NOW,
    )
    return entered(first, "shadowing", NOW)


def pairs(rng: np.random.Generator, n: int, worse: float) -> tuple[Any, Any]:
    """Return the losses of two models that err together, one by some share more."""
    common = rng.gamma(2.0, size=n)
    return common * rng.uniform(0.9, 1.1, n), common * rng.uniform(0.9, 1.1, n) * (1 + worse)


def test_a_shadow_has_no_share_of_the_callers() -> None:
    state = shadowing()

    old, new = desired(state).variants

    assert state.share == 0.0
    assert (old.weight, old.shadow) == (1.0, False)
    assert (new.weight, new.shadow) == (0.0, True)
    assert state.told == "version new is tried beside version old, unseen by callers"


def test_looking_all_the_time_seldom_stops_an_equal_shadow() -> None:
    stopped = 0
    for seed in range(100):
        old, new = pairs(np.random.default_rng(seed), 3_000, 0.0)
        looks = range(50, 3_001, 50)
        stopped += any(standing(old[:n], new[:n], PLAN).verdict == "worse" for n in looks)

    assert stopped <= 4


@pytest.mark.parametrize(("worse", "most_rows"), [(0.1, 500), (0.05, 1_000), (0.02, 3_000)])
def test_a_shadow_that_is_worse_is_found_after_few_rows(worse: float, most_rows: int) -> None:
    found = 0
    for seed in range(20):
        old, new = pairs(np.random.default_rng(seed), most_rows, worse)
        looks = range(50, most_rows + 1, 50)
        found += any(standing(old[:n], new[:n], PLAN).verdict == "worse" for n in looks)

    assert found >= 18


def test_a_shadow_that_is_as_good_passes_but_not_before_enough_labels() -> None:
    old, new = pairs(np.random.default_rng(1), 5_000, -0.01)

    assert standing(old[:400], new[:400], PLAN).verdict == "undecided"
    assert standing(old, new, PLAN).verdict == "no worse"


def test_the_same_answers_pass_as_soon_as_there_are_enough() -> None:
    old = np.full(500, 0.3)

    assert standing(old, old, PLAN).verdict == "no worse"
    assert standing(old[:1], old[:1], PLAN).verdict == "undecided"


@pytest.mark.parametrize(
    ("verdict", "days", "phase"),
    [
        ("undecided", 1, "shadowing"),
        ("undecided", 14, "returning"),
        ("worse", 0, "returning"),
        ("no worse", 0, "moving"),
    ],
)
def test_a_trial_ends_by_what_it_shows_or_by_its_time(verdict: Any, days: int, phase: str) -> None:
    found = ShadowStanding(verdict=verdict, n_rows=600, before=0.3, after=0.4)

    after = after_trial(shadowing(), found, ended=False, now=NOW + timedelta(days=days))

    assert after.phase == phase
    assert after.generation == shadowing().generation + (phase != "shadowing")


def test_a_dead_endpoint_ends_the_trial() -> None:
    found = ShadowStanding(verdict="no worse", n_rows=600)

    after = after_trial(shadowing(), found, ended=True, now=NOW)

    assert (after.phase, after.reason) == ("returning", "the endpoint's process ended")


@pytest.mark.parametrize(
    "plan",
    [
        Rollout(shadow=PLAN),
        Rollout(kind="canary", shadow=ShadowPlan(labelled=10)),
        Rollout(kind="canary", shadow=ShadowPlan(margin=0.0)),
        Rollout(kind="canary", shadow=ShadowPlan(at_most="0 s")),
    ],
)
def test_a_shadow_that_could_show_nothing_is_refused(plan: Rollout) -> None:
    with pytest.raises(InvalidInputError, match=r"deploy\.rollout\.shadow"):
        checked_rollout(plan)
