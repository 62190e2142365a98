"""The look explains and estimates, with a real model behind it: what moved, how much, how good it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.core.clock import FixedClock
from loopwright.core.errors import InvalidInputError
from loopwright.deploy.capture import (
    CapturedPrediction,
    CaptureLog,
    read_capture_lines,
    utc_text,
)
from loopwright.loop.estimating import _newest, estimates_of, explained_report, insight
from loopwright.loop.file import LoopFile
from loopwright.loop.live_sample import recent_captured, reference_rows_member
from loopwright.loop.sourcing import Target
from loopwright.monitor import (
    Ledger,
    LedgerAbout,
    MonitorReport,
    Reference,
    build_reference,
    start_watch,
    summary,
    watch,
)
from loopwright.monitor.estimate_check import EstimateCheck, checked_estimate, standing_after
from loopwright.monitor.insight import Insight, TrailPoint
from loopwright.monitor.plan import MonitorPlan
from loopwright.monitor.reference_rows import ROWS_MEMBER, open_reference_rows
from loopwright.monitor.report import with_insight
from loopwright.monitor.skew import input_frame
from loopwright.prepare import suggest
from loopwright.problem import Criterion, Problem
from loopwright.store.memory import MemoryMetadataStore
from loopwright.train import (
    Outcome,
    ServingModel,
    TrainingSpec,
    get_algorithm,
    model_members,
    open_bundle,
    pack_bundle,
    training_job,
)
from loopwright.train.reason import EXPLANATION_MEMBER, explanation_member
from loopwright.train.worker import do_training_job

START = datetime(2026, 3, 1, tzinfo=UTC)
INPUTS = ["area", "age", "town", "sold_at"]


CLASSES = {"binary": ("no", "yes"), "multiclass": ("high", "low", "middle")}


def labelled_houses(n: int, seed: int, task: str, **more: float) -> pl.DataFrame:
    """Houses whose price is told as a class, `said`."""
    frame = made_houses(n, seed, **more)
    price = pl.col("price")
    said = (
        pl.when(price > 2e5).then(pl.lit("yes")).otherwise(pl.lit("no"))
        if task == "binary"
        else pl.when(price < 1e5)
        .then(pl.lit("low"))
        .when(price < 3e5)
        .then(pl.lit("middle"))
        .otherwise(pl.lit("high"))
    )
    return frame.with_columns(said.alias("said")).drop("price")


def made_houses(n: int, seed: int, *, larger: float = 0.0, dearer: float = 1.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    area = rng.uniform(40, 300, n) + larger * rng.random(n)
    town = rng.choice(["Aa", "Bee", "Cod"], n, p=[0.5, 0.3, 0.2])
    # what is large is hard to price, so that larger houses are answered worse
    noise = rng.normal(size=n) * np.where(area > 200, 0.3, 0.05)
    price = 1_000 * area * np.where(town == "Aa", 2.0, 1.0) * np.exp(noise) * dearer
    day = [date(2025, 1, 1) + timedelta(days=int(d)) for d in rng.integers(0, 300, n)]
    return pl.DataFrame(
        {
            "area": area.round(1),
            "age": rng.integers(0, 90, n),
            "town": town,
            "sold_at": pl.Series(day),
            "price": price.round(0),
        }
    )


@dataclass(frozen=True)
class Case:
    """A packed model and what watches it."""

    model: ServingModel
    reference: Reference
    loop: LoopFile
    target: Target
    folder: Path

    def workspace(self, metadata: MemoryMetadataStore) -> Any:
        return SimpleNamespace(metadata=metadata, endpoint_folder=lambda _: self.folder)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("houses")
    train, validation, test = (made_houses(n, s) for n, s in ((800, 1), (200, 2), (1_200, 3)))
    members = trained(folder, train, validation, "regression", target="price")
    outcome = Outcome(task="regression")
    bare = open_bundle(pack_bundle(members, name="h", algorithm="lightgbm", outcome=outcome))
    raw, y = bare.predict_frame(test), test["price"].to_numpy()
    kinds = {field.name: field.kind for field in bare.signature.fields}
    losses = np.abs(raw - y) / y
    reference = build_reference(train.select(list(kinds)), raw, losses, kinds)
    explains = explanation_member(bare, train)
    members[EXPLANATION_MEMBER] = explains
    members["reference.json"] = json.dumps(reference.to_json()).encode()
    members |= reference_rows_member(bare, reference, train, test, raw, y, explains=explains)
    packed = pack_bundle(members, name="houses", algorithm="lightgbm", outcome=outcome)
    problem = Problem(
        question="q", target="price", criteria=(Criterion(metric="mape", at_most=0.14),)
    )
    loop: Any = SimpleNamespace(
        name="houses", problem=problem, deploy=None, train=SimpleNamespace(seed=7)
    )
    target: Any = SimpleNamespace(task="regression", classes=(), column="price")
    return Case(open_bundle(packed), reference, loop, target, folder)


Look = Callable[..., tuple[Insight | None, MonitorReport]]


@pytest.fixture
def look(case: Case) -> Look:
    return looker(case)


def looker(case: Case) -> Look:
    """Return a function that answers some rows, and looks at them."""
    metadata = MemoryMetadataStore(FixedClock(START))
    state = start_watch(case.reference, MonitorPlan(), version=case.model.version)
    held: dict[str, Any] = {"state": state, "frames": [], "labelled": []}

    def looked(
        rows: pl.DataFrame, *, labels: bool = False, spoil: float = 1.0
    ) -> tuple[Insight | None, MonitorReport]:
        n_before = sum(each.height for each in held["frames"])
        asked = rows.drop("price").with_columns(pl.col("sold_at").cast(pl.String))
        answers = case.model.predict(asked.to_dicts())
        said = [each["prediction"] * spoil for each in answers]
        at = [START + timedelta(minutes=n_before + k) for k in range(rows.height)]
        frame = pl.DataFrame(
            {
                "inference_id": [f"r{n_before + k:06d}" for k in range(rows.height)],
                "at": pl.Series(at).cast(pl.Datetime("us", "UTC")),
                "version": case.model.version,
                "prediction": said,
                "probability": pl.Series([None] * rows.height, dtype=pl.Float64),
                "inputs": asked.to_struct("inputs"),
            }
        )
        held["frames"].append(frame)
        truth = rows["price"]
        loss = np.abs(frame["prediction"].to_numpy() - truth.to_numpy()) / truth.to_numpy()
        losses = pl.DataFrame({"at": frame["at"], "loss": loss}) if labels else None
        held["state"], report = watch(
            case.reference, held["state"], frame, inputs=asked, losses=losses
        )
        if labels:
            held["labelled"].append(frame.with_columns(truth.alias("label")))
        labelled = pl.concat(held["labelled"]) if held["labelled"] else frame.clear()
        found = insight(
            case.workspace(metadata),
            case.loop,
            case.target,
            case.model,
            case.reference,
            report,
            recent=lambda: pl.concat(held["frames"]).tail(2_000),
            labelled=lambda: labelled,
            n_labelled=labelled.height,
            evidence=TrailPoint(
                at=report.to_at,
                data=held["state"].data.detector.evidence,
                error=held["state"].error.detector.evidence,
                data_threshold=held["state"].data.detector.threshold,
                error_threshold=held["state"].error.detector.threshold,
                gaps={},
            ),
        )
        return found, report

    return looked


def realised_mape(case: Case, rows: pl.DataFrame) -> float:
    said = case.model.predict_frame(rows)
    y = rows["price"].to_numpy()
    return float(np.mean(np.abs(said - y) / y))


def test_a_bundle_holds_the_rows_and_a_hostile_one_is_refused(case: Case) -> None:
    data = case.model.read_member(ROWS_MEMBER)

    rows = open_reference_rows(data, case.reference)

    assert rows.n_rows == 1_200
    assert len(rows.influence) > 50
    with pytest.raises(InvalidInputError):
        open_reference_rows(data[:-100], case.reference)


def test_rows_like_those_of_the_test_are_estimated_as_they_were(case: Case, look: Look) -> None:
    found, _ = look(made_houses(1_000, 11))

    assert found is not None
    mape = found.estimates[0]
    assert mape.value == pytest.approx(mape.reference, rel=0.15)
    assert mape.standing == "unchecked"
    assert found.attributions == {}
    assert found.skew is not None
    assert found.skew.n_different == 0
    assert found.skew.features == ()
    assert found.explanation is not None
    assert not found.explanation.has_moved


def test_larger_houses_are_estimated_to_be_answered_worse_and_the_alarm_says_why(
    case: Case, look: Look
) -> None:
    rows = made_houses(1_500, 12, larger=150.0)

    found, report = look(rows)

    assert found is not None
    assert report.alarms
    mape = found.estimates[0]
    assert mape.value is not None
    assert mape.reference is not None
    assert mape.value > 1.1 * mape.reference
    assert mape.value == pytest.approx(realised_mape(case, rows), rel=0.15)
    cause = found.attributions["data 1"]
    assert cause.columns[0].stream == "area"
    assert cause.columns[0].prediction_shift is not None
    assert cause.columns[0].prediction_shift > 10_000
    assert cause.columns[0].loss_shift is not None
    assert cause.columns[0].loss_shift > 0.005
    assert "Had area not moved" in " ".join(cause.told)


def test_another_truth_is_named_once_labels_are_there_and_the_estimate_loses_its_say(
    look: Look,
) -> None:
    look(made_houses(600, 13))
    before, _ = look(made_houses(600, 14), labels=True)

    after, report = look(made_houses(1_500, 15, dearer=1.4), labels=True)

    assert before is not None
    assert after is not None
    assert before.estimates[0].standing in ("held", "unchecked")
    assert [alarm.kind for alarm in report.alarms] == ["error"]
    split = after.attributions["error 1"].loss
    assert split is not None
    assert split.cause == "concept"
    assert after.checks[-1].verdict == "wrong"
    assert after.estimates[0].standing == "wrong"
    assert not after.estimates[0].is_missed


def test_what_was_answered_otherwise_than_in_a_table_is_found(look: Look) -> None:
    found, _ = look(made_houses(300, 16), spoil=1.0 + 1e-6)

    assert found is not None
    assert found.skew is not None
    assert found.skew.n_different == found.skew.n_replayed == 200
    assert "another answer" in found.skew.message


def test_rows_answered_worst_are_named_when_labels_are_there(look: Look) -> None:
    found, _ = look(made_houses(1_500, 17), labels=True)

    assert found is not None
    assert "area" in found.slices[0].condition
    assert found.slices[0].loss > 1.5 * found.slices[0].elsewhere


def test_a_part_that_fails_is_told_and_the_look_goes_on(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise InvalidInputError("These rows cannot be explained.", hint="None.")

    monkeypatch.setattr("loopwright.loop.estimating.influence_sizes", fail)

    found, report = look(made_houses(500, 21))

    assert found is not None
    assert found.explanation is None
    assert found.problems == ("explanation drift: These rows cannot be explained.",)
    assert found.estimates[0].value is not None
    told = summary(with_insight(report, found))
    assert "Could not be found out: explanation drift: These rows cannot be explained." in told


def test_an_estimate_that_is_surely_missed_becomes_the_verdict(case: Case, look: Look) -> None:
    strict = Criterion(metric="mape", at_most=0.08)
    problem = Problem(question="q", target="price", criteria=(strict,))
    loop: Any = SimpleNamespace(**{**vars(case.loop), "problem": problem})

    found, report = looker(replace(case, loop=loop))(made_houses(800, 22))

    assert found is not None
    told = with_insight(report, found)
    assert report.verdict == "ok"
    assert told.verdict == "estimated_miss"
    assert "assumes that only the inputs moved" in told.reason
    assert MonitorReport.from_json(told.to_json()) == told


def test_a_look_with_hardly_anything_new_keeps_what_it_knew(look: Look) -> None:
    one, _ = look(made_houses(1_000, 18))
    other, _ = look(made_houses(20, 19))

    assert one is not None
    assert other is not None
    assert other.estimates == one.estimates
    assert len(other.trail) == 2


def test_the_same_looks_give_the_same_insight(case: Case, look: Look) -> None:
    rows = made_houses(800, 20, larger=100.0)
    found, _ = look(rows)
    again, _ = looker(case)(rows)

    assert found is not None
    assert again is not None
    assert replace(found, cpu_s=0.0) == replace(again, cpu_s=0.0)


def test_what_decided_is_not_forgotten_however_many_checks_follow() -> None:
    def check(apart: float, n_rows: int) -> EstimateCheck:
        return checked_estimate(
            "mape",
            estimated=0.1,
            estimated_error=0.001,
            realised=0.1 + apart,
            realised_error=0.001,
            n_rows=n_rows,
            best=0.0,
        )

    checks = _newest((check(0.0, 500), check(0.2, 500), *(check(0.0, 10) for _ in range(50))))

    assert len(checks) == 21
    assert standing_after(checks, "mape") == "wrong"


def test_newest_rows_of_a_version_are_read_and_verifications_are_not(tmp_path: Path) -> None:
    log = CaptureLog(tmp_path / "capture")
    kept = [
        CapturedPrediction(
            inference_id=f"loopwright-verify-{k}" if k % 10 == 0 else f"r{k}",
            at=utc_text(START + timedelta(seconds=k)),
            version="new" if k >= 100 else "old",
            inputs={"area": float(k)},
            prediction=float(k),
        )
        for k in range(1_000)
    ]
    log.write(log.encoded(kept))

    frame = recent_captured(tmp_path, version="new", most=50)

    assert frame.height == 50
    assert frame["inference_id"][-1] == "r999"
    assert frame["at"].is_sorted()


def test_a_model_that_answers_nobody_is_estimated_on_what_callers_ask_another(
    case: Case, tmp_path: Path
) -> None:
    other = case.model
    log = CaptureLog(tmp_path / "capture")
    rows = made_houses(1_000, 11)
    asked = rows.drop("price").with_columns(pl.col("sold_at").cast(pl.String)).to_dicts()
    captured = [
        CapturedPrediction(
            inference_id=f"r{k}",
            at=utc_text(START + timedelta(seconds=k)),
            version="live",
            inputs=row,
            prediction=1.0,  # of the model that answers; the other one is asked anew
        )
        for k, row in enumerate(asked)
    ]
    log.write(log.encoded(captured))
    workspace: Any = SimpleNamespace(endpoint_folder=lambda _: tmp_path)

    found = estimates_of(
        workspace,
        case.loop,
        case.target,
        other,
        version="live",
        said=lambda inputs: other.predict_frame(input_frame(other, inputs)),
    )

    (mape,) = found
    assert mape.value == pytest.approx(realised_mape(case, rows), rel=0.2)
    assert (
        estimates_of(workspace, case.loop, case.target, other, version="none", said=lambda _: [])
        == ()
    )


def test_only_the_end_of_a_long_log_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loopwright.loop.live_sample._TAIL_BYTES", 20_000)
    log = CaptureLog(tmp_path / "capture", segment_bytes=15_000)
    for k in range(1_000):
        each = CapturedPrediction(
            inference_id=f"r{k}",
            at=utc_text(START + timedelta(seconds=k)),
            version="v",
            inputs={"text": "x" * 50},
            prediction=1.0,
        )
        log.write(json.dumps(json.loads(log.encoded([each]))).encode() + b"\n")

    frame = recent_captured(tmp_path, version="v")

    assert 50 < frame.height < 150
    assert frame["inference_id"][-1] == "r999"


def test_an_older_bundle_without_rows_is_watched_as_before(case: Case) -> None:
    members = {name: data for name, data in case.model.members.items() if name != ROWS_MEMBER}
    older = replace(case.model, members=members)
    state = start_watch(case.reference, MonitorPlan(), version=older.version)
    empty = pl.DataFrame(
        schema={
            "inference_id": pl.String(),
            "at": pl.Datetime("us", "UTC"),
            "version": pl.String(),
            "prediction": pl.Float64(),
        }
    )
    state, report = watch(case.reference, state, empty)

    found = explained_report(
        case.workspace(MemoryMetadataStore(FixedClock(START))),
        case.loop,
        case.target,
        older,
        case.reference,
        state,
        report,
        ledger=None,  # type: ignore[arg-type]
        n_labelled=0,
    )

    assert found == report


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_classes_go_from_the_logs_to_estimates_and_checks(task: str, tmp_path: Path) -> None:
    train, validation, test = (labelled_houses(n, n, task) for n in (600, 200, 900))
    classes = CLASSES[task]
    members = trained(tmp_path, train, validation, task, target="said", classes=classes)
    outcome = Outcome(task=task, classes=classes)  # type: ignore[arg-type]
    bare = open_bundle(pack_bundle(members, name="h", algorithm="lightgbm", outcome=outcome))
    raw = bare.predict_frame(test)
    kinds = {field.name: field.kind for field in bare.signature.fields}
    said = raw if task == "binary" else [str(each) for each in outcome.said(raw)]
    y = outcome.indices(test["said"].to_list())
    reference = build_reference(train.select(list(kinds)), said, np.abs(y - 0.5), kinds)
    explains = explanation_member(bare, train)
    members[EXPLANATION_MEMBER] = explains
    members |= reference_rows_member(bare, reference, train, test, raw, y, explains=explains)
    packed = pack_bundle(members, name="houses", algorithm="lightgbm", outcome=outcome)
    model = open_bundle(packed)
    live = labelled_houses(500, 77, task)
    ledger = answered_and_labelled(model, live, tmp_path / "endpoint", task)
    loop: Any = SimpleNamespace(
        name="houses",
        problem=Problem(
            question="q", target="said", criteria=(Criterion(metric="accuracy", at_least=0.5),)
        ),
        deploy=None,
        train=SimpleNamespace(seed=7),
    )
    workspace: Any = SimpleNamespace(
        metadata=MemoryMetadataStore(FixedClock(START)),
        endpoint_folder=lambda _: tmp_path / "endpoint",
    )
    target: Any = SimpleNamespace(task=task, classes=classes, column="said")
    state = start_watch(reference, MonitorPlan(), version=model.version)
    page = recent_captured(tmp_path / "endpoint", version=model.version)
    if task == "binary":
        page = page.with_columns(pl.col("probability").alias("prediction"))
    state, report = watch(reference, state, page, inputs=page["inputs"].struct.unnest())

    explained = explained_report(
        workspace,
        loop,
        target,
        model,
        reference,
        state,
        report,
        ledger=ledger,
        n_labelled=500,
    ).insight

    assert explained is not None
    assert explained.problems == ()
    accuracy = float(np.mean(outcome.indices(live["said"].to_list()) == said_classes(model, live)))
    assert explained.estimates[0].value == pytest.approx(accuracy, abs=0.05)
    assert explained.checks[0].realised == pytest.approx(accuracy)
    assert explained.estimates[0].standing in ("held", "unchecked")
    assert explained.skew is not None
    assert explained.skew.n_different == 0


def trained(
    folder: Path,
    train: pl.DataFrame,
    validation: pl.DataFrame,
    task: str,
    *,
    target: str,
    classes: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return the files of a small model."""
    train.write_parquet(folder / "a.parquet")
    validation.write_parquet(folder / "b.parquet")
    spec = TrainingSpec(
        algorithm="lightgbm",
        task=task,  # type: ignore[arg-type]
        target=target,
        classes=classes,
    )
    recipe = suggest(train, target, task, family=get_algorithm("lightgbm").features)  # type: ignore[arg-type]
    job = training_job(
        spec,
        name="houses",
        recipe=recipe.to_json(),
        train=folder / "a.parquet",
        validation=folder / "b.parquet",
    )
    work = folder / "job"
    work.mkdir()
    for name, content in job.files.items():
        (work / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    do_training_job(work)
    return dict(model_members(work))


def answered_and_labelled(
    model: ServingModel, rows: pl.DataFrame, folder: Path, task: str
) -> Ledger:
    """Answer rows, write them and their labels down as an endpoint does, and return the ledger."""
    asked = rows.drop("said").with_columns(pl.col("sold_at").cast(pl.String)).to_dicts()
    log = CaptureLog(folder / "capture")
    answers = model.predict(asked)
    kept = [
        CapturedPrediction(
            inference_id=f"r{number:05d}",
            at=utc_text(START + timedelta(minutes=number)),
            version=model.version,
            inputs=row,
            **answer,
        )
        for number, (row, answer) in enumerate(zip(asked, answers, strict=True))
    ]
    log.write(log.encoded(kept))
    log.close()
    about = LedgerAbout(task=task, classes=CLASSES[task])  # type: ignore[arg-type]
    ledger = Ledger(folder / "truth", about)
    ledger.take_predictions(read_capture_lines(folder / "capture").frame)
    labels = pl.DataFrame(
        {
            "inference_id": [each.inference_id for each in kept],
            "label": rows["said"],
            "at": [START + timedelta(days=1)] * len(kept),
            "source": "test",
        }
    ).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))
    ledger.take_labels(labels)
    return ledger


def said_classes(model: ServingModel, rows: pl.DataFrame) -> np.ndarray:
    raw = model.predict_frame(rows)
    return (raw >= 0.5) * 1.0 if raw.ndim == 1 else raw.argmax(axis=1) * 1.0
