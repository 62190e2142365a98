"""Features, training jobs and the choice among candidates; again with a new idea while it misses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.data import Snapshot
from loopwright.evaluate import figure, verdicts
from loopwright.loop.answering import answering, units_of_rows
from loopwright.loop.attempt import (
    MAX_ATTEMPTS,
    MAX_OWN_ATTEMPTS,
    Attempt,
    Evidence,
    first_attempt,
    next_attempt,
)
from loopwright.loop.candidate import Candidate
from loopwright.loop.deciding import RULE, rule_as_model
from loopwright.loop.diagnosis import Diagnosis, diagnosed
from loopwright.loop.file import LoopFile
from loopwright.loop.framing import read_part, truth
from loopwright.loop.noting import with_reasons
from loopwright.loop.recipe_choice import as_json, chosen_transform, with_choice
from loopwright.loop.sourcing import Target
from loopwright.loop.step import StepResult, StepRunner, round_key
from loopwright.loop.training import round_minutes, trained_models
from loopwright.loop.tuning import searchable, searched_attempt
from loopwright.loop.workspace import Workspace
from loopwright.loop.worth import row_money
from loopwright.prepare import suggest
from loopwright.problem import checked_problem, primary_metric
from loopwright.tune import families_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_SKEW_FOR_LOGARITHM = 1.0


def best_candidate(
    runner: StepRunner,
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    *,
    parts: dict[str, Any],
    kinds: dict[str, str],
    reasons: dict[str, str] | None = None,
    leaks: Sequence[str] = (),
) -> Candidate:
    """Return the best model found within the budget.

    While a criterion is missed on validation rows and the budget lasts, another attempt is made
    with what the evidence suggests. Test rows are not touched. `reasons` are people's own for the
    columns they drop; `leaks` are columns that may be known only with the answer.

    Raises
    ------
    BackendError
        If every training job failed.
    """
    metric = primary_metric(loop.problem, task=target.task)
    found: list[Candidate] = []
    tried: list[str] = []
    attempt: Attempt | None = first_attempt(
        loop.train.algorithms, loop.train.settings(), windows=tuple(parts["windows"])
    )
    n_jobs = 0
    minutes = round_minutes(loop.train, workspace.compute.capacity())
    while attempt is not None:
        suffix = "" if attempt.number == 1 else f".{attempt.number}"
        recipes = prepared_recipes(
            runner, workspace, loop, target, parts, kinds, attempt, suffix, reasons or {}
        )
        models = trained_models(
            runner,
            workspace,
            loop,
            target,
            parts,
            recipes,
            attempt,
            suffix,
            minutes=minutes - spent_minutes(runner),
            jobs=loop.train.budget.jobs - n_jobs,
        )
        chosen = _chosen(
            runner, workspace, loop, target, parts, models, found, attempt, suffix, leaks
        )
        found = [Candidate.from_json(each) for each in chosen["candidates"]]
        tried.append(attempt.idea)
        n_jobs += len(models["jobs"])
        best = found[0]
        ranking = tuple(dict.fromkeys(each.algorithm for each in found))
        evidence = Evidence(
            ranking=ranking,
            missed=best.missed,
            best_iterations={
                each.algorithm: each.best_iteration
                for each in reversed(found)
                if each.best_iteration
            },
            jobs_used=n_jobs,
            ideas=tuple(tried),
            window=best.window,
            **_seen_in(chosen),
        )
        searched = searchable(loop, best, evidence)
        if searched is not None:
            attempt = searched_attempt(
                runner, workspace, loop, target, parts, recipes, attempt, searched, best, evidence
            )
        else:
            attempt = next_attempt(
                evidence,
                task=target.task,
                given=loop.train.settings(),
                max_jobs=loop.train.budget.jobs,
                max_attempts=MAX_ATTEMPTS if parts["live"] is None else MAX_OWN_ATTEMPTS,
            )
        if attempt is not None and spent_minutes(runner) > minutes:
            runner.note(f"not tried for want of time: {attempt.idea}", reason=attempt.hypothesis)
            attempt = None
        if attempt is not None:
            runner.note(
                f"{metric.name} {best.score:.4g} on validation misses {', '.join(best.missed)}; "
                f"trying {attempt.idea}",
                reason="; ".join([attempt.hypothesis, *attempt.evidence]),
            )
        elif best.missed:
            runner.note(
                f"nothing is left to try: {', '.join(best.missed)} stays missed on validation",
                reason=f"tried: {', '.join(tried)}",
            )
    return found[0]


def _seen_in(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the diagnosis of the best model adds to the evidence."""
    if not chosen.get("diagnosis"):
        return {}
    found = Diagnosis.from_json(chosen["diagnosis"])
    return {
        "fit": found.fit,
        "weak_columns": found.weak_columns,
        "leaks": found.leaks,
        "has_places": found.has_places,
        "told": (str(found),),
    }


