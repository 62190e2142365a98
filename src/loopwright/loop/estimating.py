"""The part of a look that explains and estimates: why it moved, for whom, and how good it still is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import LoopwrightError
from loopwright.core.lazy import LazyModule
from loopwright.loop.attributing import LEAST_LABELLED, attributions
from loopwright.loop.file import LoopFile
from loopwright.loop.live_sample import LiveSample, recent_captured, recent_labelled
from loopwright.loop.sourcing import Target
from loopwright.loop.workspace import Workspace
from loopwright.monitor.estimate import Estimation, Unlabelled, estimation
from loopwright.monitor.estimate_check import EstimateCheck, checked_estimate, standing_after
from loopwright.monitor.explanation_drift import explanation_drift, influence_sizes
from loopwright.monitor.fairness_drift import MOST_ROWS, FairnessDrift, fairness_drift
from loopwright.monitor.insight import Insight, TrailPoint
from loopwright.monitor.likeness import Likeness
from loopwright.monitor.reference import Reference
from loopwright.monitor.reference_rows import (
    ROWS_MEMBER,
    open_reference_rows,
    ordered_streams,
)
from loopwright.monitor.report import alarm_key, with_insight
from loopwright.monitor.skew import input_frame, serving_skew
from loopwright.monitor.weak_slice import weak_slices
from loopwright.problem import checked_problem
from loopwright.train.reason import EXPLANATION_MEMBER, attributor_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from loopwright.monitor import Ledger, MonitorReport, WatchState
    from loopwright.train import ServingModel

    Numbers = NDArray[np.float64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_log = logging.getLogger(__name__)

_GROWTH = 1.1
_ENOUGH_NEW = 200
_MOST_CHECKS = 20
_MOST_POINTS = 60


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered between two looks.

    `n_estimated`, `n_explained` and `n_checked` are the rows there were when it was last done.
    """

    version: str
    insight: dict[str, Any]
    n_looks: int = 0
    n_checks: int = 0
    n_estimated: int = 0
    n_checked: int = 0
    alarms: tuple[str, ...] = ()


def explained_report(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    model: ServingModel,
    reference: Reference,
    state: WatchState,
    report: MonitorReport,
    *,
    ledger: Ledger,
    n_labelled: int,
) -> MonitorReport:
    """Return a report of the monitor with what explains it, and with estimates; see `insight`.

    Parameters
    ----------
    state
        The monitor after the look.
    n_labelled
        How many labelled predictions of the version there are in all.
    """
    folder = workspace.endpoint_folder(loop.deploy.endpoint if loop.deploy else "")
    found = insight(
        workspace,
        loop,
        target,
        model,
        reference,
        report,
        recent=lambda: recent_captured(folder, version=model.version),
        labelled=lambda: recent_labelled(ledger, version=model.version),
        n_labelled=n_labelled,
        evidence=TrailPoint(
            at=report.to_at,
            data=state.data.detector.evidence,
            error=state.error.detector.evidence,
            data_threshold=state.data.detector.threshold,
            error_threshold=state.error.detector.threshold,
            gaps={},
        ),
    )
    return with_insight(report, found)


def forget_truth(workspace: Workspace, name: str) -> None:
    """Forget what was explained and checked by labels, some of which count no more."""
    record = workspace.metadata.find("insight", name)
    if record is None:
        return
    kept = msgspec.convert(record.body, _Kept)
    found = replace(msgspec.convert(kept.insight, Insight), checks=(), attributions={})
    kept = msgspec.structs.replace(kept, insight=msgspec.to_builtins(found), n_checked=0, alarms=())
    workspace.metadata.put("insight", name, msgspec.to_builtins(kept))


def insight(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    model: ServingModel,
    reference: Reference,
    report: MonitorReport,
    *,
    recent: Callable[[], pl.DataFrame],
    labelled: Callable[[], pl.DataFrame],
    n_labelled: int,
    evidence: TrailPoint,
) -> Insight | None:
    """Return what explains a report, and the criteria without labels; None where the bundle holds no rows.

    Estimates, explanations and checks are made anew when a tenth more rows came, or 200, or an alarm
    did; otherwise those of an earlier look stand. Nothing here can end a look: what fails is left out.

    Parameters
    ----------
    recent
        Returns the newest captured predictions of the version; see `recent_captured`.
    labelled
        Returns its newest labelled predictions; see `recent_labelled`.
    n_labelled
        How many labelled predictions of the version there are in all.
    evidence
        Where the detectors stand.
    """
    if ROWS_MEMBER not in model.members:
        return None
    record = workspace.metadata.find("insight", loop.name)
    kept = msgspec.convert(record.body, _Kept) if record else None
    if kept is None or kept.version != model.version:
        kept = _Kept(version=model.version, insight=msgspec.to_builtins(Insight()))
    alarms = tuple(alarm_key(alarm) for alarm in report.alarms)
    before = msgspec.convert(kept.insight, Insight)
    is_new = bool(set(alarms) - set(kept.alarms))
    is_due = is_new or _due(report.n_predictions, kept.n_estimated)
    checks_due = n_labelled >= LEAST_LABELLED and _due(n_labelled, kept.n_checked)
    found = replace(before, trail=_extended(before.trail, evidence))
    known = {key: each for key, each in found.attributions.items() if key in alarms}
    found = replace(found, attributions=known)
    if is_due or checks_due:
        sample = LiveSample(
            loop=loop,
            target=target,
            model=model,
            reference=reference,
            rows=open_reference_rows(model.read_member(ROWS_MEMBER), reference),
            recent=recent(),
            labelled=labelled(),
            seed=loop.train.seed,
        )
        started = time.process_time()
        found = _renewed(sample, found, report, kept, is_due=is_due, checks_due=checks_due)
        found = replace(found, cpu_s=round(time.process_time() - started, 3))
    kept = msgspec.structs.replace(
        kept,
        insight=msgspec.to_builtins(found),
        n_looks=kept.n_looks + is_due,
        n_checks=kept.n_checks + checks_due,
        n_estimated=report.n_predictions if is_due else kept.n_estimated,
        n_checked=n_labelled if checks_due else kept.n_checked,
        alarms=alarms,
    )
    workspace.metadata.put("insight", loop.name, msgspec.to_builtins(kept))
    return found


