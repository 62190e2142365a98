"""Labels that counted and are taken back: which, on whose word, and which models learnt them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from loopwright.core.clock import FixedClock
from loopwright.core.errors import InvalidInputError, NotFoundError, WrongStateError
from loopwright.deploy import CapturedPrediction, add_labels
from loopwright.deploy.capture import CaptureLog, utc_text
from loopwright.loop.file import parse_loop_file
from loopwright.loop.gathering import gathered, ledger_about
from loopwright.loop.label_recall import (
    Recall,
    label_sources,
    recall_of,
    recalled,
    take_back_labels,
)
from loopwright.loop.label_review import decide_labels, hold_as_decided, is_asked_anew
from loopwright.loop.sourcing import Sourced, Target
from loopwright.loop.step import round_key
from loopwright.loop.upkeep import keep_upkeep
from loopwright.loop.workspace import Workspace
from loopwright.monitor import Ledger
from loopwright.store import MemoryMetadataStore

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
TARGET = Target(column="price", task="regression", reason="", n_null=0)
LOOP = parse_loop_file(
    b"name: houses\nproblem: {target: price, criteria: [{metric: mae, at_most: 9}]}\n"
    b"data: {source: {kind: file, path: a.csv}}\ndeploy: {endpoint: houses}\n"
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A home in which ten houses were answered, and labelled by an app, then by an import."""
    clock = FixedClock(NOW)
    metadata = MemoryMetadataStore(clock)
    sourced = Sourced(source_digest="", fingerprint=None, snapshot={}, target=TARGET, at=NOW)
    metadata.put("source", "houses", msgspec.to_builtins(sourced))
    made = Workspace(
        home=tmp_path,
        metadata=metadata,
        artifacts=None,  # type: ignore[arg-type] # nothing here reads artifacts
        compute=None,  # type: ignore[arg-type] # or runs anything
        clock=clock,
        user="ann",
    )
    log = CaptureLog(made.endpoint_folder("houses") / "capture")
    lines = [
        CapturedPrediction(
            inference_id=str(k), at=utc_text(ago(9)), version="1", inputs={}, prediction=100.0
        )
        for k in range(10)
    ]
    log.write(log.encoded(lines))
    log.close()
    label(made, range(4), 101.0, hours_ago=5, source="app")
    label(made, range(4, 7), 900.0, hours_ago=3, source="import")
    return made


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def label(workspace: Workspace, ids: range, value: float, *, hours_ago: float, source: str) -> None:
    add_labels(
        workspace.endpoint_folder("houses"),
        [(str(k), value) for k in ids],
        task="regression",
        at=ago(hours_ago),
        source=source,
    )


def ledger_of(workspace: Workspace) -> Ledger:
    return gathered(workspace.endpoint_folder("houses"), ledger_about(LOOP, TARGET))


def counting(workspace: Workspace) -> list[str]:
    return sorted(ledger_of(workspace).labelled(columns=("inference_id",))["inference_id"])


def round_of(
    workspace: Workspace, number: int, *, state: str = "live", version: str = "", **live: Any
) -> None:
    """Put a round on record that learnt from the live rows of `live`, and packed a version."""
    body = {"loop": "houses", "number": number, "state": state, "live": live or None}
    workspace.metadata.put(
        "round", round_key("houses", number), {**body, "started_at": NOW.isoformat()}
    )
    step = {"loop": "houses", "round": number, "stage": "pack", "state": "done"}
    step["output"] = {"version": version or f"v{number}"}
    workspace.metadata.put("step", f"{round_key('houses', number)}/pack", step)


def taken_back(workspace: Workspace, **which: Any) -> Recall:
    recall = recalled(workspace, LOOP, reason="two columns mixed up", **which)
    take_back_labels(workspace, LOOP, recall)
    return recall


def test_sources_show_whose_labels_count_and_stand_out(workspace: Workspace) -> None:
    app, imported = label_sources(workspace, LOOP)

    assert (app.source, app.n_labels, app.mean_loss) == ("app", 4, 1.0)
    assert (imported.source, imported.n_labels, imported.mean_loss) == ("import", 3, 800.0)
    assert (imported.from_at, imported.to_at) == (ago(3), ago(3))


def test_labels_of_a_source_are_taken_back_on_record_and_can_count_again(
    workspace: Workspace,
) -> None:
    recall = taken_back(workspace, source="import")

    assert counting(workspace) == ["0", "1", "2", "3"]
    assert is_asked_anew(workspace, "houses")
    (event,) = workspace.metadata.list_events("loop/houses")
    assert (event.kind, event.body["n_labels"], event.body["by"]) == ("labels taken back", 3, "ann")
    with pytest.raises(NotFoundError, match="No label from 'import' counts"):
        taken_back(workspace, source="import")
    decide_labels(workspace, LOOP, recall.labels.id, accept=True)
    assert counting(workspace) == ["0", "1", "2", "3", "4", "5", "6"]


def test_a_time_takes_back_what_became_known_in_it_whoever_said_it(workspace: Workspace) -> None:
    label(workspace, range(7, 8), 99.0, hours_ago=1, source="app")

    taken_back(workspace, since=ago(5), until=ago(2))

    assert counting(workspace) == ["7"]