def spent_minutes(runner: StepRunner) -> float:
    """Return the wall time on record for this round's training.

    What is on record, not a clock: a run that is taken up again decides as the first one did.
    """
    prefix = f"{round_key(runner.loop, runner.number)}/train"
    steps = runner.workspace.metadata.list_("step", prefix=prefix)
    return sum(float(step.body.get("wall_s") or 0.0) for step in steps) / 60


def prepared_recipes(
    runner: StepRunner,
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    parts: dict[str, Any],
    kinds: dict[str, str],
    attempt: Attempt,
    suffix: str,
    reasons: dict[str, str],
) -> dict[str, Any]:
    """Return the recipes that the attempt's algorithms want, for each of its windows."""
    families = list(families_of(attempt.algorithms))
    plan = loop.prepare
    uses_today = any("today(" in expression for expression in plan.derive.values())
    today = Snapshot.from_json(parts["snapshot"]).taken_at.date() if uses_today else None
    left_out = loop.problem.today.column if loop.problem.today else None
    if left_out is not None and left_out not in plan.drop:
        plan = msgspec.structs.replace(plan, drop=(*plan.drop, left_out))
    if attempt.drop:
        wanted = {*plan.keep, *plan.drop, *(each.column for each in plan.overrule)}
        more = [name for name in attempt.drop if name not in wanted]
        plan = msgspec.structs.replace(plan, drop=(*plan.drop, *more))

    choices = {**as_json(loop.train.recipe), **attempt.recipe}

    def work() -> StepResult:
        recipes: dict[str, str] = {}
        explained: dict[str, list[Any]] = {}
        for window in attempt.windows:
            train = read_part(workspace, parts["windows"][window])
            for family in families:
                recipe = suggest(
                    train,
                    target.column,
                    target.task,
                    plan,
                    family=family,
                    variant=attempt.variant,
                    kinds=kinds,
                    today=today,
                )
                recipe = with_choice(with_reasons(recipe, reasons), choices, target)
                recipes[f"{family}/{window}"] = workspace.artifacts.put_bytes(
                    recipe.to_json().encode()
                )
                explained[f"{family}/{window}"] = [
                    [name, list(columns), reason] for name, columns, reason in recipe.explain()
                ]
        transform, why = _target_transform(workspace, target, parts)
        if choices.get("target", "suggested") != "suggested":
            transform, why = chosen_transform(transform, choices, target), "chosen"
        n_steps = {name: len(steps) for name, steps in explained.items()}
        return StepResult(
            output={
                "recipes": recipes,
                "explained": explained,
                "target_transform": transform,
                "target_transform_reason": why,
                "today": today.isoformat() if today else None,
            },
            summary="; ".join(f"{name}: {n} steps" for name, n in n_steps.items())
            + (f"; {transform} of the target" if transform != "none" else ""),
            reason=why,
            artifacts=tuple(recipes.values()),
        )

    return runner.run(
        f"prepare{suffix}",
        inputs=[
            parts["windows"],
            kinds,
            msgspec.to_builtins(plan),
            families,
            target.column,
            target.task,
            attempt.variant,
            list(attempt.windows),
            str(today),
            reasons,
            *([choices] if choices else []),
        ],
        work=work,
    )


def _target_transform(
    workspace: Workspace, target: Target, parts: dict[str, Any]
) -> tuple[str, str]:
    if target.task != "regression":
        return "none", ""
    y = np.concatenate(
        [
            truth(read_part(workspace, digest), target)
            for digest in (parts["windows"]["all"], parts["validation"])
        ]
    )
    skew = float(((y - y.mean()) ** 3).mean() / max(y.std(), 1e-300) ** 3)
    if y.min() > 0 and skew > _SKEW_FOR_LOGARITHM:
        return (
            "log",
            f"the target is positive with a long tail (skew {skew:.1f}): learn its logarithm",
        )
    return "none", f"the target needs no transformation (skew {skew:.1f})"