def _renewed(
    sample: LiveSample,
    found: Insight,
    report: MonitorReport,
    kept: _Kept,
    *,
    is_due: bool,
    checks_due: bool,
) -> Insight:
    parts = _Parts()
    alike: Likeness | None = None
    if checks_due:
        number = kept.n_checks + 1
        checks, alike = parts.made(
            "check of estimates",
            lambda: _checks(sample, report, number=number),
            otherwise=((), None),
        )
        found = replace(
            found,
            checks=_newest((*found.checks, *checks)),
            slices=parts.made("worst rows", lambda: _slices(sample), otherwise=()),
        )
    if is_due and sample.recent.height:
        found = _estimated(sample, found, parts, look_number=kept.n_looks + 1)
    standing = {each.metric: standing_after(found.checks, each.metric) for each in found.estimates}
    number = kept.n_looks + kept.n_checks + 1
    found = replace(
        found,
        estimates=tuple(replace(e, standing=standing[e.metric]) for e in found.estimates),
        fairness=parts.made("fairness", lambda: _fairness(sample, number=number), otherwise=()),
    )
    found = replace(found, trail=_with_gaps(found.trail, found.fairness))
    if report.alarms and sample.recent.height:
        behind = parts.made(
            "attribution", lambda: attributions(sample, report, alike), otherwise={}
        )
        found = replace(found, attributions=behind)
    return replace(found, problems=tuple(parts.problems))


def _estimated(sample: LiveSample, found: Insight, parts: _Parts, *, look_number: int) -> Insight:
    made = parts.made(
        "estimates", lambda: _estimation(sample, sample.recent, look_number=look_number)
    )
    if made is not None:
        found = replace(
            found,
            estimates=made.estimates,
            told_apart=made.likeness.told_apart,
            told_apart_error=made.likeness.told_apart_error,
            n_rows=sample.recent.height,
        )
    skew = parts.made(
        "comparison of training and serving",
        lambda: serving_skew(sample.model, sample.recent, sample.rows.features),
    )
    drift = parts.made("explanation drift", lambda: _explanation(sample))
    return replace(found, skew=skew, explanation=drift)


def _estimation(sample: LiveSample, frame: pl.DataFrame, *, look_number: int) -> Estimation:
    problem = sample.loop.problem
    return estimation(
        sample.rows,
        sample.reference_answers(),
        Unlabelled(codes=sample.codes(frame), answers=sample.answers(frame)),
        problem.criteria,
        checked_problem(problem, task=sample.target.task),
        ordered=ordered_streams(sample.reference),
        confidence=problem.confidence,
        look=look_number,
        seed=sample.seed,
    )


def estimates_of(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    model: ServingModel,
    *,
    version: str,
    said: Callable[[pl.DataFrame], Any],
) -> tuple[Any, ...]:
    """Return the criteria as another model is estimated to keep them on the newest live requests.

    Parameters
    ----------
    version
        Of the model that answered them.
    said
        Returns the numbers behind the other model's answers to their inputs.

    Returns
    -------
    tuple of Estimate
        None for more than two classes, for a bundle without reference rows, or for no requests.
    """
    folder = workspace.endpoint_folder(loop.deploy.endpoint if loop.deploy else "")
    recent = recent_captured(folder, version=version)
    if ROWS_MEMBER not in model.members or target.task == "multiclass" or not recent.height:
        return ()
    numbers = pl.Series(said(recent["inputs"].struct.unnest()))
    name = "probability" if target.task == "binary" else "prediction"
    recent = recent.with_columns(numbers.alias(name))
    reference = Reference.from_json(msgspec.json.decode(model.read_member("reference.json")))
    sample = LiveSample(
        loop=loop,
        target=target,
        model=model,
        reference=reference,
        rows=open_reference_rows(model.read_member(ROWS_MEMBER), reference),
        recent=recent,
        labelled=recent.clear(),
        seed=loop.train.seed,
    )
    return tuple(_estimation(sample, recent, look_number=1).estimates)