def test_the_right_label_counts_when_it_comes_later_or_came_before(workspace: Workspace) -> None:
    label(workspace, range(4), 900.0, hours_ago=2, source="import")
    taken_back(workspace, source="import")

    label(workspace, range(4, 6), 102.0, hours_ago=3, source="import")

    labels = ledger_of(workspace).labelled(columns=("inference_id", "label")).sort("inference_id")
    assert labels["label"].to_list() == [101.0, 101.0, 101.0, 101.0, 102.0, 102.0]


def test_a_trial_changes_nothing(workspace: Workspace) -> None:
    recall = recalled(workspace, LOOP, source="import", reason="why")

    assert recall.labels.n_rows == 3
    assert len(counting(workspace)) == 7
    assert not is_asked_anew(workspace, "houses")


def test_models_that_had_the_labels_among_their_rows_are_named(workspace: Workspace) -> None:
    ledger = ledger_of(workspace)
    before = [ledger.epoch, ledger.number - 1]
    now = [ledger.epoch, ledger.number]
    until = ago(9).isoformat()
    round_of(workspace, 1)
    round_of(workspace, 2, until=until, ledger=before)
    round_of(workspace, 3, until=ago(10).isoformat(), ledger=now)
    round_of(workspace, 4, until=until, ledger=now)
    round_of(workspace, 5, until=until)  # by a release that did not note the ledger
    round_of(workspace, 6, state="waiting for approval", until=until, ledger=now)
    workspace.metadata.put("champion", "houses", {"version": "v4"})

    recall = taken_back(workspace, source="import")

    # all labels were taken in at once, so the round before knew none of them
    told = [(each.version, each.n_labels, each.is_live) for each in recall.models]
    assert told == [("v6", 3, False), ("v5", 3, False), ("v4", 3, True)]
    assert "loopwright reject houses" in recall.advice[0]
    assert "loopwright retrain FILE" in recall.advice[1]
    assert recall.labels.taught == ("v6", "v5", "v4")


def test_an_accepted_batch_that_is_rejected_after_all_is_learnt_from_no_more(
    workspace: Workspace,
) -> None:
    recall = taken_back(workspace, source="import")
    workspace.metadata.delete("labels_anew", "houses")
    decide_labels(workspace, LOOP, recall.labels.id, accept=True)
    assert not is_asked_anew(workspace, "houses")
    ledger = ledger_of(workspace)
    round_of(workspace, 2, until=ago(9).isoformat(), ledger=[ledger.epoch, ledger.number])

    taught = recall_of(workspace, LOOP, recall.labels).labels.taught
    decide_labels(
        workspace, LOOP, recall.labels.id, accept=False, reason="wrong after all", taught=taught
    )

    assert taught == ("v2",)
    assert len(counting(workspace)) == 4
    assert is_asked_anew(workspace, "houses")


def test_a_process_that_died_before_the_ledger_knew_changes_nothing_in_the_end(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    recall = recalled(workspace, LOOP, source="import", reason="why")
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "hold", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            take_back_labels(workspace, LOOP, recall)
    assert len(counting(workspace)) == 7

    hold_as_decided(workspace, "houses", ledger_of(workspace))

    assert len(counting(workspace)) == 4
    with pytest.raises(WrongStateError, match="taken back already"):
        take_back_labels(workspace, LOOP, recall)


@pytest.mark.parametrize(
    ("which", "told"),
    [
        ({}, "is not said"),
        ({"source": "import", "since": ago(1), "until": ago(2)}, "before it begins"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    workspace: Workspace, which: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidInputError, match=told):
        recalled(workspace, LOOP, reason="why", **which)


def test_labels_are_not_taken_back_without_a_reason_or_from_an_unknown_source(
    workspace: Workspace,
) -> None:
    with pytest.raises(InvalidInputError, match="with a reason"):
        recalled(workspace, LOOP, source="import", reason=" ")
    with pytest.raises(NotFoundError) as error:
        recalled(workspace, LOOP, source="imports", reason="why")
    assert "import" in str(error.value)
    assert len(ledger_of(workspace).labelled(columns=("label",)).filter(pl.col("label") > 0)) == 7


def test_a_champion_that_learnt_them_is_an_alarm_until_another_takes_its_place(
    workspace: Workspace,
) -> None:
    ledger = ledger_of(workspace)
    round_of(workspace, 2, until=ago(9).isoformat(), ledger=[ledger.epoch, ledger.number])
    metadata = workspace.metadata
    metadata.put("loop", "houses", {"file": "loop.yaml", "question": "", "endpoint": None})
    metadata.put("champion", "houses", champion("v2"))
    taken_back(workspace, source="import")

    keep_upkeep(workspace, LOOP)
    raised = [record.body for record in metadata.list_("alarm")]
    metadata.put("champion", "houses", champion("v3"))
    keep_upkeep(workspace, LOOP)

    (alarm,) = raised
    assert "version v2, learnt from labels that were taken back" in alarm["message"]
    assert "loopwright retrain loop.yaml" in alarm["action"]
    (after,) = [record.body for record in metadata.list_("alarm")]
    assert after["closed_at"] is not None


def champion(version: str) -> dict[str, Any]:
    return {"version": version, "round": 2, "since": NOW.isoformat(), "figures": []}