def _chosen(
    runner: StepRunner,
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    parts: dict[str, Any],
    trained: dict[str, Any],
    earlier: Sequence[Candidate],
    attempt: Attempt,
    suffix: str,
    leaks: Sequence[str],
) -> dict[str, Any]:
    """Judge the new candidates on validation rows and rank them with the earlier ones."""

    def work() -> StepResult:
        rows = read_part(workspace, parts["validation"])
        y, money = truth(rows, target), row_money(loop.problem, target, rows)
        units = units_of_rows(loop, rows)
        new = [
            _judged(workspace, loop, target, y, money, units, model, attempt.number)
            for model in trained["jobs"]
            if "members" in model
        ]
        metric = primary_metric(loop.problem, task=target.task)
        sign = -1.0 if metric.higher_is_better else 1.0
        ranked = sorted(
            [*earlier, *new],
            key=lambda each: (not each.meets, sign * each.score, each.attempt, each.algorithm),
        )
        best = ranked[0]
        met = "meets every criterion" if best.meets else f"misses {', '.join(best.missed)}"
        if not loop.problem.criteria:
            met = "no criteria are stated"
        conclusion = _conclusion(best, earlier, metric.name)
        diagnosis = None
        if best.missed:
            diagnosis = diagnosed(
                workspace,
                loop,
                target,
                parts,
                best,
                importance=_importance(trained, best),
                leaks=leaks,
            ).to_json()
        return StepResult(
            output={
                "candidates": [each.to_json() for each in ranked],
                "conclusion": conclusion,
                "diagnosis": diagnosis,
            },
            summary=f"{best.title}: {metric.name} {best.score:.4g} on {len(y):,} validation rows; {met}",
            reason=conclusion,
        )

    return runner.run(
        f"choose{suffix}",
        inputs=[
            [each.to_json() for each in earlier],
            trained["jobs"],
            parts["validation"],
            msgspec.to_builtins(loop.problem),
            [loop.data.split.by, loop.evaluate and loop.evaluate.interval],
            msgspec.to_builtins(target),
        ],
        work=work,
    )


def _importance(trained: Mapping[str, Any], best: Candidate) -> Sequence[Any]:
    """Return the importance of the features of the best model, if this attempt trained it."""
    same = [
        model["importance"]
        for model in trained["jobs"]
        if model.get("members", {}).get("predictor.npz") == best.members["predictor.npz"]
    ]
    return same[0] if same else ()


def rule_candidate(
    runner: StepRunner,
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    parts: dict[str, Any],
    verdict: dict[str, Any],
) -> Candidate:
    """Return the rule that is enough as a candidate, judged on validation rows like a model."""

    def work() -> StepResult:
        rows = read_part(workspace, parts["validation"])
        y, money = truth(rows, target), row_money(loop.problem, target, rows)
        model = rule_as_model(workspace, loop, target, parts, verdict)
        rule = _judged(workspace, loop, target, y, money, units_of_rows(loop, rows), model, 1)
        metric = primary_metric(loop.problem, task=target.task).name
        return StepResult(
            output={"candidates": [rule.to_json()], "conclusion": verdict["reason"]},
            summary=f"a rule of {verdict['rule']['n_conditions']} conditions: {metric} "
            f"{rule.score:.4g} on {len(y):,} validation rows",
            reason=verdict["reason"],
            artifacts=tuple(rule.members.values()),
        )

    chosen = runner.run(
        "choose",
        inputs=[
            verdict["rule"]["tree"],
            parts["windows"],
            parts["validation"],
            msgspec.to_builtins(loop.problem),
            [loop.data.split.by, loop.evaluate and loop.evaluate.interval],
            msgspec.to_builtins(target),
        ],
        work=work,
    )
    return Candidate.from_json(chosen["candidates"][0])


def _conclusion(best: Candidate, earlier: Sequence[Candidate], metric: str) -> str:
    if not earlier:
        return "the best of the algorithms tried"
    if best.attempt == earlier[0].attempt and best.algorithm == earlier[0].algorithm:
        return f"the idea did not help; {metric} stays at {best.score:.4g}"
    return f"the idea helped: {metric} from {earlier[0].score:.4g} to {best.score:.4g}"


def _judged(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    y: Any,
    money: Any,
    units: Any,
    model: Mapping[str, Any],
    attempt: int,
) -> Candidate:
    said = pl.read_parquet(workspace.artifacts.local_path(model["members"]["validation.parquet"]))
    if target.task == "regression":
        raw = said["prediction"].to_numpy()
    else:
        raw = said["probability" if target.task == "binary" else "probabilities"].to_numpy()
    problem, seed = loop.problem, loop.train.seed
    # people read a rule's shares: what is deployed says what is printed
    is_rule = model["algorithm"] == RULE
    found = answering(loop, target, y, raw, money=money, repairs=not is_rule)
    metrics = checked_problem(problem, task=target.task)
    judged = verdicts(
        problem.criteria,
        metrics,
        y,
        found.answers,
        confidence=problem.confidence,
        seed=seed,
        units=units,
    )
    primary = primary_metric(problem, task=target.task)
    shown = {v.figure.metric: v.figure.to_json() for v in judged} or {
        primary.name: figure(primary, y, found.answers, seed=seed, units=units).to_json()
    }
    return Candidate(
        algorithm=model["algorithm"],
        window=model["window"],
        attempt=attempt,
        members=model["members"],
        best_iteration=model["best_iteration"],
        fit_s=model["fit_s"],
        score=shown[primary.name]["value"],
        meets=all(verdict.holds for verdict in judged),
        missed=tuple(v.figure.metric for v in judged if not v.holds),
        figures=shown,
        threshold=found.threshold,
        how=found.how,
    )
