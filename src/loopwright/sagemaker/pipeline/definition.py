"""A pipeline definition, as the SDKs write it: checked, and taken apart into its steps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.model import operation
from loopwright.sagemaker.pipeline.condition import check_condition
from loopwright.sagemaker.pipeline.duration import seconds_of
from loopwright.sagemaker.pipeline.expression import is_expression, path_of, references
from loopwright.sagemaker.pipeline.retry import check_policy
from loopwright.sagemaker.pipeline.step_kind import CHECKS, KINDS, OWN

_VERSION = "2020-12-01"
_TYPES = ("String", "Integer", "Float", "Boolean")
_MOST_STEPS = 500
_EXECUTION = (
    "PipelineExecutionId",
    "PipelineExecutionArn",
    "PipelineName",
    "PipelineArn",
    "StartDateTime",
    "CurrentDateTime",
    "TrainingJobName",
    "ProcessingJobName",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step.

    Parameters
    ----------
    arguments
        As the definition has them, with expressions in them.
    needs
        The names of the steps that must have succeeded before.
    refers
        Those of them whose properties it reads.
    parent, branch
        The condition step that it belongs to and the side of it, `if` or `else`; empty for none.
    """

    name: str
    kind: str
    arguments: Mapping[str, Any]
    needs: frozenset[str]
    refers: frozenset[str]
    about: Mapping[str, Any]
    parent: str = ""
    branch: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A pipeline: its steps, those within conditions too, and its parameters by their names."""

    steps: Mapping[str, Step]
    parameters: Mapping[str, Mapping[str, Any]]
    experiment: Mapping[str, Any] | None


def bad(message: str) -> ApiError:
    """Return the refusal of a definition, as AWS words it."""
    return validation(f"Unable to parse pipeline definition. {message}")


@lru_cache(maxsize=64)
def parse(text: str) -> Definition:
    """Return the definition that a text says.

    Raises
    ------
    ApiError
        With what is wrong, and at which step.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad(f"It is no JSON: {error}.") from error
    try:
        return _parsed(value)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        # a value of another type than all definitions have there
        raise bad(f"Something in it has a wrong type: {error}.") from error


