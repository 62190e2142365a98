from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from loopwright.core.errors import InvalidInputError
from loopwright.deploy import Alarms, DesiredState, Rollout
from loopwright.deploy.counts import BUCKETS_S, Counts, VariantCounts, added_up
from loopwright.deploy.rollout import (
    Model,
    RolloutState,
    after_baking,
    alarm,
    begun,
    checked_rollout,
    desired,
    entered,
    tail,
)

NOW = datetime(2026, 5, 2, 9, tzinfo=UTC)
BASE = DesiredState(name="prices", bundle="/m/1", version="v1", generation=4, port=8080)
NEW = Model(bundle="/m/2", version="v2", bundle_digest="sha256:2")


def state(**plan: Any) -> RolloutState:
    wanted = Rollout(**({"kind": "canary", "steps": (0.1, 1.0), "bake": "10 minutes"} | plan))
    found = begun(wanted, loop="p", round_=2, base=BASE, next_=NEW, now=NOW)
    return entered(entered(found, "moving", NOW), "baking", NOW)


def counted(n: int = 0, *, errors: int = 0, refused: int = 0, slow: int = 0) -> VariantCounts:
    buckets = [0] * (len(BUCKETS_S) + 1)
    buckets[3], buckets[-2] = n - slow, slow
    return VariantCounts(n_requests=n, n_errors=errors, n_refused=refused, buckets=buckets)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.floats(0, 1), st.floats(1e-4, 0.5))
def test_the_tail_of_the_binomial_is_that_of_scipy_above_the_mean(
    n: int, part: float, p: float
) -> None:
    k = round(part * n)

    expected = binom.sf(k - 1, n, p) if k > n * p else 1.0

    assert tail(k, n, p) == pytest.approx(expected, rel=1e-6, abs=1e-300)


def test_one_failure_of_ten_is_no_alarm_and_many_are() -> None:
    limits = Alarms(error_rate=0.01)

    assert alarm(limits, counted(10, errors=1)) == ""
    assert alarm(limits, counted(10_000, errors=110)) == ""
    assert alarm(limits, counted(300, errors=12)) == (
        "error_rate is over 0.01: 12 of 300 requests failed"
    )
    assert alarm(Alarms(error_rate=0.0), counted(10_000, errors=1)) != ""
    assert alarm(Alarms(error_rate=None), counted(300, errors=300)) == ""


def test_latency_and_refusals_have_limits_of_their_own() -> None:
    limits = Alarms(latency_p99_ms=50, refusal_rate=0.1)

    assert alarm(limits, counted(1000, slow=12)) == ""
    assert alarm(limits, counted(1000, slow=40)) == (
        "latency_p99_ms is over 50: 40 of 1,000 requests took over 50 ms"
    )
    assert "refusal_rate is over 0.1: 60 of 200" in alarm(limits, counted(200, refused=60))


def test_a_step_bakes_for_its_time_and_its_requests_then_the_next_one_comes() -> None:
    begin = state(requests=50)
    later = NOW + timedelta(minutes=10)

    early = after_baking(begin, counted(90), trouble="", now=NOW + timedelta(minutes=9))
    few = after_baking(begin, counted(49), trouble="", now=later)
    on = after_baking(begin, counted(50), trouble="", now=later)
    end = after_baking(
        entered(on, "baking", later), counted(200), trouble="", now=later + timedelta(hours=1)
    )

    assert (early.phase, few.phase) == ("baking", "baking")
    assert early.seen.n_requests == 90
    assert (on.phase, on.step, on.share, on.generation) == ("moving", 1, 1.0, begin.generation + 1)
    assert (end.phase, end.share, end.generation) == ("finishing", 1.0, on.generation + 1)


