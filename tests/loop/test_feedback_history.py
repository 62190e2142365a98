from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from loopwright.core.clock import FixedClock
from loopwright.loop.feedback_history import loop_history
from loopwright.loop.feedback_state import Asked, Configured, Frozen, Held, Looked, Resumed
from loopwright.loop.feedback_store import tell
from loopwright.loop.trigger import Policy, Seen
from loopwright.store import MemoryMetadataStore

from .feedback_worker import NAME, NOW, first_model, work, workspace_over


def test_a_history_tells_what_happened_what_was_decided_and_by_what_evidence() -> None:
    store = MemoryMetadataStore(FixedClock(NOW))
    first_model(store)
    evidence = {"figures": [{"metric": "mape", "estimate": 0.3}]}
    missed = Seen(
        verdict="criterion_missed", reason="mape is 0.3.", n_labelled=900, evidence=evidence
    )
    tell(store, NAME, Looked(seen=missed), now=NOW + timedelta(hours=2))

    work(workspace_over(store, Path()))
    history = loop_history(workspace_over(store, Path()), NAME)

    looked = next(each for each in history.decisions if each.kind == "looked")
    assert (looked.before, looked.after, looked.round) == ("watching", "retraining", 2)
    assert looked.what == "the monitor looked: criterion missed"
    assert looked.decision == (
        "round 2 begins; its challenger must be no worse, and better since the harm began"
    )
    assert (looked.cause, looked.reason) == ("a criterion is missed", "mape is 0.3.")
    assert looked.evidence == {"n_labelled": 900, **evidence}
    assert [each.n for each in history.decisions] == list(range(1, len(history.decisions) + 1))
    told = [each.what for each in history.decisions[-2:]]
    assert told == ["round 2 ended: live", "version v2 on trial is worse than version v1"]
    assert history.decisions[-2].after == "promoted"
    assert history.meaning.startswith("cooldown: the last round of its own brought no new champion")
    assert json.loads(json.dumps(history.to_json()))["state"]["champion"] == "v1"


def test_every_kind_of_event_has_its_words() -> None:
    store = MemoryMetadataStore(FixedClock(NOW))
    first_model(store)
    for event in (
        Configured(policy=Policy(per_day=1)),
        Held(by="ann", reason="a holiday"),
        Frozen(by="ben", reason="an audit"),
        Resumed(by="ann", reason="it is over"),
        Asked(by="ann", reason="new prices"),
    ):
        tell(store, NAME, event, now=NOW)

    told = [
        (each.what, each.after)
        for each in loop_history(workspace_over(store, Path()), NAME).decisions
    ][-5:]

    assert told == [
        ("the loop file allows other things than before", "watching"),
        ("ann held the loop", "held"),
        ("ben froze the loop", "frozen"),
        ("ann resumed the loop", "watching"),
        ("ann asked for a new round", "retraining"),
    ]


def test_a_loop_that_has_not_run_has_an_empty_history() -> None:
    store = MemoryMetadataStore(FixedClock(NOW))

    history = loop_history(workspace_over(store, Path()), NAME)

    assert (history.state.state, history.decisions) == ("new", ())
