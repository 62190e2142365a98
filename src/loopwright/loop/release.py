"""From the chosen model to a live one: judged on the test rows, packed, deployed, tried in place."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.compute import JobSpec, Resources
from loopwright.core.digest import canonical_json
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.deploy import (
    CaptureSettings,
    DesiredState,
    Endpoint,
    EndpointClient,
    check_port,
    free_port,
    read_actual,
    read_desired,
    wait_until_serving,
    write_desired,
)
from loopwright.evaluate import Comparison, compare, figure, verdicts
from loopwright.loop.build import Candidate
from loopwright.loop.file import LoopFile
from loopwright.loop.framing import read_part, truth
from loopwright.loop.judging import as_answers, loss_metric
from loopwright.loop.live import VERIFY_PREFIX
from loopwright.loop.sourcing import Target
from loopwright.loop.step import StepResult
from loopwright.loop.watching import OWN_CAUSES
from loopwright.loop.workspace import Workspace
from loopwright.monitor import build_reference
from loopwright.problem import Answers, checked_problem, primary_metric
from loopwright.train import Outcome, ServingModel, open_bundle, pack_bundle

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_N_GOLDEN = 5
_LEAST_COMPARED = 50
_START_TIMEOUT_S = 60.0
# the endpoint's row path and the table path may differ in the last bits of a logarithm
_SAME = 1e-9


def _outcome(target: Target, winner: Candidate) -> Outcome:
    return Outcome(
        task=target.task,  # type: ignore[arg-type]
        classes=target.classes,
        threshold=winner.threshold,
    )


def _model_files(workspace: Workspace, winner: Candidate) -> dict[str, bytes]:
    # wall times differ from run to run; without them the same model is the same bytes
    return {
        name: workspace.artifacts.get_bytes(digest)
        for name, digest in winner.members.items()
        if name not in ("training.json", "validation.parquet")
    }


def _candidate_model(
    workspace: Workspace, loop: LoopFile, target: Target, winner: Candidate
) -> ServingModel:
    """Return the candidate as it would be served."""
    packed_ = pack_bundle(
        _model_files(workspace, winner),
        name=loop.name,
        algorithm=winner.algorithm,
        outcome=_outcome(target, winner),
    )
    return open_bundle(packed_)


def evaluated(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    winner: Candidate,
    parts: dict[str, Any],
    *,
    champion: dict[str, Any] | None,
    round_: dict[str, Any],
) -> StepResult:
    """Judge the candidate on the test rows, once, and decide whether it may go live.

    The first model goes live when every criterion's bound holds. In a round of the loop's own the
    challenger must be better than the champion beyond doubt, on the same newest rows. In a round
    that a person caused it must meet the criteria and not be worse.
    """
    _note_test_read(workspace, loop, winner, parts, round_)
    problem = loop.problem
    test = read_part(workspace, parts["test"])
    y = truth(test, target)
    model = _candidate_model(workspace, loop, target, winner)
    answers = as_answers(model.predict_frame(test), target, threshold=winner.threshold)
    metrics = checked_problem(problem, task=target.task)
    judged = verdicts(
        problem.criteria, metrics, y, answers, confidence=problem.confidence, seed=loop.train.seed
    )
    primary = primary_metric(problem, task=target.task)
    figures = {v.figure.metric: v.figure.to_json() for v in judged} or {
        primary.name: figure(primary, y, answers, seed=loop.train.seed).to_json()
    }
    compared = None
    if champion is not None:
        compared = _compared(workspace, loop, target, test, y, answers, champion)
    holds = all(verdict.holds for verdict in judged)
    promoted, conclusion = _decision(
        holds=holds,
        told=_told(judged) or f"{primary.name} {figures[primary.name]['value']:.4g}",
        comparison=compared,
        own=round_["cause"] in OWN_CAUSES,
        title=winner.title,
        n_rows=len(y),
        is_same=champion is not None and champion["predictor"] == winner.members["predictor.npz"],
    )
    return StepResult(
        output={
            "promoted": promoted,
            "conclusion": conclusion,
            "criteria_hold": holds,
            "verdicts": [verdict.to_json() for verdict in judged],
            "figures": figures,
            "comparison": compared.to_json() if compared else None,
            "n_rows": len(y),
        },
        summary=("goes live" if promoted else "does not go live") + f" ({len(y):,} test rows)",
        reason=conclusion,
    )


def _note_test_read(
    workspace: Workspace,
    loop: LoopFile,
    winner: Candidate,
    parts: dict[str, Any],
    round_: dict[str, Any],
) -> None:
    """Record that the test rows were read for this decision."""
    key = f"{loop.name}/{round_['number']:06d}"
    record = workspace.metadata.find("test_read", key)
    reads = record.body["reads"] if record else []
    read = {"rows": parts["test"], "candidate": winner.members["predictor.npz"]}
    if read not in reads:
        workspace.metadata.put("test_read", key, {"reads": [*reads, read]})


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
    said = as_answers(
        old.predict_frame(test[chosen.tolist()]), target, threshold=old.outcome.threshold
    )
    return compare(
        primary_metric(loop.problem, task=target.task),
        y[chosen],
        champion=said,
        challenger=answers.rows(chosen),
        confidence=loop.problem.confidence,
        seed=loop.train.seed,
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


def packed(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    winner: Candidate,
    parts: dict[str, Any],
    judged: dict[str, Any],
) -> StepResult:
    """Pack the model with all it needs to answer, to be judged and to be watched."""
    model = _candidate_model(workspace, loop, target, winner)
    train = read_part(workspace, parts["windows"][winner.window])
    test = read_part(workspace, parts["test"])
    inputs = [field.name for field in model.signature.fields]
    raw = model.predict_frame(test)
    losses = loss_metric(loop.problem, task=target.task).per_row(
        truth(test, target), as_answers(raw, target, threshold=winner.threshold)
    )
    said = [str(value) for value in model.outcome.said(raw)] if raw.ndim == 2 else raw
    reference = build_reference(
        train.select(inputs),
        said,
        losses,
        {field.name: field.kind for field in model.signature.fields},
    )
    members: dict[str, bytes] = {
        **_model_files(workspace, winner),
        "reference.json": canonical_json(reference.to_json()),
        "evaluation.json": canonical_json(
            {"test": judged["figures"], "validation": winner.figures, "n_rows": judged["n_rows"]}
        ),
        "problem.json": canonical_json(msgspec.to_builtins(loop.problem)),
    }
    golden = test.select(inputs).head(_N_GOLDEN).rows(named=True)
    data = pack_bundle(
        members,
        name=loop.name,
        algorithm=winner.algorithm,
        outcome=_outcome(target, winner),
        golden_rows=golden,
    )
    opened = open_bundle(data)
    opened.check_golden()
    digest = workspace.artifacts.put_bytes(data)
    return StepResult(
        output={
            "bundle": digest,
            "version": opened.version,
            "algorithm": winner.algorithm,
            "n_bytes": len(data),
            "learnt_from": [parts["windows"][winner.window], parts["validation"]],
        },
        summary=f"model.tar.gz, version {opened.version}, {len(data) / 1024:,.0f} KiB, no pickles",
        artifacts=(digest,),
    )


def deploy(workspace: Workspace, loop: LoopFile, bundle: dict[str, Any]) -> StepResult | None:
    """See to it that the endpoint serves the bundle; None when it does already."""
    plan = loop.deploy
    if plan is None:
        return None
    folder = workspace.endpoint_folder(plan.endpoint)
    endpoint = Endpoint(plan.endpoint, folder)
    path = str(workspace.artifacts.local_path(bundle["bundle"]).resolve())
    known = read_desired(folder) if endpoint.desired_path.exists() else None
    actual = read_actual(folder)
    wanted = DesiredState(
        name=plan.endpoint,
        bundle=path,
        version=bundle["version"],
        bundle_digest=bundle["bundle"],
        generation=known.generation if known else 1,
        host=plan.host,
        # keep the port over restarts, so that callers find the endpoint again
        port=plan.port or (known.port if known else free_port(plan.host)),
        capture=CaptureSettings(folder=str(endpoint.capture_folder), share=plan.capture_share),
    )
    failed = actual is not None and actual.error_generation == wanted.generation
    if known == wanted and not failed:
        wanted = known
    elif known is not None:
        wanted = msgspec.structs.replace(wanted, generation=known.generation + 1)
    job = workspace.compute.find(f"endpoint/{plan.endpoint}")
    alive = job is not None and not job.state.has_ended
    if job is not None and alive and known is not None and known.port != wanted.port:
        workspace.compute.stop(job.id)  # a listening process cannot move to another port
        alive = False
    if (
        alive
        and known == wanted
        and actual is not None
        and actual.generation == wanted.generation
        and actual.version == wanted.version
    ):
        return None
    workspace.metadata.put("endpoint", plan.endpoint, {"loop": loop.name})
    write_desired(folder, wanted)
    swapped = alive
    if not alive:
        if plan.port is None and _is_taken(plan.host, wanted.port):
            wanted = msgspec.structs.replace(
                wanted, port=free_port(plan.host), generation=wanted.generation + 1
            )
            write_desired(folder, wanted)
        job = workspace.compute.submit(_service(endpoint, loop))
    if job is None:
        raise AssertionError("an endpoint that is not alive was just submitted")
    job_id = job.id
    try:
        state = wait_until_serving(
            folder,
            generation=wanted.generation,
            timeout_s=_START_TIMEOUT_S,
            is_alive=lambda: not workspace.compute.get(job_id).state.has_ended,
        )
    except BackendError as error:
        raise BackendError(
            f"The endpoint {plan.endpoint!r} does not serve the new model. {error.message}",
            hint=f"`loopwright logs {job_id}` shows its log.",
            retryable=True,
        ) from error
    how = "took over between two requests" if swapped else "started"
    return StepResult(
        output={
            "url": f"http://{state.host}:{state.port}",
            "version": state.version,
            "job": job_id,
        },
        summary=f"http://{state.host}:{state.port} serves version {state.version} ({how})",
    )


def end_other_endpoints(workspace: Workspace, loop: LoopFile) -> list[str]:
    """End the endpoints that the loop had under other names, and return those names."""
    kept = loop.deploy.endpoint if loop.deploy else None
    ended = []
    for record in workspace.metadata.list_("endpoint"):
        if record.body["loop"] != loop.name or record.key == kept:
            continue
        job = workspace.compute.find(f"endpoint/{record.key}")
        if job is not None and not job.state.has_ended:
            workspace.compute.stop(job.id)
        workspace.metadata.delete("endpoint", record.key)
        ended.append(record.key)
    return ended


def _is_taken(host: str, port: int) -> bool:
    try:
        check_port(host, port)
    except InvalidInputError:
        return True
    return False


def _service(endpoint: Endpoint, loop: LoopFile) -> JobSpec:
    return JobSpec(
        key=f"endpoint/{endpoint.name}",
        name=endpoint.name,
        kind="endpoint",
        command=endpoint.command,
        resources=Resources(cpus=1, memory="1 GiB"),
        counted=False,
        labels={"loop": loop.name, "endpoint": endpoint.name},
    )


def verified(
    workspace: Workspace,
    loop: LoopFile,
    bundle: dict[str, Any],
    parts: dict[str, Any],
    number: int,
) -> StepResult:
    """Send the test rows through the live endpoint and compare every answer with the table path.

    Raises
    ------
    BackendError
        If an answer differs, or another version gave it.
    """
    if loop.deploy is None:
        raise AssertionError("only a deployed model is tried in place")
    actual = read_actual(workspace.endpoint_folder(loop.deploy.endpoint))
    if actual is None or actual.port is None:
        raise BackendError("The endpoint said nothing of itself.", hint="Run the loop again.")
    model = open_bundle(workspace.artifacts.local_path(bundle["bundle"]))
    test = read_part(workspace, parts["test"])
    today = datetime.now(UTC).date() if model.fitted.uses_today else None
    expected = model.outcome.answers(model.predict_frame(test, today=today))
    rows = test.select([field.name for field in model.signature.fields]).rows(named=True)
    ids = [f"{VERIFY_PREFIX}{number}-{row}" for row in range(len(rows))]
    with EndpointClient(actual.host, actual.port) as client:
        answers = client.invoke_many([_plain(row) for row in rows], inference_ids=ids)
    worst = 0.0
    for row, (answer, wanted) in enumerate(zip(answers, expected, strict=True)):
        gap = _gap(answer, wanted)
        if not gap <= _SAME or str(answer["model_version"]) != bundle["version"]:
            raise BackendError(
                f"The endpoint answers test row {row} with {answer}, not with {wanted}.",
                hint="Do not use this endpoint; run the loop again to deploy once more.",
                row=row,
            )
        worst = max(worst, gap)
    n_same = sum(_gap(a, w) == 0 for a, w in zip(answers, expected, strict=True))
    return StepResult(
        output={"n_rows": len(rows), "n_bit_equal": n_same, "worst_relative_difference": worst},
        summary=f"{len(rows):,} test rows over HTTP: {n_same:,} answers equal to the last bit, "
        f"greatest difference {worst:.1g}",
    )


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, date) else value for name, value in row.items()
    }


def _gap(answer: dict[str, Any], wanted: dict[str, Any]) -> float:
    """Return the greatest relative difference of two answers; infinite where a class differs."""
    gap = 0.0
    for name, value in wanted.items():
        given = answer.get(name)
        if isinstance(value, dict):
            gap = max(gap, _gap(given or {}, value))
        elif isinstance(value, float) and isinstance(given, int | float):
            gap = max(gap, abs(given - value) / max(1.0, abs(value)))
        elif given != value:
            return float("inf")
    return gap