def _parsed(value: Any) -> Definition:
    if not isinstance(value, dict):
        raise bad("Expecting start of Json Object.")
    if value.get("Version") != _VERSION:
        raise bad(f"The version {value.get('Version')!r} is not known; there is {_VERSION!r}.")
    found = list(_steps(_listed(value, "Steps"), "", ""))
    steps = {each.name: each for each in found}
    if not found:
        raise bad("There are no steps.")
    if len(found) > _MOST_STEPS:
        raise bad(f"There are {len(found)} steps; {_MOST_STEPS} are possible.")
    if len(steps) < len(found):
        names = [each.name for each in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise bad(f"Step names must be unique; these are not: {', '.join(twice)}.")
    parameters = _parameters(_listed(value, "Parameters"))
    definition = Definition(
        steps=steps, parameters=parameters, experiment=value.get("PipelineExperimentConfig")
    )
    _check_references(definition)
    _check_order(definition)
    return definition


def _listed(value: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = value.get(name) or []
    if not isinstance(found, list):
        raise bad("Expecting start of Json Array.")
    for each in found:
        if not isinstance(each, dict):
            raise bad("Expecting start of Json Object.")
    return found


def _parameters(listed: list[dict[str, Any]]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for each in listed:
        name, kind = each.get("Name"), each.get("Type")
        if not isinstance(name, str) or not name:
            raise bad("A parameter has no name.")
        if kind not in _TYPES:
            raise bad(f"The parameter {name!r} has the unknown type {kind!r}.")
        if name in found:
            raise bad(f"Parameter names must be unique; {name!r} is not.")
        found[name] = each
        if each.get("DefaultValue") is not None:
            value_of_parameter(each, each["DefaultValue"])
    return found


def value_of_parameter(parameter: Mapping[str, Any], given: Any) -> Any:
    """Return a value of a parameter with the type it declares.

    Raises
    ------
    ApiError
        If it is no such value, or none of those that are possible.
    """
    name, kind = parameter["Name"], parameter["Type"]
    value: Any = given
    try:
        if kind == "String":
            value = given if isinstance(given, str) else json.dumps(given)
        elif kind == "Boolean":
            value = {"true": True, "false": False}[str(given).lower()]
        elif isinstance(given, bool):
            raise ValueError
        elif kind == "Integer":
            value = int(given)
            if value != float(given):
                raise ValueError
        else:
            value = float(given)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise validation(
            f"Assigned value [{given}] for parameter [{name}] must be a valid {kind}."
        ) from error
    known = parameter.get("EnumValues")
    if known and value not in known:
        raise validation(f"Assigned value [{given}] for parameter [{name}] must be one of {known}.")
    return value


def _steps(listed: list[dict[str, Any]], parent: str, branch: str) -> Iterator[Step]:
    for each in listed:
        name, kind = each.get("Name"), each.get("Type")
        arguments = each.get("Arguments") or {}
        if not isinstance(name, str) or not name:
            raise bad("A step has no name.")
        if not isinstance(arguments, dict):
            raise bad("Expecting start of Json Object.")
        if kind not in KINDS and kind not in OWN:
            raise bad(_not_there(name, str(kind)))
        _check_step(name, str(kind), each, arguments)
        nested = _branches(name, arguments) if kind == "Condition" else []
        own = {k: v for k, v in arguments.items() if k not in ("IfSteps", "ElseSteps")}
        reads = [own, beside(each)]
        refers = frozenset(
            str(path[1]) for path in references(reads) if path[0] == "Steps" and len(path) > 1
        )
        said = _waited_for(name, each.get("DependsOn") or ())
        yield Step(
            name=name,
            kind=str(kind),
            arguments=own,
            needs=refers | frozenset(said),
            refers=refers,
            about=each,
            parent=parent,
            branch=branch,
        )
        yield from nested


def _waited_for(name: str, listed: Iterable[Any]) -> list[str]:
    for each in listed:
        if isinstance(each, dict):
            raise bad(
                f"The step {name!r} has a DependsOn with a Trigger, which is not supported yet by "
                "loopwright: a step begins when those before it have succeeded."
            )
    return [str(each).removeprefix("Steps.") for each in listed]


def beside(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a step beside its arguments, in which expressions may be too."""
    return {name: value for name, value in about.items() if name != "Arguments"}


def _not_there(name: str, kind: str) -> str:
    known = ", ".join([*KINDS, *OWN])
    instead = " There is no cluster of EMR here: use a Processing step." if "EMR" in kind else ""
    return (
        f"The step {name!r} is of the type {kind!r}, which is not supported yet by loopwright; "
        f"there are {known}.{instead}"
    )


def _branches(name: str, arguments: Mapping[str, Any]) -> list[Step]:
    return [
        *_steps(_listed(arguments, "IfSteps"), name, "if"),
        *_steps(_listed(arguments, "ElseSteps"), name, "else"),
    ]


def _check_step(
    name: str, kind: str, about: Mapping[str, Any], arguments: Mapping[str, Any]
) -> None:
    if kind == "Condition":
        conditions = arguments.get("Conditions")
        if not isinstance(conditions, list) or not conditions:
            raise bad(f"The step {name!r} has no conditions.")
        for each in conditions:
            check_condition(each)
    elif kind == "Lambda":
        _check_function(name, about)
    elif kind in KINDS:
        _check_members(operation("sagemaker", KINDS[kind].create).input_shape, arguments)
        if kind in CHECKS and about.get("CheckType") not in CHECKS[kind]:
            raise bad(
                f"The step {name!r} has the CheckType {about.get('CheckType')!r}; there are "
                f"{', '.join(CHECKS[kind])}."
            )
        if kind == "RegisterModel" and "ModelPackageName" in arguments:
            raise bad("Unknown Argument member 'ModelPackageName'.")
    cache = about.get("CacheConfig") or {}
    if cache.get("Enabled") and cache.get("ExpireAfter"):
        seconds_of(str(cache["ExpireAfter"]))
    for policy in about.get("RetryPolicies") or ():
        check_policy(name, policy)


def _check_function(name: str, about: Mapping[str, Any]) -> None:
    arn, outputs = about.get("FunctionArn"), about.get("OutputParameters") or []
    if not arn or not (isinstance(arn, str) or is_expression(arn)):
        raise bad(f"The step {name!r} has no FunctionArn.")
    for each in outputs:
        if not isinstance(each.get("OutputName"), str) or each.get("OutputType") not in _TYPES:
            raise bad(f"The step {name!r} has an output without a name, or of an unknown type.")


def _check_members(shape: Any, value: Any) -> None:
    """Refuse members that the operation of a step does not know."""
    if is_expression(value):
        return
    if shape.type_name == "structure" and isinstance(value, dict):
        for name, each in value.items():
            if name not in shape.members:
                raise bad(f"Unknown Argument member '{name}'.")
            _check_members(shape.members[name], each)
    elif shape.type_name == "structure" and isinstance(value, list | str):
        raise bad("Expecting start of Json Object.")
    elif shape.type_name == "list":
        if value is not None and not isinstance(value, list):
            raise bad("Expecting start of Json Array.")
        for each in value or ():
            _check_members(shape.member, each)


def _check_references(definition: Definition) -> None:
    steps = definition.steps
    for step in steps.values():
        for name in step.needs:
            if name not in steps:
                raise bad(f"The step {step.name!r} depends on {name!r}, which is no step.")
        for path in references([step.arguments, beside(step.about)]):
            _check_path(definition, step, path)
    for path in references([definition.experiment]):
        if path[0] != "Execution":
            raise bad("The experiment of a pipeline can only refer to its execution.")


def _check_path(definition: Definition, step: Step, path: list[str | int]) -> None:
    shown = ".".join(str(part) for part in path)
    if path[0] == "Parameters" and len(path) == 2:
        if path[1] not in definition.parameters:
            raise bad(f"The step {step.name!r} refers to {path[1]!r}, which is no parameter.")
    elif path[0] == "Execution" and len(path) == 2:
        if path[1] not in _EXECUTION:
            raise bad(f"The step {step.name!r} refers to {shown!r}, which is not known.")
    elif path[0] == "Steps" and len(path) > 2:
        other = definition.steps[str(path[1])]
        if path[2] == "PropertyFiles":
            names = [each.get("PropertyFileName") for each in other.about.get("PropertyFiles", ())]
            if len(path) != 4 or path[3] not in names:
                raise bad(f"The step {step.name!r} refers to {shown!r}, which is no property file.")
    else:
        raise bad(f"The step {step.name!r} refers to {shown!r}, which is not known.")


def _check_order(definition: Definition) -> None:
    """Refuse steps that wait for each other."""
    done: set[str] = set()
    left = dict(definition.steps)
    while left:
        ready = [
            name
            for name, step in left.items()
            if step.needs <= done and (not step.parent or step.parent in done)
        ]
        if not ready:
            raise bad(f"These steps wait for each other: {', '.join(sorted(left))}.")
        for name in ready:
            done.add(name)
            del left[name]


def property_file(definition: Definition, text: str) -> tuple[Step, Mapping[str, Any]]:
    """Return the step and the description of the property file that a reference names."""
    path = path_of(text)
    step = definition.steps.get(str(path[1])) if len(path) == 4 else None
    for each in step.about.get("PropertyFiles", ()) if step else ():
        if step and each.get("PropertyFileName") == path[3]:
            return step, each
    raise validation(f"{text!r} is no property file.")
