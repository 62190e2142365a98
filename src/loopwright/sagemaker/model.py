"""The service models of botocore: the one source of names, shapes, limits and routes."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

from loopwright.core.errors import BackendError
from loopwright.sagemaker.error import ApiError

SERVICES = (
    "sagemaker",
    "sagemaker-runtime",
    "sagemaker-metrics",
    "s3",
    "sts",
    "iam",
    "logs",
    "cloudwatch",
    "lambda",
    "application-autoscaling",
)
# named by paths, and never by a target: a large model is read only when it is asked for
_BY_PATH = ("s3", "lambda")
_ESCAPE = re.compile(r"\\p\{(?:Is)?([A-Za-z]+)\}")
_LENGTH = re.compile(r"\)\$\{\d+,\d+\}")
_NAMED = {
    "Alnum": "a-zA-Z0-9",
    "Alpha": "a-zA-Z",
    "Digit": "0-9",
    "ASCII": "\x00-\x7f",
    "Print": "\x20-\x7e",
}
_LARGEST_CHARACTER = 0x10FFFF


@lru_cache(maxsize=1)
def _session() -> Any:
    try:
        import botocore.session
    except ImportError as cause:
        raise BackendError(
            "The SageMaker-compatible API needs botocore, which is not installed.",
            hint="pip install 'loopwright[aws]'",
        ) from cause
    return botocore.session.Session()


@lru_cache(maxsize=len(SERVICES))
def service(name: str) -> Any:
    """Return the model of a service, by its name in boto3."""
    return _session().get_service_model(name)


@lru_cache(maxsize=1)
def targets() -> dict[str, str]:
    """Return the services by the prefix of their `X-Amz-Target`."""
    named = [name for name in SERVICES if name not in _BY_PATH]
    found = {service(name).metadata.get("targetPrefix"): name for name in named}
    return {prefix: name for prefix, name in found.items() if prefix}


def operation(service_name: str, name: str) -> Any:
    """Return the model of an operation.

    Raises
    ------
    ApiError
        If AWS knows no such operation either.
    """
    known = service(service_name)
    if name not in known.operation_names:
        if known.metadata["protocol"] == "query":
            raise ApiError(
                "InvalidAction",
                f"Could not find operation {name} for version {known.api_version}",
            )
        raise ApiError(
            "UnknownOperationException", f"The operation {name[:200]} is not known.", status=400
        )
    return known.operation_model(name)


@lru_cache(maxsize=4096)
def pattern(text: str) -> re.Pattern[str] | None:
    """Return a pattern of a shape, which is written as Java has them; None if it says nothing here."""
    # a length, which the shape tells as well; as a repetition it would take time without end
    plain = _ESCAPE.sub(_class_of, _LENGTH.sub(")", text))
    # surrogate pairs, as Java writes characters beyond the first plane
    plain = plain.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF")
    # the end of the text, and a hyphen beside a class, which is one in Java
    plain = re.sub(r"(\\[wds])-(?=[^\]])", r"\1\\-", plain.replace(r"\z", r"\Z"))
    try:
        return re.compile(plain)
    except re.error:
        return None


def _class_of(match: re.Match[str]) -> str:
    name = match[1]
    found = _NAMED[name] if name in _NAMED else _characters(name)
    before = match.string[: match.start()]
    # a class may stand within another or alone
    is_within = before.count("[") - before.count("\\[") > before.count("]") - before.count("\\]")
    return found if is_within else f"[{found}]"


@lru_cache(maxsize=16)
def _characters(category: str) -> str:
    """Return the characters of a Unicode category (`L`, `Lu`, ...) as ranges for a class."""
    ranges: list[tuple[int, int]] = []
    for number in range(_LARGEST_CHARACTER + 1):
        if unicodedata.category(chr(number)).startswith(category):
            if ranges and ranges[-1][1] == number - 1:
                ranges[-1] = (ranges[-1][0], number)
            else:
                ranges.append((number, number))
    return "".join(rf"\U{first:08x}-\U{last:08x}" for first, last in ranges)
