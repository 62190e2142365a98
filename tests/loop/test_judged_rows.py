from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from loopwright.core.clock import FixedClock
from loopwright.core.errors import WrongStateError
from loopwright.loop.candidate import Candidate
from loopwright.loop.judged_rows import (
    Look,
    candidate_digest,
    check_look,
    looks_at,
    n_decisions,
    noted_look,
    told_looks,
)
from loopwright.loop.workspace import Workspace
from loopwright.store import MemoryMetadataStore

ROWS, OTHER_ROWS = "sha256:aa", "sha256:bb"
FIRST = Look(
    loop="churn", round=1, decision="d1", candidate="m1", at="2026-05-02T09:00:00", by="ann"
)
CANDIDATE = Candidate(
    algorithm="lightgbm",
    window="all",
    attempt=1,
    members={"predictor.npz": "sha256:p", "training.json": "sha256:t"},
    best_iteration=None,
    fit_s=1.0,
    score=0.8,
    meets=True,
    missed=(),
    figures={},
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    clock = FixedClock(datetime(2026, 5, 2, tzinfo=UTC))
    return Workspace(
        home=tmp_path,
        metadata=MemoryMetadataStore(clock),
        artifacts=None,  # type: ignore[arg-type]
        compute=None,  # type: ignore[arg-type]
        clock=clock,
        user="ann",
    )


def test_a_look_that_was_interrupted_is_the_same_look(workspace: Workspace) -> None:
    noted_look(workspace, ROWS, FIRST)

    after_kill = noted_look(workspace, ROWS, replace(FIRST, at="2026-05-02T10:00:00"))

    assert after_kill == [FIRST]
    assert told_looks(after_kill) == ""


def test_another_candidate_in_the_same_decision_is_refused_without_a_reason(
    workspace: Workspace,
) -> None:
    noted_look(workspace, ROWS, FIRST)
    second = replace(FIRST, candidate="m2", at="2026-05-03T09:00:00")

    with pytest.raises(WrongStateError, match=r"to judge another candidate.*--again"):
        noted_look(workspace, ROWS, second)
    assert looks_at(workspace.metadata, ROWS) == [FIRST]
    looks = noted_look(workspace, ROWS, replace(second, reason="the first was trained on a leak"))

    assert looks == looks_at(workspace.metadata, ROWS)
    assert told_looks(looks) == (
        "They were read again on 2026-05-03 by ann: the first was trained on a leak."
    )


def test_a_later_decision_on_the_same_rows_is_counted_and_shown(workspace: Workspace) -> None:
    noted_look(workspace, ROWS, FIRST)
    noted_look(workspace, ROWS, replace(FIRST, round=2, decision="d2", candidate="m2"))

    # another loop that asks something else, and one that asks the same of the same model
    noted_look(workspace, ROWS, replace(FIRST, loop="copy", decision="d3"))
    looks = noted_look(workspace, ROWS, replace(FIRST, loop="same", at="2026-05-04T09:00:00"))

    assert n_decisions(looks) == 3
    assert told_looks(looks).startswith("These test rows were used for 3 decisions")
    assert looks_at(workspace.metadata, OTHER_ROWS) == []


def test_rows_that_may_judge_once_need_a_reason_for_a_later_decision(workspace: Workspace) -> None:
    looks = noted_look(workspace, ROWS, FIRST, once=True)
    later = replace(FIRST, round=2, decision="d2", at="2026-05-03T09:00:00")

    with pytest.raises(WrongStateError, match=r"judged 1 decision\(s\) already.*'once'"):
        noted_look(workspace, ROWS, later, once=True)
    with pytest.raises(WrongStateError, match="'once'"):
        check_look(looks, loop="churn", decision="d2", candidate=None, once=True, reason="")
    found = noted_look(workspace, ROWS, replace(later, reason="no new rows this year"), once=True)

    assert "no new rows this year" in told_looks(found)


def test_before_there_is_a_candidate_only_other_decisions_count(workspace: Workspace) -> None:
    looks = noted_look(workspace, ROWS, FIRST)

    check_look(looks, loop="churn", decision="d1", candidate=None, once=True, reason="")
    check_look(looks, loop="churn", decision="d2", candidate=None, once=False, reason="")


def test_a_reason_given_for_a_first_look_is_not_kept(workspace: Workspace) -> None:
    looks = noted_look(workspace, ROWS, replace(FIRST, reason="just in case"))

    assert looks == [FIRST]


def test_the_same_model_at_another_threshold_is_another_candidate() -> None:
    slower = replace(CANDIDATE, members={**CANDIDATE.members, "training.json": "sha256:u"})

    assert candidate_digest(slower) == candidate_digest(CANDIDATE)
    assert candidate_digest(replace(CANDIDATE, threshold=0.3)) != candidate_digest(CANDIDATE)
    assert candidate_digest(
        replace(CANDIDATE, members={"predictor.npz": "sha256:q"})
    ) != candidate_digest(CANDIDATE)
