"""What a request asks for beside its answers: `?with=interval&errors=row`, or attributes of its head."""

from __future__ import annotations

from urllib.parse import unquote_plus

from loopwright.core.errors import InvalidInputError
from loopwright.deploy.message import Request

# SageMaker passes a caller's own attributes on in this header, and no query
ATTRIBUTES_HEADER = b"x-amzn-sagemaker-custom-attributes"
_WITH, _ERRORS = "with", "errors"
_KEYS = (_WITH, _ERRORS)
_MOST_NAMES = 16
_NOTHING: tuple[tuple[str, ...], bool] = ((), False)


def wishes(request: Request) -> tuple[tuple[str, ...], bool]:
    """Return the names of what is to be added to each answer, and whether bad rows are answered apart.

    They come in the query, as `?with=interval,reasons&errors=row`, or in the header
    `X-Amzn-SageMaker-Custom-Attributes: with=interval,reasons; errors=row`, which SageMaker's clients
    call `CustomAttributes`; other parts of the header, divided by semicolons, are the client's own.

    Raises
    ------
    InvalidInputError
        If the query has another key, `errors` another value, or too many names are asked for.
    """
    query = request.target.partition(b"?")[2]
    attributes = request.headers.get(ATTRIBUTES_HEADER)
    if not query and attributes is None:
        return _NOTHING
    pairs = [
        *_of_query(query.decode("latin-1")),
        *_of_attributes((attributes or b"").decode("latin-1")),
    ]
    asked = [value for key, value in pairs if key == _WITH]
    names = [name.strip() for each in asked for name in each.split(",") if name.strip()]
    if len(names) > _MOST_NAMES:
        raise InvalidInputError(
            f"{len(names)} things are asked to be added to each answer.",
            hint=f"Ask for at most {_MOST_NAMES}.",
            field="with",
            value=len(names),
        )
    return tuple(names), True in [_is_by_row(v) for key, v in pairs if key == _ERRORS]


def wanted_extras(request: Request) -> tuple[str, ...]:
    """Return the first of what `wishes` returns."""
    return wishes(request)[0]


def _of_query(query: str) -> list[tuple[str, str]]:
    pairs = []
    for part in query.split("&") if query else ():
        key, _, value = part.partition("=")
        key = unquote_plus(key)
        if key not in _KEYS:
            raise InvalidInputError(
                f"The query has {key[:80]!r}, which /invocations does not know.",
                hint="It takes with, such as /invocations?with=interval, and errors=row.",
                field="query",
                value=key[:80],
            )
        pairs.append((key, unquote_plus(value)))
    return pairs


def _of_attributes(attributes: str) -> list[tuple[str, str]]:
    pairs = []
    for part in attributes.split(";") if attributes else ():
        key, _, value = part.strip().partition("=")
        pairs.append((key.strip().lower(), value))
    # what the client says to itself under the name of one of ours would only be misread
    return [(key, value) for key, value in pairs if key in _KEYS]


def _is_by_row(value: str) -> bool:
    value = value.strip().lower()
    if value not in ("row", "all"):
        raise InvalidInputError(
            f"errors is {value[:80]!r}.",
            hint="errors=row answers the good rows and says of each bad one why; errors=all refuses"
            " the whole request for the first bad row, which is what happens without it.",
            field="errors",
            value=value[:80],
            expected=["all", "row"],
        )
    return value == "row"
