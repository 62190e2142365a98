"""Names people choose, identifiers the machine makes, and help with a mistyped name."""

from __future__ import annotations

import difflib
import os
import re
import time
from collections.abc import Iterable, Iterator

from loopwright.core.errors import InvalidInputError

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def checked_name(name: str, *, what: str) -> str:
    """Return `name` if it can name a `what` (a loop, an endpoint, ...).

    Names become folder names and parts of URLs: 1 to 63 lower-case letters, digits and hyphens.

    Raises
    ------
    InvalidInputError
        If the name has another character, is empty or too long.

    Examples
    --------
    >>> checked_name("house-prices", what="loop")
    'house-prices'
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name[:80]!r} cannot name a {what}.",
            hint="Use 1 to 63 lower-case letters, digits and hyphens, such as 'house-prices'.",
            field="name",
            value=name[:200],
        )
    return name


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like `name`, or None when none is near."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `Did you mean 'x'?`, or a list of what is known when nothing is near."""
    known = sorted(known)
    match = nearest(name, known)
    if match:
        return f"Did you mean {match!r}?"
    if not known:
        return "There are none yet."
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"Known: {shown}."


# random bytes that were fetched but not used yet: to ask the system for many costs as much as for few
_random: Iterator[bytes] = iter(())


def _forget_random() -> None:
    global _random
    _random = iter(())


# two processes must not use the same ones
os.register_at_fork(after_in_child=_forget_random)


def _ten_random_bytes() -> bytes:
    global _random
    found = next(_random, None)
    if found is None:
        block = os.urandom(2560)
        parts = iter([block[at : at + 10] for at in range(0, len(block), 10)])
        found = next(parts)
        _random = parts
    return found


def new_id() -> str:
    """Return a new identifier that sorts by time: UUID version 7 (RFC 9562) as 32 hex digits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(_ten_random_bytes(), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return f"{value:032x}"
