"""What the feedback loop is told beside a look: rows of faulty times are none to learn from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loopwright.core.clock import FixedClock
from loopwright.core.errors import WrongStateError
from loopwright.deploy import CapturedPrediction, add_labels
from loopwright.deploy.capture import CaptureLog, utc_text
from loopwright.loop.driving import wish, with_sound_rows
from loopwright.loop.feedback import begin
from loopwright.loop.feedback_state import LoopState, Period
from loopwright.loop.file import parse_loop_file
from loopwright.loop.sourcing import Target
from loopwright.loop.trigger import Seen
from loopwright.loop.workspace import Workspace
from loopwright.store import MemoryMetadataStore

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TARGET = Target(column="price", task="regression", reason="", n_null=0)
LOOP = parse_loop_file(
    b"name: houses\nproblem: {target: price, criteria: [{metric: mae, at_most: 9}]}\n"
    b"data: {source: {kind: file, path: a.csv}}\ndeploy: {endpoint: houses}\n"
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a home whose endpoint answered 300 labelled rows nine hours ago and 100 one hour ago."""
    clock = FixedClock(NOW)
    found = Workspace(
        home=tmp_path,
        metadata=MemoryMetadataStore(clock),
        artifacts=None,  # type: ignore[arg-type]
        compute=None,  # type: ignore[arg-type]
        clock=clock,
        user="ann",
    )
    folder = found.endpoint_folder("houses")
    log = CaptureLog(folder / "capture")
    ids = [(f"a{k}", NOW - 9 * HOUR) for k in range(300)] + [
        (f"b{k}", NOW - HOUR) for k in range(100)
    ]
    log.write(
        log.encoded(
            [
                CapturedPrediction(
                    inference_id=id_, at=utc_text(at), version="1", inputs={}, prediction=1.0
                )
                for id_, at in ids
            ]
        )
    )
    log.close()
    pairs = [(id_, 1.0) for id_, _ in ids]
    add_labels(folder, pairs, task="regression", at=NOW, source="app")
    return found


def seen() -> Seen:
    known: dict[str, Any] = {"verdict": "ok", "reason": "", "n_labelled": 400}
    return Seen(**known)


def state(*faulty: Period) -> LoopState:
    first = begin("houses", NOW - 20 * HOUR)
    return msgspec.structs.replace(first, state="watching", faulty=faulty)


FAULTY = Period(since=NOW - 10 * HOUR, until=NOW - 8 * HOUR, reason="x is missing")


def test_rows_of_a_faulty_time_are_not_counted_towards_a_round(workspace: Workspace) -> None:
    found = [
        with_sound_rows(workspace, LOOP, TARGET, champion, each, seen()).n_labelled
        for champion, each in (
            ({}, state()),
            ({}, state(FAULTY)),
            ({"learnt_until": (NOW - HOUR / 2).isoformat()}, state(FAULTY)),
        )
    ]

    assert found == [400, 100, 0]


def test_a_person_is_told_that_sound_rows_are_missing_and_no_round_begins(
    workspace: Workspace,
) -> None:
    before = state(FAULTY)
    heard = with_sound_rows(workspace, LOOP, TARGET, {}, before, seen())

    with pytest.raises(WrongStateError, match="100 new labelled live rows have come") as error:
        wish(workspace, LOOP, before, heard, "new price list")

    assert "faulty do not count" in error.value.hint
