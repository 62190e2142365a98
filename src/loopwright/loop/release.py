"""From a model that may go live to a live one: packed, deployed, tried in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.compute import Job, JobSpec, Resources
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
    most_workers,
    read_actual,
    read_desired,
    wait_until_serving,
    write_desired,
)
from loopwright.loop.approval import check_released
from loopwright.loop.candidate import Candidate, candidate_model, model_files, outcome_of
from loopwright.loop.file import LoopFile
from loopwright.loop.framing import read_part, truth
from loopwright.loop.gathering import VERIFY_PREFIX
from loopwright.loop.judging import as_answers, loss_metric
from loopwright.loop.live_sample import reference_rows_member
from loopwright.loop.refitting import refit_of
from loopwright.loop.sourcing import Target
from loopwright.loop.step import StepResult
from loopwright.loop.workspace import Workspace
from loopwright.monitor import Timing, build_reference
from loopwright.train import open_bundle, pack_bundle
from loopwright.train.reason import EXPLANATION_MEMBER

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_N_GOLDEN = 5
START_TIMEOUT_S = 60.0
# the endpoint's row path and the table path may differ in the last bits of a logarithm
_SAME = 1e-9


def packed(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    winner: Candidate,
    parts: dict[str, Any],
    judged: dict[str, Any],
    *,
    explanation: str,
    importances: Mapping[str, float] | None = None,
    again: Mapping[str, Any] | None = None,
) -> StepResult:
    """Pack the model with all it needs to answer, to explain, to be judged and to be watched.

    With `again`, what `fitted_again` returned, the fit on all rows answers. What it is watched and
    estimated by stays what the judged fit said to rows it never saw: of its own there are none.
    """
    served = refit_of(winner, again)
    model = candidate_model(workspace, loop, target, winner)
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
        importances=importances,
        answered=test.select(inputs),
        season=loop.monitor.season,
        times=row_times(loop, train, test, inputs),
        segments=loop.monitor.segments,
        window_rows=loop.monitor.window_rows,
    )
    explains = workspace.artifacts.get_bytes(again["member"] if again else explanation)
    y, seed = truth(test, target), loop.train.seed
    members: dict[str, bytes] = {
        **model_files(workspace, served),
        **reference_rows_member(
            candidate_model(workspace, loop, target, served) if again else model,
            reference,
            train,
            test,
            raw,
            y,
            explains=explains,
            seed=seed,
        ),
        "reference.json": canonical_json(reference.to_json()),
        EXPLANATION_MEMBER: explains,
        "evaluation.json": canonical_json(
            {
                "test": judged["figures"],
                "validation": winner.figures,
                "n_rows": judged["n_rows"],
                **({"fitted_again": _about_refit(again)} if again else {}),
            }
        ),
        "problem.json": canonical_json(msgspec.to_builtins(loop.problem)),
    }
    golden = test.select(inputs).head(_N_GOLDEN).rows(named=True)
    data = pack_bundle(
        members,
        name=loop.name,
        algorithm=winner.algorithm,
        outcome=outcome_of(target, winner),
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
            "learnt_from": [
                again["rows"] if again else parts["windows"][winner.window],
                parts["validation"],
                *([parts["test"]] if again else []),
            ],
        },
        summary=f"model.tar.gz, version {opened.version}, {len(data) / 1024:,.0f} KiB, no pickles",
        artifacts=(digest,),
    )


def _about_refit(again: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a bundle tells of a model that was fitted again after it was judged."""
    return {
        "n_rows": again["n_rows"],
        "told": again["told"],
        "beside_the_judged_fit": again["evidence"],
    }


def row_times(
    loop: LoopFile, train: pl.DataFrame, test: pl.DataFrame, inputs: Sequence[str]
) -> Timing | None:
    """Return when rows were, where the split says which column tells; not every date does."""
    column = loop.data.split.column
    if loop.data.split.by != "time" or column is None or column not in train.columns:
        return None
    if not (train[column].dtype.is_temporal() or train[column].dtype == pl.String):
        return None  # a running number has no hours
    return Timing(
        at=train[column],
        column=column if column in inputs else None,
        answers_at=test[column] if column in test.columns else None,
    )


