"""Steps that call a function: `Lambda`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loopwright.sagemaker.error import validation
from loopwright.sagemaker.function.invocation import begin_call, call_key, outcome_of
from loopwright.sagemaker.function.record import get_function
from loopwright.sagemaker.pipeline.definition import Step
from loopwright.sagemaker.pipeline.run import Run
from loopwright.sagemaker.training_job import tell_to_end
from loopwright.store import Record

_MOST_SHOWN = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a step calls: the function, and the event as JSON."""

    function: Record
    event: str

    @property
    def compared(self) -> dict[str, Any]:
        """What two calls agree in when one can stand for the other: the code as well."""
        body = self.function.body
        return {"FunctionArn": body["arn"], "Event": self.event, "Code": body["sha"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a call ended: its outputs, or why it failed."""

    outputs: list[dict[str, str]] = field(default_factory=list)
    failure: str = ""


def call_of(run: Run, about: Mapping[str, Any], event: Any) -> Call:
    """Return what a step calls in this execution.

    Parameters
    ----------
    about
        The members of the step beside its arguments, with the values they have.

    Raises
    ------
    ApiError
        If there is no such function.
    """
    function = get_function(run.desk, run.caller, str(about.get("FunctionArn") or ""))
    return Call(function=function, event=json.dumps(event))


def begin(run: Run, call: Call, request: str) -> None:
    """Start a call; of one request there is one, however often it is begun."""
    begin_call(run.desk, run.caller, call.function, call.event.encode(), request=request)


def answer_of(run: Run, step: Step, request: str) -> Answer | None:
    """Return how a call ended, or None while it goes on."""
    job = run.desk.workspace.compute.find(call_key(request))
    if job is None:
        return Answer(failure="InternalServerError: The call of the function was lost.")
    if not job.state.has_ended:
        return None
    said = outcome_of(job)
    try:
        value = json.loads(said.payload)
    except ValueError:
        return Answer(failure="ClientError: The Lambda function returned no JSON.")
    if said.error:
        told = f"{value.get('errorType', said.error)}: {value.get('errorMessage', '')}"
        return Answer(failure=f"ClientError: The Lambda function failed: {told[:_MOST_SHOWN]}")
    wanted = [str(each.get("OutputName")) for each in step.about.get("OutputParameters") or ()]
    found = value if isinstance(value, dict) else {}
    missing = [name for name in wanted if name not in found]
    if missing:
        shown = ", ".join(map(str, found)) or "none"
        return Answer(
            failure=f"ClientError: The Lambda function did not return the outputs "
            f"[{', '.join(missing)}]; it returned [{shown[:_MOST_SHOWN]}]."
        )
    return Answer(outputs=[{"Name": name, "Value": _text(found[name])} for name in wanted])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def stop(run: Run, request: str) -> None:
    """Tell a call to end."""
    job = run.desk.workspace.compute.find(call_key(request))
    if job is not None and not job.state.has_ended:
        tell_to_end(run.desk, job)


def typed_outputs(step: Step, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs of a step with the types that it declares, by their names."""
    kinds = {
        each.get("OutputName"): each.get("OutputType")
        for each in step.about.get("OutputParameters") or ()
    }
    return {
        each["Name"]: _typed(each["Value"], str(kinds.get(each["Name"])), each["Name"])
        for each in state.get("outputs", ())
    }


def _typed(text: str, kind: str, name: str) -> Any:
    try:
        if kind == "Integer":
            return int(text)
        if kind == "Float":
            return float(text)
        if kind == "Boolean":
            return {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError) as error:
        raise validation(f"The output {name!r} is {text[:100]!r}, which is no {kind}.") from error
    return text
