"""What a user's own code behind an endpoint is, and what it may take."""

from __future__ import annotations

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.quantity import mebibytes

OWN_CODE = "own code"
"""The task of a model that is a user's own code."""


class CodeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user's own code is, and what it may take.

    Parameters
    ----------
    program
        The file below `code/` with `model_fn` and the others.
    environments
        The folder, as an absolute path, in which environments of requirements are kept; beside the
        endpoint's files where it is empty.
    framework
        What it counts on beside its own requirements, as pip reads it.
    processes
        How many answer in each worker of the endpoint, one request at a time each.
    timeout_s
        How long one answer may take; then 504, and the process is ended and started again.
    start_timeout_s
        How long unpacking, installing requirements and `model_fn` may take together.
    memory
        What the process and all it starts may hold together.
    most_processes
        How many processes it may have, itself among them.
    disk
        How much it may write beside the model.
    max_answer_bytes
        Largest answer.
    max_waiting
        Requests that may wait for it; one more is answered 503.
    max_unpacked
        Size of the files in the archive.
    variables
        Environment variables for it, beside those of the SageMaker contract.
    """

    program: str = "inference.py"
    environments: str = ""
    framework: tuple[str, ...] = ()
    processes: int = 1
    timeout_s: float = 60.0
    start_timeout_s: float = 600.0
    memory: str = "4 GiB"
    most_processes: int = 64
    disk: str = "1 GiB"
    max_answer_bytes: int = 16 << 20
    max_waiting: int = 64
    max_unpacked: str = "16 GiB"
    variables: dict[str, str] = {}


def checked_code(settings: CodeSettings) -> CodeSettings:
    """Return the settings if code can be run by them.

    Raises
    ------
    InvalidInputError
        If the program is no Python file below `code/`, or an amount is none.
    """
    parts = settings.program.removesuffix(".py").split("/")
    if not settings.program.endswith(".py") or not all(part.isidentifier() for part in parts):
        raise _refused("program", settings.program, "a Python file such as inference.py")
    for name in ("memory", "disk", "max_unpacked"):
        mebibytes(getattr(settings, name), field=f"code.{name}")
    for name in ("timeout_s", "start_timeout_s", "processes", "most_processes", "max_waiting"):
        if not 0 < getattr(settings, name) < 1e6:
            raise _refused(name, getattr(settings, name), "a number above 0")
    return settings


def _refused(name: str, value: object, expected: str) -> InvalidInputError:
    return InvalidInputError(
        f"code.{name} is {value!r}.",
        hint=f"Give {expected}.",
        field=f"code.{name}",
        value=value,
        expected=expected,
    )
