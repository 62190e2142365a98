"""A new champion on trial, and the way back to the one before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from loopwright.core.clock import FixedClock
from loopwright.deploy.counts import VariantCounts
from loopwright.loop.baking import _failing, _missing, is_baking
from loopwright.loop.chronicle import chronicle
from loopwright.loop.feedback import begin, step
from loopwright.loop.feedback_history import loop_history
from loopwright.loop.feedback_state import (
    Begun,
    Compared,
    Configured,
    Ended,
    Event,
    Frozen,
    Held,
    Looked,
    LoopState,
    TakeBack,
    Trained,
)
from loopwright.loop.feedback_store import find_state
from loopwright.loop.guard import rest_s
from loopwright.loop.trigger import Policy, Seen
from loopwright.store import MemoryMetadataStore

from .feedback_worker import LOOP, NAME, first_model, work, workspace_over

NOW = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DRIFT = Looked(seen=Seen(verdict="drift", reason="The error grew.", n_labelled=2_000))
WORSE = Compared(version="v2", beside="v1", is_worse=True, reason="it errs more")


def after(state: LoopState, *events: Event, at: datetime = NOW) -> LoopState:
    for event in events:
        state, _ = step(state, event, at)
    return state


def on_trial() -> LoopState:
    """Return a loop that has just replaced its first champion by one of its own."""
    return after(
        begin("churn", NOW),
        Configured(policy=Policy()),
        Begun(number=1, cause="first run", reason="new"),
        Ended(number=1, outcome="live", version="v1"),
        DRIFT,
        Trained(number=2),
        Ended(number=2, outcome="live", version="v2"),
    )


def test_a_new_champion_that_is_worse_is_taken_back_to_the_one_before_and_the_loop_rests() -> None:
    state, effects = step(on_trial(), WORSE, NOW + DAY)

    assert effects == (TakeBack(number=2, version="v2", back="v1", reason="it errs more"),)
    assert (state.state, state.champion, state.previous) == ("cooldown", "v1", None)
    assert state.reason == "version v2 was taken back to version v1: it errs more"
    assert state.rest_until == NOW + 3 * DAY  # twice the cool-down
    assert state.n_challengers == 1  # what the first trial spent is still spent


def test_the_trial_lasts_for_the_bake_and_no_longer() -> None:
    state = on_trial()

    assert is_baking(state)
    assert after(state, WORSE, at=NOW + 6.9 * DAY).champion == "v1"
    over = after(state, WORSE, at=NOW + 7 * DAY)
    assert (over.state, over.champion) == ("watching", "v2")
    assert not is_baking(over)


@pytest.mark.parametrize(
    "event",
    [
        msgspec.structs.replace(WORSE, is_worse=False),
        msgspec.structs.replace(WORSE, version="v3"),
        msgspec.structs.replace(WORSE, beside="v0"),
    ],
)
def test_a_comparison_that_says_nothing_against_it_changes_nothing(event: Compared) -> None:
    state = on_trial()

    assert step(state, event, NOW + DAY) == (state, ())


def test_a_comparison_that_comes_twice_goes_back_once() -> None:
    state = after(on_trial(), WORSE, at=NOW + DAY)

    assert step(state, WORSE, NOW + DAY) == (state, ())


@pytest.mark.parametrize("stop", [Held(by="ann", reason="why"), Frozen(by="ann", reason="why")])
def test_a_loop_that_a_person_stopped_does_not_go_back_by_itself(stop: Event) -> None:
    state = after(on_trial(), stop, WORSE)

    assert state.champion == "v2"


def test_what_a_person_changed_is_not_taken_back() -> None:
    changed = after(
        on_trial(),
        Begun(number=3, cause="changed", reason="a criterion"),
        Ended(number=3, outcome="live", version="v3"),
        msgspec.structs.replace(WORSE, version="v3", beside="v2"),
    )

    assert (changed.state, changed.champion) == ("promoted", "v3")


def test_going_back_and_forth_takes_longer_each_time() -> None:
    state, now, rests = on_trial(), NOW, []
    for number in range(3, 8):
        version = state.champion
        worse = Compared(version=str(version), beside="v1", is_worse=True)
        state = after(state, worse, at=now)
        assert state.champion == "v1"
        rests.append(rest_s(state) / 86_400)
        now += timedelta(seconds=rest_s(state))
        state = after(state, DRIFT, at=now)
        assert state.state == "retraining"
        ended = Ended(number=number, outcome="live", version=f"v{number}")
        state = after(state, Trained(number=number), ended, at=now)

    assert rests == [2, 8, 16, 16, 16]


def test_requests_that_fail_count_from_the_first_look_at_the_trial_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counts = VariantCounts(n_requests=1_000, n_errors=900)
    monkeypatch.setattr("loopwright.loop.baking.variant_counts", lambda _: {"main": counts})
    workspace = workspace_over(MemoryMetadataStore(FixedClock(NOW)), tmp_path)

    first = _failing(workspace, LOOP, "v2")
    same = _failing(workspace, LOOP, "v2")
    counts = counts.plus(VariantCounts(n_requests=200, n_errors=1))
    few = _failing(workspace, LOOP, "v2")
    counts = counts.plus(VariantCounts(n_requests=200, n_errors=20))
    many = _failing(workspace, LOOP, "v2")

    assert (first, same, few) == ("", "", "")
    assert many == "error_rate is over 0.01: 21 of 400 requests failed"


@pytest.mark.parametrize(
    ("causes", "old", "told"),
    [
        (("estimated_miss",), "holds", "without labels mape is estimated at 0.3, missed"),
        (("estimated_miss",), "missed", ""),
        (("drift",), "holds", ""),
    ],
)
def test_an_estimated_miss_counts_where_it_is_listed_and_the_one_before_would_keep_it(
    monkeypatch: pytest.MonkeyPatch, causes: tuple[str, ...], old: str, told: str
) -> None:
    estimate = SimpleNamespace(metric="mape", verdict=old, value=0.1)
    monkeypatch.setattr("loopwright.loop.baking.estimates_of", lambda *_, **__: (estimate,))
    monkeypatch.setattr("loopwright.loop.baking.open_bundle", lambda _: None)
    evidence = {"estimates": [{"metric": "mape", "verdict": "missed", "value": 0.3}]}
    seen = Seen(verdict="estimated_miss", reason="", n_labelled=0, evidence=evidence)
    state = msgspec.structs.replace(on_trial(), policy=Policy(causes=causes))
    workspace: Any = SimpleNamespace(artifacts=SimpleNamespace(local_path=lambda _: "m"))
    before = {"bundle": "m", "version": "v1"}

    found = _missing(workspace, LOOP, None, {"version": "v2"}, before, state, seen)  # type: ignore[arg-type]

    assert found.startswith(told)
    assert bool(found) is bool(told)


def test_the_way_back_is_on_record_for_people() -> None:
    store = MemoryMetadataStore(FixedClock(NOW))
    first_model(store)
    workspace = workspace_over(store, Path())

    work(workspace)

    state = find_state(store, NAME)
    assert state is not None
    champion: dict[str, Any] = store.get("champion", NAME).body
    assert (state.champion, champion["version"], champion["taken_back"]) == ("v1", "v1", "v2")
    round_ = store.get("round", f"{NAME}/000002").body
    assert round_["state"] == "rolled back"
    assert round_["conclusion"].endswith("It was taken back to version v1: It errs more.")
    assert [each.label for each in chronicle(workspace, NAME).champions] == ["v1", "v2", "v1"]
    last = loop_history(workspace, NAME).decisions[-1]
    assert last.what == "version v2 on trial is worse than version v1"
    assert last.decision == "version v1 is the champion again"