def test_only_what_a_step_saw_itself_counts_for_its_alarm() -> None:
    begin = msgspec.structs.replace(state(), baseline=counted(1000, errors=500))

    quiet = after_baking(begin, counted(1100, errors=500), trouble="", now=NOW)
    loud = after_baking(begin, counted(1100, errors=550), trouble="", now=NOW)
    restarted = after_baking(begin, counted(100, errors=50), trouble="", now=NOW)

    assert quiet.phase == "baking"
    assert (loud.phase, loud.share) == ("returning", 0.0)
    assert "50 of 100 requests failed" in loud.reason
    assert restarted.phase == "returning"


def test_a_person_can_promote_and_trouble_comes_first() -> None:
    wished = msgspec.structs.replace(state(), wish="promote")

    assert after_baking(wished, counted(0), trouble="", now=NOW).phase == "finishing"
    assert after_baking(wished, counted(0), trouble="mae is 9", now=NOW).reason == "mae is 9"


def test_each_phase_asks_for_its_models_and_keeps_the_rest() -> None:
    loading = begun(Rollout(kind="canary"), loop="p", round_=2, base=BASE, next_=NEW, now=NOW)
    moving = entered(loading, "moving", NOW)

    first, second = desired(loading), desired(moving)
    end = desired(entered(moving, "finishing", NOW))
    back = desired(entered(moving, "returning", NOW, reason="it fails"))

    assert [(each.version, each.weight) for each in first.variants] == [("v1", 1.0), ("v2", 0.0)]
    assert [(each.version, each.weight) for each in second.variants] == [("v1", 0.9), ("v2", 0.1)]
    assert (first.generation, second.generation, first.port) == (5, 6, 8080)
    assert (end.bundle, end.version, end.variants) == ("/m/2", "v2", ())
    assert back == msgspec.structs.replace(BASE, generation=7)


def test_a_state_comes_back_from_the_store_as_it_was() -> None:
    before = state()

    assert msgspec.convert(msgspec.to_builtins(before), RolloutState) == before


def test_blue_green_moves_everyone_at_once_and_bakes_then() -> None:
    assert Rollout(kind="blue_green").shares == (1.0,)
    assert Rollout(kind="canary").shares == (0.1, 0.5, 1.0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "linear"}, "deploy.rollout.kind"),
        ({"kind": "canary", "steps": (0.5, 0.1, 1.0)}, "deploy.rollout.steps"),
        ({"kind": "canary", "steps": (0.1, 0.5)}, "deploy.rollout.steps"),
        ({"kind": "canary", "steps": (0.0, 1.0)}, "deploy.rollout.steps"),
        ({"kind": "blue_green", "steps": (0.5, 1.0)}, "deploy.rollout.steps"),
        ({"kind": "canary", "bake": "soon"}, "deploy.rollout.bake"),
        ({"kind": "canary", "requests": -1}, "deploy.rollout.requests"),
        ({"alarms": Alarms(error_rate=1.5)}, "deploy.rollout.alarms.error_rate"),
        ({"alarms": Alarms(latency_p99_ms=0)}, "deploy.rollout.alarms.latency_p99_ms"),
    ],
)
def test_a_rollout_that_is_not_possible_is_refused_with_its_key(
    changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        checked_rollout(Rollout(**changes))

    assert caught.value.facts["field"] == field


def test_counts_of_processes_add_up() -> None:
    one = Counts(
        requests=[("/ping", 200, 2)],
        predictions=[("v1", "current", 5)],
        variants={"next": counted(3, errors=1)},
        gauges={"start_time_seconds": 5.0, "open_connections": 1.0},
    )
    other = Counts(
        requests=[("/ping", 200, 1), ("/metrics", 200, 1)],
        variants={"next": counted(4, slow=1), "current": counted(1)},
        gauges={"start_time_seconds": 3.0, "open_connections": 2.0},
    )

    whole = added_up([one, other])

    assert whole.requests == [("/metrics", 200, 1), ("/ping", 200, 3)]
    assert whole.predictions == [("v1", "current", 5)]
    assert (whole.variants["next"].n_requests, whole.variants["next"].n_errors) == (7, 1)
    assert whole.variants["next"].n_slower(0.05) == 1
    assert whole.gauges == {"start_time_seconds": 3.0, "open_connections": 3.0}
