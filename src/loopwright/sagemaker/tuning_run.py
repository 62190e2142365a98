"""Tuning jobs, carried on step by step: the server looks at them now and then, and any server can."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from loopwright.core.errors import LoopwrightError, NotFoundError, WrongStateError
from loopwright.sagemaker.chore import chore
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.endpoint_record import caller_of
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.image import image_of
from loopwright.sagemaker.training_job import JOBS, begin_training, tell_to_end
from loopwright.sagemaker.training_order import training_spec
from loopwright.sagemaker.tuning_child import (
    TUNERS,
    Child,
    Children,
    child_name,
    child_of,
    definitions_of,
)
from loopwright.sagemaker.tuning_order import (
    grid_sizes,
    n_jobs,
    parents_of,
    search_of,
    training_request,
)
from loopwright.sagemaker.tuning_search import Tried, falls_behind, is_enough, leaves_rung
from loopwright.store import Record

_log = logging.getLogger(__name__)
# so many failures before the first result, and the search gives up
_MOST_FAILURES = 10
ALL_FAILED = "All training jobs failed. Please take a look at the training jobs failures to get more details."
_children = Children()


@chore(0.2)
def advance_all(desk: Desk) -> None:
    """Carry on every tuning job that has not ended."""
    for record in TUNERS.all(desk):
        if record.body.get("ends"):
            continue
        try:
            advance(desk, record)
        except (WrongStateError, NotFoundError):
            continue  # it was changed in this moment; the next turn sees how
        except (ApiError, LoopwrightError) as error:
            _log.warning("The tuning job %s fails: %s", record.body["name"], error)
            _fail(desk, record, str(error))


def children_of(desk: Desk, record: Record) -> list[Child]:
    """Return the training jobs of a tuning job, the first one first."""
    return _children.of(desk, caller_of(record), record)


def advance(desk: Desk, record: Record) -> None:
    """Look at the training jobs of a tuning job, end what falls behind, begin what there is room for."""
    caller, request = caller_of(record), record.body["request"]
    children = [_begun(desk, caller, record, each) for each in _children.of(desk, caller, record)]
    running = [each for each in children if not each.has_ended]
    reason = _reason_to_end(desk, record, children)
    if reason or record.body.get("stopping"):
        for each in running:
            _stop(desk, each)
        if not running:
            _end(desk, record, children, "Stopped" if record.body.get("stopping") else "Completed")
        return
    for each in running:
        if _is_beaten(request, each, children):
            _stop(desk, each)
    limits = request["HyperParameterTuningJobConfig"]["ResourceLimits"]
    while len(children) < n_jobs(request) and len(running) < limits["MaxParallelTrainingJobs"]:
        child = _next(desk, caller, record, children)
        children.append(child)
        running.append(child)
    if not running:
        _end(desk, record, children, "Completed")


def _reason_to_end(desk: Desk, record: Record, children: Sequence[Child]) -> str:
    config = record.body["request"]["HyperParameterTuningJobConfig"]
    limit = config["ResourceLimits"].get("MaxRuntimeInSeconds")
    if limit and (desk.now() - record.created_at).total_seconds() >= limit:
        return "its time is up"
    values = [each.value for each in children]
    maximizes = bool(children) and children[0].objective[1] == "Maximize"
    if is_enough(config.get("TuningJobCompletionCriteria", {}), values, maximizes=maximizes):
        return "it has seen enough"
    n_failed = sum(each.status == "Failed" for each in children)
    is_hopeless = n_failed >= _MOST_FAILURES and not any(value is not None for value in values)
    return "all of its jobs fail" if is_hopeless else ""


def _is_beaten(request: dict[str, Any], child: Child, children: Sequence[Child]) -> bool:
    """Tell whether a job that runs is to be ended early."""
    config = request["HyperParameterTuningJobConfig"]
    if child.status != "InProgress" or not child.curve:
        return False
    maximizes = child.objective[1] == "Maximize"
    others = [
        each
        for each in children
        if each.number != child.number and each.objective == child.objective
    ]
    if config.get("TrainingJobEarlyStoppingType") == "Auto":
        curves = [each.curve for each in others if each.status == "Completed"]
        return falls_behind(child.curve, curves, maximizes=maximizes)
    if config["Strategy"] != "Hyperband":
        return False
    about = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
    return leaves_rung(
        child.curve,
        [each.curve for each in others],
        maximizes=maximizes,
        least=about.get("MinResource", 1),
        most=about.get("MaxResource", 1 << 30),
    )


def _next(desk: Desk, caller: Caller, record: Record, children: Sequence[Child]) -> Child:
    """Begin the next training job; its name is the same however often this is tried."""
    request = record.body["request"]
    place = _next_definition(request, children)
    definition = definitions_of(request)[place]
    own = [each for each in children if each.definition == place]
    earlier = _earlier(desk, caller, record)
    texts = search_of(request, place).next([each.tried() for each in own], earlier=earlier)
    number = len(children)
    name = child_name(record, number)
    tuning = {
        "arn": record.body["arn"],
        "number": number,
        "definition": place,
        "definition_name": definition.get("DefinitionName"),
        "tuned": texts,
    }
    wanted = training_request(request, place, texts, name=name)
    try:
        started = begin_training(desk, caller, wanted, tuning=tuning)
    except ApiError as error:
        known = JOBS.find(desk, caller, name)
        if error.code != JOBS.taken_code or known is None or "tuning" not in known.body:
            raise
        started = known  # another server was as quick
    return child_of(desk, record, started)


def _next_definition(request: dict[str, Any], children: Sequence[Child]) -> int:
    """Return the place of the definition of which there are the fewest jobs so far."""
    n = len(definitions_of(request))
    counts = [sum(each.definition == place for each in children) for place in range(n)]
    places = list(range(n))
    if request["HyperParameterTuningJobConfig"]["Strategy"] == "Grid":
        sizes = grid_sizes(request)
        places = [place for place in places if counts[place] < sizes[place]]
    return min(places, key=lambda place: (counts[place], place))


def _earlier(desk: Desk, caller: Caller, record: Record) -> list[Tried]:
    """Return what the searches found that this one is to learn from."""
    found: list[Tried] = []
    for parent in parents_of(desk, caller, record.body["request"]):
        found += [each.tried() for each in _children.of(desk, caller, parent) if each.has_ended]
    return found


def _begun(desk: Desk, caller: Caller, record: Record, child: Child) -> Child:
    """Return a child, submitted again if the server ended between noting and starting it."""
    if child.job is not None or child.has_ended:
        return child
    request = child.record.body["request"]
    image = image_of(request["AlgorithmSpecification"].get("TrainingImage", ""))
    arn = child.record.body["arn"]
    desk.workspace.compute.submit(training_spec(desk, caller, request, arn=arn, image=image))
    return child_of(desk, record, child.record)


def _stop(desk: Desk, child: Child) -> None:
    if child.status == "InProgress" and child.job is not None and not child.job.state.has_ended:
        tell_to_end(desk, child.job)


def _end(desk: Desk, record: Record, children: Sequence[Child], status: str) -> None:
    reason = ""
    if status == "Completed" and children and all(each.status == "Failed" for each in children):
        status, reason = "Failed", ALL_FAILED
    _write_end(desk, record, status, reason)


def _write_end(desk: Desk, record: Record, status: str, reason: str) -> None:
    ends = {"status": status, "reason": reason, "at": desk.now()}
    TUNERS.change(desk, record, ends=ends)


def _fail(desk: Desk, record: Record, reason: str) -> None:
    """End a tuning job whose next training job cannot be started."""
    for each in children_of(desk, record):
        _stop(desk, each)
    try:
        _write_end(desk, record, "Failed", reason[:1024])
    except (WrongStateError, NotFoundError):
        _log.warning("The tuning job %s was changed meanwhile.", record.body["name"])


def delete_record(desk: Desk, record: Record) -> None:
    """Forget a tuning job; its training jobs stay."""
    _children.forget(children_of(desk, record))
    TUNERS.delete(desk, record)
