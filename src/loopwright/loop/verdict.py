"""The candidate before the test rows: read once, held against the criteria and the champion."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.evaluate import Comparison, EvaluatePlan, compare, figure, guarded, verdicts
from loopwright.evaluate.doubt import doubts
from loopwright.evaluate.fairness import FairnessReading, fairness
from loopwright.loop.answering import units_of_rows
from loopwright.loop.candidate import Candidate, candidate_model
from loopwright.loop.file import LoopFile
from loopwright.loop.framing import read_part, truth
from loopwright.loop.gate import (
    ALPHA,
    Evidence,
    Passage,
    Rule,
    held,
    measured_evidence,
    passage,
    to_record,
)
from loopwright.loop.judged_rows import Look, noted_look, told_looks
from loopwright.loop.judging import as_answers
from loopwright.loop.slices import slice_masks
from loopwright.loop.sourcing import Target
from loopwright.loop.step import StepResult
from loopwright.loop.trigger import OWN_CAUSES
from loopwright.loop.workspace import Workspace
from loopwright.loop.worth import row_money
from loopwright.problem import Answers, checked_problem, primary_metric
from loopwright.train import ServingModel, open_bundle

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_LEAST_COMPARED = 50


def evaluated(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    winner: Candidate,
    parts: dict[str, Any],
    *,
    champion: dict[str, Any] | None,
    round_: dict[str, Any],
    look: Look,
    golden: str | None = None,
) -> StepResult:
    """Judge the candidate on the test rows, once, and decide whether it may go live.

    The first model goes live when every criterion's bound holds. In a round of the loop's own the
    challenger must pass the gate, on the same newest rows; see `loopwright.loop.gate`. In a round
    that a person caused it must meet the criteria and not be worse. Every look at the test rows is
    on record before they are read.
    """
    problem = loop.problem
    looks = noted_look(workspace, parts["test"], look, once=problem.test_rows == "once")
    test = read_part(workspace, parts["test"])
    y = truth(test, target)
    model = candidate_model(workspace, loop, target, winner)
    money = row_money(problem, target, test)
    answers = as_answers(model.predict_frame(test), target, threshold=winner.threshold, money=money)
    metrics = checked_problem(problem, task=target.task)
    units = units_of_rows(loop, test)
    judged = verdicts(
        problem.criteria,
        metrics,
        y,
        answers,
        confidence=problem.confidence,
        seed=loop.train.seed,
        units=units,
    )
    primary = primary_metric(problem, task=target.task)
    figures = {v.figure.metric: v.figure.to_json() for v in judged} or {
        primary.name: figure(primary, y, answers, seed=loop.train.seed, units=units).to_json()
    }
    compared = evidence = None
    if champion is not None:
        compared = _compared(workspace, loop, target, test, y, answers, champion)
    if compared is not None and champion is not None and round_.get("gate"):
        evidence = _evidence(
            workspace, loop, target, test, y, answers, champion, round_, compared, model, golden
        )
    passes = passage(evidence) if evidence is not None else None
    fair = _fairness(loop, target, test, y, answers, units=units)
    holds = all(verdict.holds for verdict in judged) and all(each.holds for each in fair)
    promoted, conclusion = _decision(
        holds=holds,
        told=(_told(judged) or f"{primary.name} {figures[primary.name]['value']:.4g}")
        + _told_fairness(fair),
        comparison=compared,
        own=round_["cause"] in OWN_CAUSES,
        title=winner.title,
        n_rows=len(y),
        is_same=champion is not None
        and winner.members["predictor.npz"] in (champion["predictor"], champion.get("judged")),
        passes=passes,
    )
    asks = ""
    if passes is not None and not passes.passes and passes.but_for_segments:
        asks = _asked_about_segments(loop, passes)
        promoted, conclusion = bool(asks), f"{conclusion} {asks}".strip()
    # a verdict that few rows decide says so
    doubtful = doubts(metrics, y, answers)
    conclusion = " ".join(text for text in (conclusion, told_looks(looks), *doubtful) if text)
    return StepResult(
        output={
            "promoted": promoted,
            "asks": asks,
            "gate": to_record(evidence) if evidence is not None else None,
            "conclusion": conclusion,
            "criteria_hold": holds,
            "verdicts": [verdict.to_json() for verdict in judged],
            "figures": figures,
            "comparison": compared.to_json() if compared else None,
            "n_rows": len(y),
            "doubts": doubtful,
            "looks": [each.to_json() for each in looks],
            "fairness": [each.to_json() for each in fair],
        },
        summary=("goes live" if promoted else "does not go live") + f" ({len(y):,} test rows)",
        reason=conclusion,
    )


def _asked_about_segments(loop: LoopFile, passes: Passage) -> str:
    """Return why a person is asked about a challenger that is better but for some segments."""
    if "segment_harm" not in loop.retrain.ask:
        return ""
    worse = ", ".join(repr(name) for name in passes.harmed)
    told = f" It is worse beyond doubt in {worse}." if worse else ""
    return f"A person decides, as retrain.ask says.{told}"


def _fairness(
    loop: LoopFile, target: Target, test: pl.DataFrame, y: Any, answers: Answers, *, units: Any
) -> tuple[FairnessReading, ...]:
    """Return how far groups of people differ; nothing where no limits are stated."""
    problem = loop.problem
    if problem.constraints is None or not problem.constraints.fairness:
        return ()
    return fairness(
        test,
        y,
        answers,
        problem.constraints.fairness,
        task=target.task,
        main=primary_metric(problem, task=target.task),
        payoff=problem.payoff,
        confidence=problem.confidence,
        seed=loop.train.seed,
        units=units,
    )


def _told_fairness(fair: tuple[FairnessReading, ...]) -> str:
    return "".join(
        f"; {limit.limit} {'holds' if limit.holds else f'is missed: {limit.reason}'}"
        for reading in fair
        for limit in reading.limits
    )


def _told(judged: Any) -> str:
    return "; ".join(
        f"{v.figure.metric} {v.figure.value:.4g} ({_told_bound(v.bound)}, wanted "
        f"{v.criterion.partition(' ')[2]}) {'holds' if v.holds else 'is missed'}"
        for v in judged
    )


def _told_bound(bound: float) -> str:
    return f"bound {bound:.4g}" if math.isfinite(bound) else "too few rows of a class for a bound"


def _compared(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    test: pl.DataFrame,
    y: Any,
    answers: Answers,
    champion: dict[str, Any],
) -> Comparison | None:
    """Hold the candidate against the champion; None where the champion answers something else."""
    old = open_bundle(workspace.artifacts.local_path(champion["bundle"]))
    if old.task != target.task or (old.classes or ()) != target.classes:
        return None
    if any(name not in test.columns for name in old.fitted.inputs):
        return None
    chosen = _unseen_by(workspace, champion, test)
    if len(chosen) < _LEAST_COMPARED:
        return None
    said = _said_by(old, loop, target, test[chosen.tolist()])
    metric, rows, new = (
        primary_metric(loop.problem, task=target.task),
        test[chosen.tolist()],
        y[chosen],
    )
    asked: dict[str, Any] = {
        "champion": said,
        "challenger": answers.rows(chosen),
        "confidence": loop.problem.confidence,
        "seed": loop.train.seed,
        "units": units_of_rows(loop, rows),
    }
    plan = loop.evaluate or EvaluatePlan()
    held = {name: mask for name, (_, mask) in slice_masks(plan, rows).items()}
    segments = guarded(metric, new, segments=held, margin=plan.margin, **asked)
    return replace(compare(metric, new, **asked), segments=segments)


def _said_by(model: ServingModel, loop: LoopFile, target: Target, rows: pl.DataFrame) -> Answers:
    return as_answers(
        model.predict_frame(rows),
        target,
        threshold=model.outcome.threshold,
        money=row_money(loop.problem, target, rows),
    )


def _evidence(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    test: pl.DataFrame,
    y: Any,
    answers: Answers,
    champion: dict[str, Any],
    round_: dict[str, Any],
    compared: Comparison,
    model: ServingModel,
    golden: str | None,
) -> Evidence:
    """Return what the gate decides a round of the loop's own by."""
    old = open_bundle(workspace.artifacts.local_path(champion["bundle"]))
    chosen = _unseen_by(workspace, champion, test)
    metric = primary_metric(loop.problem, task=target.task)
    rule = Rule(kind=round_["gate"]["kind"], trial=int(round_["gate"]["trial"]))
    n_recent = (round_["live"] or {}).get("n_recent")
    sure = None
    if golden is not None:
        rows = read_part(workspace, golden)
        sure = held(
            metric,
            truth(rows, target),
            _said_by(old, loop, target, rows),
            _said_by(model, loop, target, rows),
            # nothing is gained by trying this again: it only refuses
            alpha=ALPHA,
            seed=loop.train.seed,
        )
    return measured_evidence(
        metric,
        y[chosen],
        champion=_said_by(old, loop, target, test[chosen.tolist()]),
        challenger=answers.rows(chosen),
        rule=rule,
        # live rows that judge are in the order of time
        recent=None if n_recent is None else chosen >= len(y) - n_recent,
        segments=compared.segments,
        golden=sure,
        seed=loop.train.seed,
        units=units_of_rows(loop, test[chosen.tolist()]),
    )


