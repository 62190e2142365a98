"""Whether it is machine learning at all, and a rule that is enough as a candidate."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loopwright.core.digest import canonical_json
from loopwright.core.lazy import LazyModule
from loopwright.data import Snapshot
from loopwright.evaluate import Rule, framing
from loopwright.evaluate.layout import layout_of
from loopwright.evaluate.rule_model import rule_predictor, rule_recipe
from loopwright.loop.file import LoopFile
from loopwright.loop.framing import read_part, truth
from loopwright.loop.sourcing import Target, class_indices
from loopwright.loop.step import StepResult
from loopwright.loop.workspace import Workspace
from loopwright.loop.worth import row_money
from loopwright.prepare import Signature, fit_recipe
from loopwright.problem import (
    Answers,
    Problem,
    amounts,
    checked_problem,
    class_answers,
    metric_named,
    value_answers,
)
from loopwright.train import Outcome
from loopwright.train.job_folder import write_answers
from loopwright.train.predictor_file import pack_predictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

RULE = "rule"
_MONEY = ("money:", "beside today's")
_SUMMARIES = {
    "ml_worth_it": "machine learning is worth it",
    "rule_enough": "no model needed",
    "no_signal": "no signal",
    "not_with_this_data": "not with this data",
}


def decided(
    workspace: Workspace, loop: LoopFile, target: Target, parts: dict[str, Any], dropped: list[str]
) -> StepResult:
    """Answer whether this should be machine learning, before any training job.

    Training and validation rows take part, each judged by what it did not teach, in the manner in
    which the rows are split. Of the test rows only their number is known here.
    """
    problem, split = loop.problem, loop.data.split
    rows = _seen_rows(workspace, parts)
    y = truth(rows, target)
    column = problem.today.column if problem.today else None
    left_out = {target.column, *dropped, *([column] if column else [])}
    if split.by == "group" and split.column:
        left_out.add(split.column)  # what is true of one group says nothing of the next
    metrics = checked_problem(problem, task=target.task)
    result = framing(
        rows.select([name for name in rows.columns if name not in left_out]),
        y,
        classes=target.classes,
        criteria=problem.criteria,
        metrics=metrics,
        confidence=problem.confidence,
        layout=layout_of(rows[split.column] if split.column else None, split.by),
        parts=parts["n_rows"],
        earnings=metric_named("profit_per_case", payoff=problem.payoff) if problem.payoff else None,
        money=_money(problem, target, rows),
        cost_per_case=problem.today.cost_per_case if problem.today else None,
        today=_todays_answers(problem, target, rows),
        seed=loop.train.seed,
    )
    return StepResult(
        output=result.to_json(), summary=_SUMMARIES[result.decision], reason=result.reason
    )


def _seen_rows(workspace: Workspace, parts: dict[str, Any]) -> pl.DataFrame:
    return pl.concat(
        [read_part(workspace, parts["windows"]["all"]), read_part(workspace, parts["validation"])]
    )


def _money(problem: Problem, target: Target, rows: pl.DataFrame) -> Array | None:
    """Return what each row earns, also where all earn alike; None without a payoff."""
    if not problem.payoff or not target.classes:
        return None
    money = row_money(problem, target, rows)
    if money is None:
        fixed = np.asarray(amounts(problem.payoff, target.classes), dtype=np.float64)
        return np.broadcast_to(fixed, (rows.height, *fixed.shape))
    return np.nan_to_num(money)


def _todays_answers(
    problem: Problem, target: Target, rows: pl.DataFrame
) -> tuple[str, Answers] | None:
    """Return today's way and its answers; None where no column holds them."""
    if problem.today is None or not problem.today.column:
        return None
    said = rows[problem.today.column]
    if target.classes:
        indices = class_indices(said, target.classes).fill_null(0.0).cast(pl.Int64).to_numpy()
        return problem.today.does, class_answers(np.eye(len(target.classes))[indices])
    values = said.cast(pl.Float64, strict=False).fill_null(strategy="mean")
    return problem.today.does, value_answers(values)


def can_be_served(verdict: dict[str, Any]) -> bool:
    """Tell whether what is enough can answer rows: today's way is a person's, not ours."""
    return verdict["decision"] == "rule_enough" and verdict["way"] in ("rule", "constant")


def rule_as_model(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    parts: dict[str, Any],
    verdict: dict[str, Any],
) -> dict[str, Any]:
    """Return the rule as a training job would leave a model: its files by name, and what it is."""
    rule = Rule.from_json(verdict["rule"]["tree"])
    train = read_part(workspace, parts["windows"]["all"]).drop(target.column)
    fitted, _ = fit_recipe(rule_recipe(rule, train), train, None, seed=loop.train.seed)
    predictor = rule_predictor(rule, fitted.feature_names)
    conversions = Snapshot.from_json(parts["snapshot"]).conversions
    signature = Signature.from_frame(
        train.select(list(fitted.inputs)), conversions=conversions, target=target.column
    )
    files = {
        **pack_predictor(predictor),
        "recipe.json": fitted.to_json().encode(),
        "signature.json": signature.to_json().encode(),
        "model/rule.json": canonical_json(verdict["rule"]),
    }
    members = {name: workspace.artifacts.put_bytes(content) for name, content in files.items()}
    validation = read_part(workspace, parts["validation"])
    raw = predictor.predict_raw(fitted.transform(validation))
    members["validation.parquet"] = _kept_answers(workspace, target, truth(validation, target), raw)
    return {
        "algorithm": RULE,
        "window": "all",
        "members": members,
        "fit_s": 0.0,
        "best_iteration": None,
        "threshold": rule.threshold,
    }


def _kept_answers(workspace: Workspace, target: Target, y: Array, raw: Array) -> str:
    folder = workspace.scratch_folder() / f"rule-{id(raw)}"
    folder.mkdir()
    try:
        outcome = Outcome(task=target.task, classes=target.classes)  # type: ignore[arg-type]
        write_answers(folder, outcome, y, raw)
        return workspace.artifacts.put_file(folder / "validation.parquet")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def told_verdict(verdict: dict[str, Any]) -> str:
    """Return the verdict as a run tells it, with what a person can do."""
    lines = [str(verdict["reason"])]
    if verdict["decision"] == "rule_enough":
        rule = verdict["rule"]
        lines += [f"- {each}" for each in verdict["evidence"] if each.startswith(_MONEY)]
        lines += [*_told_rule(verdict["way"], rule)]
    else:
        lines += [f"- {each}" for each in _without_reason(verdict["evidence"], verdict["reason"])]
    lines.append("To train a model all the same: loopwright run --overrule 'your reason'.")
    return "\n".join(lines)


def _told_rule(way: str, rule: dict[str, Any]) -> list[str]:
    if way == "today":
        return ["Keep to it: nothing needs to be built."]
    return [
        rule["words"],
        rule["python"],
        f"As SQL: {rule['sql']}",
        "To serve it like a model: state decide: {when_rule_is_enough: deploy}.",
    ]


def _without_reason(evidence: Sequence[str], reason: str) -> list[str]:
    return [each for each in evidence if each not in reason]
