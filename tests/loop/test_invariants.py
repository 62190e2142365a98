"""The thirteen invariants of the feedback loop, one test each."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.clock import FixedClock
from loopwright.core.errors import WrongStateError
from loopwright.evaluate import SegmentComparison
from loopwright.loop.feedback import begin, step
from loopwright.loop.feedback_state import (
    OPEN,
    STOPPED,
    AbortRollout,
    Asked,
    BeginRound,
    Begun,
    Compared,
    Configured,
    Ended,
    EndRound,
    Event,
    Failed,
    Frozen,
    Held,
    Looked,
    LoopState,
    Resumed,
    Rolled,
    Ticked,
    Trained,
    Waited,
)
from loopwright.loop.feedback_store import (
    carried_out,
    find_state,
    pending_effects,
    recorded_events,
    tell,
)
from loopwright.loop.gate import Evidence, Rule, passage, recomputed, to_record
from loopwright.loop.gate import Held as Beside
from loopwright.loop.guard import quarantined
from loopwright.loop.trigger import Policy, Seen
from loopwright.store import MemoryMetadataStore, MetadataStore, SqlMetadataStore

from .feedback_worker import DRIFT, NAME, FaultyStore, contents, first_model, work, workspace_over

NOW = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def live(policy: Policy | None = None) -> LoopState:
    """Return a loop whose first model answers."""
    state = begin("churn", NOW)
    for event in (
        Configured(policy=policy or Policy()),
        Begun(number=1, cause="first run", reason="new"),
        Trained(number=1),
        Ended(number=1, outcome="live", version="v1"),
    ):
        state, _ = step(state, event, NOW)
    return state


def seen(verdict: str = "drift", n: int = 2_000) -> Looked:
    fault = "missing:age" if verdict == "data_quality" else ""
    return Looked(seen=Seen(verdict=verdict, reason="Evidence.", n_labelled=n, fault=fault))


def after(state: LoopState, *events: Event, at: datetime = NOW) -> LoopState:
    for event in events:
        state, _ = step(state, event, at)
    return state


NUMBERS = st.integers(1, 4)
EVENTS = st.one_of(
    st.sampled_from(["ok", "watch", "drift", "criterion_missed", "data_quality"]).map(seen),
    st.just(Ticked()),
    st.just(Asked(by="ann", reason="why")),
    st.builds(Begun, number=NUMBERS, cause=st.just("changed"), reason=st.just("")),
    st.builds(Trained, number=NUMBERS),
    st.builds(Waited, number=NUMBERS, version=st.just("w")),
    st.builds(
        Rolled, number=NUMBERS, version=st.just("w"), share=st.sampled_from([0.0, 0.1, 0.5, 1.0])
    ),
    st.builds(
        Ended,
        number=NUMBERS,
        version=st.sampled_from(["a", "b"]),
        outcome=st.sampled_from(["live", "kept champion", "rolled back", "rejected"]),
    ),
    st.builds(
        Compared,
        version=st.sampled_from(["a", "b", "v1"]),
        beside=st.sampled_from(["a", "b", "v1"]),
        is_worse=st.booleans(),
    ),
    st.builds(Failed, number=NUMBERS, error=st.just("broke"), is_final=st.booleans()),
    st.just(Held(by="ann", reason="why")),
    st.just(Frozen(by="ann", reason="why")),
    st.just(Resumed(by="ann", reason="why")),
)
HISTORIES = st.lists(st.tuples(EVENTS, st.integers(-48, 200)), max_size=30)


def told(history: list[tuple[Event, int]], state: LoopState) -> Iterator[tuple[Any, ...]]:
    """Yield what every event of a history does: before, event, time, after, effects."""
    now = NOW
    for event, hours in history:
        now += timedelta(hours=hours)
        following, effects = step(state, event, now)
        yield state, event, now, following, effects
        state = following


@given(HISTORIES)
@settings(max_examples=150, deadline=None)
def test_1_exactly_one_champion_serves_at_every_instant(history: list[Any]) -> None:
    for before, event, _now, following, _effects in told(history, live()):
        assert following.champion
        crowned = following.champion != before.champion
        went_back = isinstance(event, Compared) and following.champion == before.previous
        assert not crowned or went_back or (isinstance(event, Ended) and event.outcome == "live")
        assert following.share < 1 or following.underlying == "canary"


@given(HISTORIES)
@settings(max_examples=150, deadline=None)
def test_2_a_challenger_answers_nobody_before_its_shadow_has_passed(history: list[Any]) -> None:
    for _before, event, _now, following, _effects in told(history, live()):
        if following.underlying != "canary":
            assert following.share == 0
        elif isinstance(event, Rolled) and event.number == following.round:
            assert following.share <= event.share or following.share == event.share
        assert following.underlying in OPEN or following.challenger is None


def test_3_the_champion_before_is_kept_until_the_new_one_has_lasted_and_after() -> None:
    ended = (Trained(number=2), Ended(number=2, outcome="live", version="v2"))

    state = after(live(), seen(), *ended)

    assert (state.state, state.champion, state.previous) == ("promoted", "v2", "v1")
    rested = after(state, Ticked(), seen("ok"), at=NOW + 8 * DAY)
    assert (rested.state, rested.previous) == ("watching", "v1")


def crashed_and_resumed(store: MetadataStore, at: int, *, after_: bool) -> bool:
    """Work with a store that fails at a write, then go on without; tell whether it failed."""

    class Crash(BaseException):
        pass

    def end() -> None:
        raise Crash

    faulty = FaultyStore(store, at, after=after_, end=end)
    try:
        work(workspace_over(faulty, Path()))
    except Crash:
        work(workspace_over(store, Path()))
        return True
    return False


def at_every_write(new: Any) -> int:
    clean = new()
    work(workspace_over(clean, Path()))
    wanted, n = contents(clean), 0
    for after_ in (False, True):
        for at in range(1, 500):
            store = new()
            broke = crashed_and_resumed(store, at, after_=after_)
            assert contents(store) == wanted
            n += broke
            if not broke:
                break
    return n


def test_4_an_exception_at_any_write_and_a_resume_give_the_same_final_state() -> None:
    def new() -> MemoryMetadataStore:
        store = MemoryMetadataStore(FixedClock(NOW))
        first_model(store)
        return store

    assert at_every_write(new) >= 40


@pytest.mark.slow
def test_4_kill_9_at_any_write_and_a_resume_give_the_same_final_state(tmp_path: Path) -> None:
    script = Path(__file__).parent / "feedback_worker.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, check=True, timeout=300
    )
    ends = json.loads(done.stdout)

    wanted = ends[-1]["end"]
    assert not ends[-1]["killed"]
    assert sum(each["killed"] for each in ends) >= 40
    assert all(each["end"] == wanted for each in ends)


def test_5_two_workers_that_race_begin_one_round(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'loopwright.db'}"
    first_model(SqlMetadataStore(url, FixedClock(NOW)))
    began: list[int] = []
    gate = threading.Barrier(2)

    def race() -> None:
        store = SqlMetadataStore(url, FixedClock(NOW))
        gate.wait()
        for hour in range(10):
            state = tell(store, NAME, Looked(seen=DRIFT), now=NOW + timedelta(hours=hour))
            began.append(state.round)

    workers = [threading.Thread(target=race) for _ in range(2)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()

    store = SqlMetadataStore(url, FixedClock(NOW))
    assert set(began) == {2}
    assert [e.number for _, e in pending_effects(store, NAME)] == [2]
    numbers = [each.n for each in recorded_events(store, NAME)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_5_a_step_from_a_state_that_others_left_is_taken_anew() -> None:
    store = MemoryMetadataStore(FixedClock(NOW))
    first_model(store)
    record = store.get("feedback", NAME)
    tell(store, NAME, Held(by="ann", reason="a holiday"), now=NOW)

    with pytest.raises(WrongStateError):
        store.replace(record, record.body)
    state = tell(store, NAME, Looked(seen=DRIFT), now=NOW)

    assert state.state == "held"


POLICY = Policy(cooldown_s=3600.0, per_day=2, per_week=6, budget_minutes=100.0)


@given(st.lists(st.tuples(st.booleans(), st.integers(-30, 60)), min_size=20, max_size=120))
@settings(max_examples=60, deadline=None)
def test_6_budgets_and_rest_hold_in_a_storm_of_alarms_and_when_clocks_jump(
    storm: list[tuple[bool, int]],
) -> None:
    state, now = live(POLICY), NOW
    for better, hours in storm:
        now += timedelta(hours=hours)
        before = step(state, Ticked(), now)[0]
        state, effects = step(state, seen("criterion_missed"), now)
        if any(isinstance(each, BeginRound) for each in effects):
            assert sum(at > now - DAY for at in before.retrained) < POLICY.per_day
            assert sum(at > now - 7 * DAY for at in before.retrained) < POLICY.per_week
            assert before.rest_until is None or now >= before.rest_until
            outcome = "live" if better else "kept champion"
            ended = Ended(number=state.round, outcome=outcome, version="v", minutes=20)
            state = after(state, Trained(number=state.round), ended, at=now)


def test_6_a_clock_that_was_ahead_by_a_year_stops_the_loop_for_no_year() -> None:
    state = after(live(), seen(), Ended(number=2, outcome="kept champion"), at=NOW + 365 * DAY)

    early = after(state, seen(), at=NOW + timedelta(hours=1))
    later = after(early, seen(), at=NOW + timedelta(hours=30))

    assert early.state == "cooldown"
    assert later.state == "retraining"


def test_8_no_row_of_a_quarantined_time_is_learnt_from() -> None:
    waits = live(Policy(bad_data="wait"))
    # faulty rows came for six hours before somebody looked
    began = NOW + DAY - timedelta(hours=6)
    fault = msgspec.structs.replace(seen("data_quality").seen, since=began)
    state = after(waits, Looked(seen=fault), at=NOW + DAY)
    state = after(state, seen("ok"), at=NOW + 3 * DAY)
    state, effects = step(state, seen(), NOW + 4 * DAY)

    (effect,) = effects
    assert isinstance(effect, BeginRound)
    assert [(each.since, each.until) for each in effect.without] == [(began, NOW + 3 * DAY)]
    assert quarantined(state, NOW + 4 * DAY) == effect.without


@given(
    st.tuples(*[st.floats(-1, 1) for _ in range(4)]),
    st.sampled_from(["superiority", "non_inferiority"]),
    st.integers(1, 50),
    st.sampled_from([True, False, None]),
)
@settings(max_examples=100, deadline=None)
def test_9_every_decision_can_be_made_again_from_the_evidence_on_record(
    numbers: tuple[float, ...], kind: Any, trial: int, not_worse: bool | None
) -> None:
    gain, width, recent, golden = numbers
    coast = SegmentComparison(
        name="coast",
        n_rows=90,
        champion=1.0,
        challenger=1.0 - gain,
        gain=gain,
        lower=gain - abs(width),
        margin=0.05,
        not_worse=not_worse,
    )
    evidence = Evidence(
        rule=Rule(kind=kind, trial=trial),
        metric="mae",
        newest=_beside(gain, abs(width)),
        recent=_beside(recent, abs(width)),
        segments=(coast,),
        golden=_beside(golden, 0),
    )

    record = json.loads(json.dumps(to_record(evidence)))

    assert recomputed(record) == passage(evidence)
    assert record["passes"] is passage(evidence).passes


def _beside(gain: float, width: float) -> Beside:
    return Beside(n_rows=90, champion=1.0, challenger=1.0 - gain, gain=gain, lower=gain - width)


@given(HISTORIES)
@settings(max_examples=60, deadline=None)
def test_10_replaying_the_events_gives_the_same_state(history: list[Any]) -> None:
    store = MemoryMetadataStore(FixedClock(NOW))
    first_model(store)
    now = NOW
    for event, hours in history:
        now += timedelta(hours=hours)
        tell(store, NAME, event, now=now)

    events = list(recorded_events(store, NAME))
    state = begin(NAME, events[0].now)
    for each in events:
        before = state.state
        state, effects = step(state, each.event, each.now)
        assert (before, state.state, effects) == (each.before, each.after, each.effects)

    assert state == find_state(store, NAME)


@given(HISTORIES)
@settings(max_examples=150, deadline=None)
def test_11_only_a_person_leaves_held_and_frozen(history: list[Any]) -> None:
    for before, event, _now, following, effects in told(history, live()):
        if before.state in STOPPED and not isinstance(event, Resumed):
            assert following.state in STOPPED
            assert not any(isinstance(each, BeginRound) for each in effects)
        if before.state == "frozen" and not isinstance(event, Resumed):
            assert following.state == "frozen"


def test_12_what_comes_late_or_twice_changes_no_closed_decision() -> None:
    state = after(
        live(), seen(), Trained(number=2), Ended(number=2, outcome="kept champion", version="v2")
    )

    for event in (
        Ended(number=2, outcome="live", version="v2"),
        Rolled(number=2, version="v2", share=0.5),
        Trained(number=2),
        Failed(number=2, error="late"),
        seen(n=9_000),
    ):
        again, effects = step(state, event, NOW)
        assert again is state
        assert effects == ()


@given(st.lists(st.booleans(), max_size=8))
@settings(max_examples=30, deadline=None)
def test_13_whatever_fails_the_champion_keeps_serving(final: list[bool]) -> None:
    state, now = live(), NOW
    for each in final:
        now += 40 * DAY
        state = after(state, seen(), at=now)
        failed = Failed(number=state.round, error="out of memory", is_final=each)
        state = after(state, failed, failed, at=now)
        assert state.champion == "v1"
        assert state.challenger is None


def test_a_round_that_fails_for_ever_rests_longer_each_time_and_is_then_held() -> None:
    state, now, effects_of = live(), NOW, []
    rests = []
    while state.state != "held":
        state, _ = step(state, seen(), now)
        assert state.state == "retraining"
        for _ in range(2):
            state, effects = step(state, Failed(number=state.round, error="no memory"), now)
            effects_of += effects
        if state.state == "cooldown" and state.until is not None:
            rests.append(state.until - now)
            now = state.until

    assert rests == [DAY, 2 * DAY]
    assert [type(each) for each in effects_of] == [EndRound] * 3
    assert "3 rounds of its own failed in a row, the last one so: no memory" in state.reason
    resumed = after(state, Resumed(by="ann", reason="more memory"), at=now)
    assert (resumed.state, resumed.n_failed) == ("watching", 0)


def test_a_person_who_stops_a_canary_gets_all_traffic_back_to_the_champion() -> None:
    state = after(live(), seen(), Trained(number=2), Rolled(number=2, version="v2", share=0.1))

    held, effects = step(state, Held(by="ann", reason="complaints"), NOW)

    assert effects == (AbortRollout(number=2, reason="ann stopped the loop: complaints"),)
    back = after(held, Ended(number=2, outcome="rolled back"))
    assert (back.state, back.back_to, back.champion, back.share) == ("held", "cooldown", "v1", 0.0)


def test_a_fault_that_a_person_knows_of_holds_the_loop_once() -> None:
    held = after(live(), seen("data_quality"))
    resumed = after(held, Resumed(by="ann", reason="it is the new form"))

    still = after(resumed, seen("data_quality"))
    over = after(still, seen("ok"))

    assert (held.state, still.state, over.state) == ("held", "triage", "watching")
    assert still.waits_for == "sound_data"
    assert after(over, seen("data_quality")).state == "held"


def test_drift_that_comes_and_goes_keeps_to_the_budget_and_rests_longer_and_longer() -> None:
    state, now, starts = live(), NOW, []
    for _hour in range(24 * 60):
        now += timedelta(hours=1)
        state, effects = step(state, seen(), now)
        if effects:
            starts.append(now)
            ended = Ended(number=state.round, outcome="live", version=f"v{state.round}")
            state = after(state, Trained(number=state.round), ended, at=now)

    assert max(sum(a <= b < a + 7 * DAY for b in starts) for a in starts) <= 6
    # rests of 1, 2, 4, 8 and 16 days: six rounds in sixty days, not sixty
    assert len(starts) <= 7


def test_a_storm_of_the_same_alarm_is_recorded_once() -> None:
    store = MemoryMetadataStore(FixedClock(NOW))
    first_model(store)
    few = seen(n=100)
    n_before = len(list(recorded_events(store, NAME)))

    for minute in range(200):
        tell(store, NAME, few, now=NOW + timedelta(minutes=minute))

    assert len(list(recorded_events(store, NAME))) == n_before + 1


def test_a_home_from_before_the_machine_opens_and_goes_on() -> None:
    store = MemoryMetadataStore(FixedClock(NOW))
    ended = (NOW - timedelta(hours=2)).isoformat()
    old = {"number": 2, "state": "live", "cause": "drift", "started_at": ended, "ended_at": ended}
    store.put("round", f"{NAME}/000002", old)
    store.put("champion", NAME, {"round": 2, "version": "v2", "since": ended, "before": None})

    resting = tell(store, NAME, Configured(policy=Policy()), now=NOW)
    early = tell(store, NAME, seen(), now=NOW)
    later = tell(store, NAME, seen(), now=NOW + DAY)

    assert (resting.state, resting.champion, resting.round) == ("watching", "v2", 2)
    assert (early.state, early.waits_for) == ("triage", "cooldown")
    assert (later.state, later.round) == ("retraining", 3)
    assert next(iter(recorded_events(store, NAME))).event.state.round == 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("state", "wanted"),
    [("open", "retraining"), ("waiting for approval", "waiting"), ("rolling out", "canary")],
)
def test_a_round_that_was_open_before_the_machine_stays_open(state: str, wanted: str) -> None:
    store = MemoryMetadataStore(FixedClock(NOW))
    store.put(
        "round",
        f"{NAME}/000001",
        {"number": 1, "state": state, "cause": "first run", "waiting": {"version": "v1"}},
    )

    assert tell(store, NAME, Ticked(), now=NOW).state == wanted


def test_an_effect_that_was_interrupted_is_carried_out_again() -> None:
    store = MemoryMetadataStore(FixedClock(NOW))
    first_model(store)
    tell(store, NAME, seen(), now=NOW)
    done: list[int] = []

    def broken(_effect: Any) -> None:
        done.append(1)
        raise OSError

    with pytest.raises(OSError):
        carried_out(store, NAME, broken)

    assert carried_out(store, NAME, lambda _effect: done.append(2)) == 1
    assert carried_out(store, NAME, lambda _effect: done.append(3)) == 0
    assert done == [1, 2]


def test_random_histories_keep_the_record_small() -> None:
    rng, state, now = random.Random(7), live(), NOW
    for _ in range(3_000):
        now += timedelta(hours=rng.randint(1, 40))
        verdict = rng.choice(["drift", "ok", "data_quality"])
        state = after(state, seen(verdict), Resumed(by="ann", reason="on"), at=now)
        ended = Ended(
            number=state.round, outcome=rng.choice(["live", "kept champion"]), version="v"
        )
        state = after(state, ended, at=now)

    assert len(msgspec.json.encode(state)) < 64_000