def _unseen_by(workspace: Workspace, champion: dict[str, Any], test: pl.DataFrame) -> Any:
    """Return the places of the test rows that the champion neither learnt nor was chosen from."""
    nothing = np.empty(0, dtype=np.int64)
    if not all(workspace.artifacts.has(digest) for digest in champion["learnt_from"]):
        return nothing  # what it learnt is gone, so no row is known to be new to it
    learnt = [read_part(workspace, digest) for digest in champion["learnt_from"]]
    columns = [name for name in test.columns if all(name in each.columns for each in learnt)]
    if not columns:
        return nothing
    types = pl.Schema({name: test.schema[name] for name in columns})
    seen = pl.concat([each.select(columns).cast(types, strict=False) for each in learnt]).unique()
    row = "row" + "_" * max(len(name) for name in columns)  # no column is called so
    rest = test.select(columns).with_row_index(row)
    rest = rest.join(seen, on=columns, how="anti", nulls_equal=True)
    return rest[row].sort().to_numpy().astype(np.int64)


def _decision(
    *,
    holds: bool,
    told: str,
    comparison: Comparison | None,
    own: bool,
    title: str,
    n_rows: int,
    is_same: bool,
    passes: Passage | None = None,
) -> tuple[bool, str]:
    on = f"On {n_rows:,} rows it never saw, {title}: {told}."
    if is_same and not own:
        return holds, f"{on} It is the model that is live already."
    if comparison is None and own:
        return False, f"{on} Too few of them are new to the champion to compare: it stays."
    if comparison is None:
        return holds, on if holds else f"{on} The success criteria are not met."
    beside = (
        f" Beside the champion: {comparison.metric} {comparison.champion:.4g} to "
        f"{comparison.challenger:.4g}, better with probability "
        f"{comparison.probability_better:.1%}."
    )
    if own and passes is not None:
        if passes.passes:
            return True, f"{on}{beside} It replaces the champion."
        why = "; ".join(passes.reasons)
        return False, f"{on}{beside} {why[0].upper()}{why[1:]}: the champion stays."
    guarded_in = ", ".join(repr(name) for name in comparison.maybe_worse_in)
    if guarded_in and (comparison.is_better if own else holds and not comparison.is_worse):
        return False, (
            f"{on}{beside} It was not shown to be no worse in the guarded {guarded_in}: "
            "the champion stays."
        )
    if own:
        promoted = comparison.is_better
        end = (
            "It replaces the champion."
            if promoted
            else "It is not better beyond doubt: the champion stays."
        )
    else:
        promoted = holds and not comparison.is_worse
        end = "It replaces the champion."
        if not promoted:
            end = (
                "It is worse than the champion, which stays."
                if holds
                else ("The success criteria are not met: the champion stays.")
            )
    return promoted, f"{on}{beside} {end}"
