"""Labels that look poisoned: held with evidence, never learnt from, decided by a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from loopwright.core.clock import FixedClock
from loopwright.core.errors import InvalidInputError, NotFoundError, WrongStateError
from loopwright.deploy import CapturedPrediction, Cursor, add_labels
from loopwright.deploy.capture import CaptureLog, utc_text
from loopwright.loop import gathering
from loopwright.loop.feedback_state import Period
from loopwright.loop.file import parse_loop_file
from loopwright.loop.gathering import VERIFY_PREFIX, gathered, ledger_about
from loopwright.loop.label_review import (
    Review,
    decide_labels,
    hold_as_decided,
    keep_review,
    list_suspects,
    review_labels,
    was_decided,
)
from loopwright.loop.live import outside
from loopwright.loop.sourcing import Sourced, Target
from loopwright.loop.workspace import Workspace
from loopwright.monitor import GroundTruth, Ledger, Reference, build_reference
from loopwright.store import MemoryMetadataStore

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
TARGET = Target(column="price", task="regression", reason="", n_null=0)
LOOP = parse_loop_file(
    b"name: houses\nproblem: {target: price, criteria: [{metric: mae, at_most: 9}]}\n"
    b"data: {source: {kind: file, path: a.csv}}\ndeploy: {endpoint: houses}\n"
)


@pytest.fixture(scope="module")
def reference() -> Reference:
    rng = np.random.default_rng(0)
    rows = pl.DataFrame({"x": rng.normal(size=1_000)})
    errors = np.abs(rng.normal(size=1_000))
    return build_reference(rows, rng.normal(100, 10, size=1_000), errors, {"x": "number"})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    clock = FixedClock(NOW)
    metadata = MemoryMetadataStore(clock)
    sourced = Sourced(source_digest="", fingerprint=None, snapshot={}, target=TARGET, at=NOW)
    metadata.put("source", "houses", msgspec.to_builtins(sourced))
    return Workspace(
        home=tmp_path,
        metadata=metadata,
        artifacts=None,  # type: ignore[arg-type]
        compute=None,  # type: ignore[arg-type]
        clock=clock,
        user="ann",
    )


def answered(workspace: Workspace, n: int, *, prefix: str = "") -> dict[str, float]:
    """Capture predictions and return the answer of each."""
    rng = np.random.default_rng(len(prefix))
    answers = {f"{prefix}{k}": float(value) for k, value in enumerate(rng.normal(100, 10, n))}
    log = CaptureLog(workspace.endpoint_folder("houses") / "capture")
    at = utc_text(NOW - timedelta(hours=9))
    lines = [
        CapturedPrediction(
            inference_id=key, at=at, version="1", inputs={"x": 0.1}, prediction=value
        )
        for key, value in answers.items()
    ]
    log.write(log.encoded(lines))
    log.close()
    return answers


def labelled(
    workspace: Workspace, labels: dict[str, float], *, hours_ago: float, source: str = "app"
) -> None:
    add_labels(
        workspace.endpoint_folder("houses"),
        labels.items(),
        task="regression",
        at=NOW - timedelta(hours=hours_ago),
        source=source,
    )


def looked(workspace: Workspace, reference: Reference, above: int = 0) -> tuple[Ledger, Review]:
    ledger = gathered(workspace.endpoint_folder("houses"), ledger_about(LOOP, TARGET))
    hold_as_decided(workspace, "houses", ledger)
    review = review_labels(
        workspace, LOOP, TARGET, ledger, reference, above=above, threshold=0.5, inputs_moved=False
    )
    keep_review(workspace, "houses", review)
    return ledger, review


@pytest.fixture
def poisoned(workspace: Workspace, reference: Reference) -> tuple[Workspace, Ledger, Review]:
    """A workspace with 400 sound labels of two sources and 150 that are ten times too high."""
    noise = np.random.default_rng(5).normal(size=600)
    answers = answered(workspace, 600)
    truth = {k: v + e for (k, v), e in zip(answers.items(), noise, strict=True)}
    keys = list(truth)
    labelled(workspace, {k: truth[k] for k in keys[:300]}, hours_ago=5)
    ledger, first = looked(workspace, reference)
    assert first.found == ()
    labelled(workspace, {k: truth[k] for k in keys[300:400]}, hours_ago=2, source="import")
    labelled(workspace, {k: 10 * truth[k] for k in keys[400:550]}, hours_ago=1)
    ledger, review = looked(workspace, reference, above=ledger.number)
    return workspace, ledger, review


def test_a_poisoned_batch_is_held_told_and_out_of_figures_and_learning(
    poisoned: tuple[Workspace, Ledger, Review],
) -> None:
    workspace, ledger, review = poisoned

    ((found),) = review.found

    assert found.batch.source == "app"
    assert "labels" in found.kinds
    assert "another range or mix" in found.told
    assert ledger.counts.n_held == 150
    rows = ledger.labelled(columns=("inference_id", "label"))
    assert not set(rows["inference_id"]) & {str(k) for k in range(400, 550)}
    events = workspace.metadata.list_events("loop/houses")
    assert [event.kind for event in events] == ["labels held"]


def test_rejected_labels_never_count_and_need_a_reason(
    poisoned: tuple[Workspace, Ledger, Review], reference: Reference
) -> None:
    workspace, ledger, review = poisoned
    id_ = review.found[0].id
    with pytest.raises(InvalidInputError, match="with a reason"):
        decide_labels(workspace, LOOP, id_, accept=False)

    decided = decide_labels(workspace, LOOP, id_[:4], accept=False, reason="wrong unit")

    again, _ = looked(workspace, reference, above=ledger.number)
    assert (decided.state, decided.decided_by) == ("rejected", "ann")
    assert again.counts.n_held == 150
    with pytest.raises(WrongStateError, match="rejected already, by ann"):
        decide_labels(workspace, LOOP, id_, accept=False, reason="again")


def test_accepted_labels_count_from_then_on_and_are_not_held_again(
    poisoned: tuple[Workspace, Ledger, Review], reference: Reference
) -> None:
    workspace, ledger, review = poisoned
    read_until = ledger.number

    decide_labels(workspace, LOOP, review.found[0].id, accept=True)
    again, later = looked(workspace, reference, above=read_until)

    assert later.found == ()
    assert again.counts.n_held == 0
    assert again.newly_labelled(above=read_until).height == 150
    assert [each.state for each in list_suspects(workspace, "houses")] == ["accepted"]


def test_what_is_on_record_is_held_although_the_process_died_before(
    poisoned: tuple[Workspace, Ledger, Review],
) -> None:
    workspace, ledger, review = poisoned
    ledger.release(review.found[0].id)  # as if the ledger had not been told

    hold_as_decided(workspace, "houses", ledger)

    assert ledger.counts.n_held == 150


def test_an_unknown_id_is_told(poisoned: tuple[Workspace, Ledger, Review]) -> None:
    workspace, _, _ = poisoned

    with pytest.raises(NotFoundError, match="No held batches"):
        decide_labels(workspace, LOOP, "zzz", accept=True)


def test_gathering_takes_each_line_once_and_leaves_verifications_out(workspace: Workspace) -> None:
    folder, about = workspace.endpoint_folder("houses"), ledger_about(LOOP, TARGET)
    answered(workspace, 3)
    first = gathered(folder, about)
    answered(workspace, 2, prefix=VERIFY_PREFIX)
    labelled(workspace, {"1": 5.0}, hours_ago=1)

    second = gathered(folder, about)
    third = gathered(folder, about)

    assert (first.counts.n_predictions, second.counts.n_predictions) == (3, 3)
    assert (second.counts.n_labelled, third.number) == (1, second.number)


def test_an_endpoint_that_answers_faster_than_it_is_read_does_not_hold_up_the_look(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, about = workspace.endpoint_folder("houses"), ledger_about(LOOP, TARGET)
    answered(workspace, 5)
    read = gathering.read_capture_lines
    n_reads = 0

    def busy(*args: Any, **kwargs: Any) -> Any:
        nonlocal n_reads
        n_reads += 1
        answered(workspace, 2, prefix=f"meanwhile{n_reads}-")
        return read(*args, **kwargs)

    monkeypatch.setattr(gathering, "read_capture_lines", busy)
    monkeypatch.setattr(gathering, "_CAPTURE_BYTES", 10)

    ledger = gathered(folder, about)

    assert ledger.counts.n_predictions == 5
    assert n_reads <= 10
    monkeypatch.undo()
    assert gathered(folder, about).counts.n_predictions == 5 + 2 * n_reads


def test_a_ledger_made_anew_knows_what_was_read_before(workspace: Workspace) -> None:
    folder, about = workspace.endpoint_folder("houses"), ledger_about(LOOP, TARGET)
    answered(workspace, 3)
    labelled(workspace, {"1": 5.0}, hours_ago=2)
    cursors = gathered(folder, about).cursors
    read = tuple(Cursor.from_json(cursors[log]) for log in ("capture", "labels"))
    answered(workspace, 2, prefix="new")
    labelled(workspace, {"2": 5.0}, hours_ago=1)

    anew = gathered(
        folder,
        msgspec.structs.replace(about, grace_s=60.0),
        epoch="another",
        read_until=(read[0], read[1]),
    )

    fresh = pl.concat(anew.predictions(above=anew.settled))
    assert sorted(fresh["inference_id"]) == ["new0", "new1"]
    assert anew.newly_labelled(above=anew.settled)["inference_id"].to_list() == ["2"]


def test_rows_of_a_faulty_time_are_left_out() -> None:
    rows = pl.DataFrame({"at": [NOW + timedelta(hours=k) for k in range(4)]})
    fault = Period(since=NOW + timedelta(hours=1), until=NOW + timedelta(hours=2))

    assert outside(rows, [fault])["at"].to_list() == [NOW, NOW + timedelta(hours=3)]


def test_a_report_that_asks_about_held_labels_is_made_anew_once_they_are_decided(
    poisoned: tuple[Workspace, Ledger, Review],
) -> None:
    workspace, ledger, review = poisoned
    id_ = review.found[0].id
    asked = GroundTruth(counts=ledger.counts, held=(f"labels {id_} look wrong",))

    before = was_decided(workspace, "houses", asked)
    decide_labels(workspace, LOOP, id_, accept=False, reason="wrong unit")

    assert (before, was_decided(workspace, "houses", asked)) == (False, True)
    assert not was_decided(workspace, "houses", GroundTruth(counts=ledger.counts))