def deploy(workspace: Workspace, loop: LoopFile, bundle: dict[str, Any]) -> StepResult | None:
    """See to it that the endpoint serves the bundle; None when it does already.

    Raises
    ------
    WrongStateError
        If neither a person nor the policy approved the bundle.
    """
    plan = loop.deploy
    if plan is None:
        return None
    check_released(workspace, loop.name, bundle["bundle"])
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
        workers=plan.workers,
        unknown_columns=plan.unknown_columns,
        unseen_categories=plan.unseen_categories,
    )
    failed = actual is not None and actual.error_generation == wanted.generation
    if known == wanted and not failed:
        wanted = known
    elif known is not None:
        wanted = msgspec.structs.replace(wanted, generation=known.generation + 1)
    job = workspace.compute.find(f"endpoint/{plan.endpoint}")
    alive = job is not None and not job.state.has_ended
    fixed = ("port", "workers")
    if (
        job is not None
        and alive
        and known is not None
        and any(getattr(known, field) != getattr(wanted, field) for field in fixed)
    ):
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
        job = workspace.compute.submit(service_job(endpoint, loop))
    if job is None:
        raise AssertionError("an endpoint that is not alive was just submitted")
    try:
        state = wait_until_serving(
            folder,
            generation=wanted.generation,
            timeout_s=START_TIMEOUT_S,
            is_alive=lambda: _is_alive(workspace, endpoint),
            restart=lambda: restart_endpoint(workspace, loop, endpoint),
        )
    except BackendError as error:
        raise BackendError(
            f"The endpoint {plan.endpoint!r} does not serve the new model. {error.message}",
            hint=f"`loopwright logs {job.id}` shows its log.",
            retryable=True,
        ) from error
    how = "took over between two requests" if swapped else "started"
    return StepResult(
        output={
            "url": f"http://{state.host}:{state.port}",
            "version": state.version,
            "job": job.id,
        },
        summary=f"http://{state.host}:{state.port} serves version {state.version} ({how})",
    )


def restart_endpoint(workspace: Workspace, loop: LoopFile, endpoint: Endpoint) -> Job:
    """End an endpoint's process and start one of the release that is installed now."""
    job = workspace.compute.find(f"endpoint/{endpoint.name}")
    if job is not None and not job.state.has_ended:
        workspace.compute.stop(job.id)
    return workspace.compute.submit(service_job(endpoint, loop))


def _is_alive(workspace: Workspace, endpoint: Endpoint) -> bool:
    job = workspace.compute.find(f"endpoint/{endpoint.name}")
    return job is not None and not job.state.has_ended


def crowned(workspace: Workspace, loop: LoopFile, round_: dict[str, Any]) -> None:
    """Record a round's model as the champion; the same round crowns the same model once."""
    record, model = workspace.metadata.find("champion", loop.name), round_["waiting"]
    before = record.body if record else None
    if before is not None and before["round"] == round_["number"]:
        return
    champion = {
        "round": round_["number"],
        "version": model["version"],
        "bundle": model["bundle"],
        "algorithm": model["algorithm"],
        "drop": list(loop.prepare.drop),
        "figures": model["figures"],
        "predictor": model["predictor"],
        **({"judged": model["judged"]} if model.get("judged") else {}),
        "learnt_from": model["learnt_from"],
        "learnt_until": (round_["live"] or {}).get("until"),
        "since": workspace.clock.now().isoformat(),
        "before": {**before, "before": None} if before else None,
    }
    metadata = workspace.metadata
    with metadata.transaction():
        metadata.put("champion", loop.name, champion)
        metadata.append(
            f"loop/{loop.name}",
            "champion",
            {"round": round_["number"], "version": model["version"]},
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


def service_job(endpoint: Endpoint, loop: LoopFile) -> JobSpec:
    """Return the job that is the endpoint's process."""
    n_workers = most_workers(loop.deploy.workers) if loop.deploy else 1
    return JobSpec(
        key=f"endpoint/{endpoint.name}",
        name=endpoint.name,
        kind="endpoint",
        command=endpoint.command,
        resources=Resources(cpus=1, memory=f"{1 + n_workers // 4} GiB"),
        counted=False,
        labels={"loop": loop.name, "endpoint": endpoint.name},
    )


def verified(
    workspace: Workspace,
    loop: LoopFile,
    bundle: dict[str, Any],
    parts: dict[str, Any],
    number: int,
    *,
    variant: str | None = None,
) -> StepResult:
    """Send the test rows through the live endpoint and compare every answer with the table path.

    `variant` names the one to ask where the endpoint has several.

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
        answers = client.invoke_many(
            [plain_row(row) for row in rows], inference_ids=ids, variant=variant
        )
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


def plain_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of a table as a request would hold it."""
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
