"""Operations called from within the server, checked and answered as if a client had asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from loopwright.core.errors import LoopwrightError
from loopwright.sagemaker.checking import check
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, of_loop
from loopwright.sagemaker.model import operation
from loopwright.sagemaker.parsing import json_input
from loopwright.sagemaker.registry import find_served
from loopwright.sagemaker.tag import check_tags
from loopwright.sagemaker.writing import json_answer

_SERVICE = "sagemaker"


def called(desk: Desk, caller: Caller, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an operation answers, in the form in which clients get it.

    Parameters
    ----------
    name
        Of an operation of SageMaker's control plane, such as `CreateTrainingJob`.
    given
        The request, as JSON has it.

    Raises
    ------
    ApiError
        With what a client would be told.
    """
    model = operation(_SERVICE, name)
    request = json_input(model.input_shape, json.dumps(given).encode())
    check(model.input_shape, request)
    check_tags(request)
    served = find_served(_SERVICE, name)
    if served is None:
        raise ApiError(
            "UnsupportedOperationException",
            f"{_SERVICE}:{name} is not supported yet by loopwright.",
            status=501,
        )
    try:
        value = served.handler(desk, caller, request)
    except LoopwrightError as error:
        raise of_loop(error) from error
    body = json_answer(model.output_shape, value, request_id="").body
    found: dict[str, Any] = json.loads(body) if isinstance(body, bytes) else {}
    return found


def fitted(shape: Any, value: Any) -> Any:
    """Return a value with the types that a shape asks for, where text and numbers say the same.

    A pipeline writes a parameter that is a number where a request wants text, and the other way
    round; what does not fit is left as it is, and refused where the request is checked.
    """
    kind = shape.type_name
    if kind == "structure" and isinstance(value, dict):
        return {
            name: fitted(shape.members[name], each) if name in shape.members else each
            for name, each in value.items()
        }
    if kind == "list" and isinstance(value, list):
        return [fitted(shape.member, each) for each in value]
    if kind == "map" and isinstance(value, dict):
        return {name: fitted(shape.value, each) for name, each in value.items()}
    if kind == "string" and isinstance(value, bool | int | float):
        return json.dumps(value)
    if kind in ("integer", "long", "float", "double") and isinstance(value, str):
        return _number(value, is_whole=kind in ("integer", "long"))
    if kind == "boolean" and value in ("true", "false", "True", "False"):
        return value.lower() == "true"
    return value


def _number(text: str, *, is_whole: bool) -> Any:
    try:
        return int(text) if is_whole else float(text)
    except ValueError:
        return text
