"""What a supervisor writes down: that the job is its to supervise, and how the job ended."""
# pathlib and json would double the time to start:
# ruff: noqa: PTH105, PTH108, PTH116, PTH123

from __future__ import annotations

import os
import time

from .process import machine_name, process_identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_RESERVED_BYTES = 4096
_WRITE_AGAIN_S = 1.0
_GIVE_UP_S = 3600.0


def claim_name(number: int) -> str:
    """Return the file that says who supervises the first (0) or a later try at a job."""
    return f"shim-{number}.json" if number else "shim.json"


def claim(folder: str, number: int = 0) -> bool:
    """Take a try at the job in a folder as this process's to supervise, unless another has it.

    Space for the record of the end is taken as well, so that a disk that is full by then does
    not keep it from being written.
    """
    identity = process_identity(os.getpid()) or {"boot_id": ""}
    # whole at once, since others read it: written aside, then linked to its name
    temporary = f"{folder}/shim.{os.getpid()}"
    with open(temporary, "w") as file:
        file.write(flat_json({**identity, "host": machine_name()}))
    try:
        os.link(temporary, f"{folder}/{claim_name(number)}")
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def reserve_exit() -> None:
    """Take the space of `exit.json` on the disk, if there is any."""
    try:
        with open(".exit.json", "wb") as file:
            file.write(b" " * _RESERVED_BYTES)
            file.flush()
    except OSError:
        pass


def exit_record(**values: Any) -> dict[str, Any]:
    """Return how a job ended, at this moment."""
    return {"format": 1, **values, "ended_at": time.time()}


def write_exit(record: Mapping[str, Any]) -> None:
    """Write `exit.json`, whole at once; on a full disk, as soon as there is room."""
    # blanks may follow JSON, so what was reserved needs no other length
    text = flat_json(record).encode().ljust(_RESERVED_BYTES)
    deadline = time.monotonic() + _GIVE_UP_S
    while True:
        try:
            descriptor = os.open(".exit.json", os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                while text:
                    text = text[os.write(descriptor, text) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(".exit.json", "exit.json")
        except OSError:
            if time.monotonic() > deadline or os.stat(".").st_nlink == 0:
                raise
            text = flat_json(record).encode().ljust(_RESERVED_BYTES)
            time.sleep(_WRITE_AGAIN_S)
        else:
            return


def flat_json(values: Mapping[str, Any]) -> str:
    """Return JSON of numbers, None, truth values and our own plain texts, which need no escapes."""
    texts = {None: "null", True: "true", False: "false"}
    written = []
    for name, value in values.items():
        if value is None or isinstance(value, bool):
            said = texts[value]
        else:
            said = f'"{value}"' if isinstance(value, str) else f"{value}"
        written.append(f'"{name}": {said}')
    return "{" + ", ".join(written) + "}"
