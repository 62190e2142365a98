"""An execution of a pipeline as it is kept, and which of its steps can begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.pipeline.definition import Definition, Step, parse
from loopwright.store import Record

KIND = "sagemaker/pipeline-execution"
LIVE = "sagemaker/pipeline-execution-live"
GOING = ("Starting", "Executing", "Stopping")
"""The states of a step that has begun and not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """An execution as it was when it was read.

    Parameters
    ----------
    caller
        As whom its steps are carried out.
    key
        Of its record: account, region, pipeline, id.
    """

    desk: Desk
    caller: Caller
    key: str
    body: Mapping[str, Any]
    created_at: str
    definition: Definition

    @property
    def steps(self) -> Mapping[str, Mapping[str, Any]]:
        """The states of the steps that have begun, by their names."""
        found: Mapping[str, Mapping[str, Any]] = self.body["steps"]
        return found


def run_of(desk: Desk, record: Record) -> Run:
    """Return the execution of a record."""
    account, region, _ = record.key.split("/", 2)
    return Run(
        desk=desk,
        caller=Caller(access_key="", account=account, region=region),
        key=record.key,
        body=record.body,
        created_at=record.created_at.isoformat(),
        definition=parse(record.body["definition"]),
    )


def find_run(desk: Desk, key: str) -> Run | None:
    """Return an execution by the key of its record, or None."""
    record = desk.workspace.metadata.find(KIND, key)
    return run_of(desk, record) if record else None


def changed(run: Run, change: Callable[[dict[str, Any]], None]) -> Run:
    """Return an execution after a change to what is kept of it now, whoever wrote it last."""
    store = run.desk.workspace.metadata
    with store.transaction():
        record = store.get(KIND, run.key)
        body = {**record.body, "modified_at": run.desk.now().isoformat()}
        body["steps"] = {name: dict(state) for name, state in body["steps"].items()}
        change(body)
        return run_of(run.desk, store.replace(record, body))


def with_step(run: Run, name: str, **state: Any) -> Run:
    """Return an execution after a change to the state of a step."""

    def change(body: dict[str, Any]) -> None:
        body["steps"][name] = {**body["steps"].get(name, {}), **state}

    return changed(run, change)


def going(run: Run) -> list[str]:
    """Return the steps that have begun and not ended."""
    return [name for name, state in run.steps.items() if state["status"] in GOING]


def has_failed(run: Run) -> bool:
    """Return whether a step has."""
    return any(state["status"] == "Failed" for state in run.steps.values())


def ready(run: Run) -> list[Step]:
    """Return the steps that can begin now, as many as may run at once."""
    found = [
        step
        for step in _in_play(run)
        if step.name not in run.steps and all(_is_past(run, name) for name in step.needs)
    ]
    most = run.body.get("parallel")
    return found if not most else found[: max(0, most - len(going(run)))]


def _in_play(run: Run) -> Iterator[Step]:
    """Yield the steps that no condition has ruled out so far."""
    selected = run.body.get("selected")
    for step in run.definition.steps.values():
        if selected is not None:
            if step.name in selected and (step.parent not in selected or _is_chosen(run, step)):
                yield step
        elif not step.parent or _is_chosen(run, step):
            yield step


def _is_chosen(run: Run, step: Step) -> bool:
    state = run.steps.get(step.parent)
    return state is not None and state.get("outcome") == step.branch


def _is_past(run: Run, name: str) -> bool:
    """Return whether a step has succeeded; of a condition, the branch that it chose as well."""
    selected = run.body.get("selected")
    state = run.steps.get(name)
    if state is None:
        # what was not selected is not waited for
        return selected is not None and name not in selected
    if state["status"] != "Succeeded":
        return False
    step = run.definition.steps[name]
    if step.kind != "Condition":
        return True
    return all(
        _is_past(run, each.name)
        for each in run.definition.steps.values()
        if each.parent == name and each.branch == state.get("outcome")
    )