def _checks(
    sample: LiveSample, report: MonitorReport, *, number: int
) -> tuple[list[EstimateCheck], Likeness]:
    """Return every criterion estimated on labelled rows beside what it truly is on them."""
    frame = sample.labelled
    made = _estimation(sample, frame, look_number=number)
    y, answers = sample.truth(frame), sample.answers(frame)
    metrics = checked_problem(sample.loop.problem, task=sample.target.task)
    rng = np.random.default_rng(sample.seed)
    counts = rng.exponential(size=(100, len(y)))
    checks = []
    for estimate, deviation, metric in zip(made.estimates, made.deviations, metrics, strict=True):
        if estimate.value is None:
            continue
        drawn = metric.resampled(y, answers, counts)
        realised = float(metric.resampled(y, answers, np.ones((1, len(y))))[0])
        checks.append(
            checked_estimate(
                metric.name,
                estimated=estimate.value,
                estimated_error=deviation,
                realised=realised,
                realised_error=float(np.std(drawn[np.isfinite(drawn)])),
                n_rows=len(y),
                best=metric.best,
                at=report.to_at,
                confidence=sample.loop.problem.confidence,
                look=number,
            )
        )
    return checks, made.likeness


def _slices(sample: LiveSample) -> tuple[Any, ...]:
    inputs = sample.labelled["inputs"].struct.unnest()
    known = [each.name for each in sample.model.signature.fields if each.name in inputs.columns]
    return weak_slices(inputs.select(known), sample.losses(sample.labelled), seed=sample.seed)


def _explanation(sample: LiveSample) -> Any:
    if EXPLANATION_MEMBER not in sample.model.members or not len(sample.rows.influence):
        return None
    attributor = attributor_of(sample.model)
    if len(attributor.columns) != sample.rows.influence.shape[1]:
        return None
    frame = input_frame(sample.model, sample.recent["inputs"].struct.unnest())
    live = influence_sizes(sample.model, attributor, frame, seed=sample.seed)
    return explanation_drift(attributor.columns, sample.rows.influence, live, seed=sample.seed)


def _fairness(sample: LiveSample, *, number: int) -> tuple[FairnessDrift, ...]:
    limits = sample.loop.problem.constraints.fairness if sample.loop.problem.constraints else ()
    if not limits:
        return ()
    found: list[FairnessDrift] = []
    for frame, has_truth in ((sample.recent, False), (sample.labelled.tail(MOST_ROWS), True)):
        if not frame.height:
            continue
        found += fairness_drift(
            frame["inputs"].struct.unnest(),
            sample.truth(frame) if has_truth else None,
            sample.answers(frame),
            limits,
            payoff=sample.loop.problem.payoff,
            confidence=sample.loop.problem.confidence,
            look=number,
            seed=sample.seed,
        )
    return tuple(found)


def _newest(checks: tuple[EstimateCheck, ...]) -> tuple[EstimateCheck, ...]:
    """Return the newest checks, and of each metric the last that decided, however old it is."""
    decided = {each.metric: each for each in checks if each.verdict != "undecided"}
    newest = checks[-_MOST_CHECKS:]
    return (*(each for each in decided.values() if each not in newest), *newest)


def _due(n_rows: int, n_before: int) -> bool:
    return n_rows >= max(1, _GROWTH * n_before) or n_rows - n_before >= _ENOUGH_NEW


def _extended(trail: tuple[TrailPoint, ...], point: TrailPoint) -> tuple[TrailPoint, ...]:
    """Return the trail with one more point; a look that is made again does not stand twice."""
    kept = tuple(each for each in trail if each.at != point.at)
    return trail if point.at is None else (*kept, point)[-_MOST_POINTS:]


def _with_gaps(
    trail: tuple[TrailPoint, ...], fairness: tuple[FairnessDrift, ...]
) -> tuple[TrailPoint, ...]:
    gaps = {
        each.limit: (each.gap, each.gap_lower, each.gap_upper)
        for each in fairness
        if each.gap is not None
    }
    return (*trail[:-1], replace(trail[-1], gaps=gaps)) if trail else trail


class _Parts:
    """Makes the parts of an insight; one that these rows do not allow is left as it was, and told."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def made(self, what: str, make: Callable[[], Any], *, otherwise: Any = None) -> Any:
        """Return what was made, or `otherwise`: a look must go on whatever the rows hold."""
        failures = (
            LoopwrightError,
            ValueError,
            ArithmeticError,
            LookupError,
            TypeError,
            np.linalg.LinAlgError,
            pl.exceptions.PolarsError,
        )
        try:
            return make()
        except failures as error:
            _log.warning("The %s of this look could not be made.", what, exc_info=True)
            told = error.message if isinstance(error, LoopwrightError) else repr(error)[:200]
            self.problems.append(f"{what}: {told}")
            return otherwise
