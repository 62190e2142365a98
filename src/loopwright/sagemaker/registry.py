"""Which operations are served, by which function, and how far each goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from loopwright.sagemaker.desk import Caller, Desk

State: TypeAlias = Literal["executed", "recorded only", "not supported"]
Handler: TypeAlias = Callable[[Desk, Caller, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An operation that is answered; `note` says what of it is not."""

    service: str
    name: str
    handler: Handler
    state: State
    note: str = ""


_SERVED: dict[tuple[str, str], Served] = {}


def serves(
    service: str, name: str, *, state: State = "executed", note: str = ""
) -> Callable[[Handler], Handler]:
    """Return a decorator that has a function answer an operation."""

    def enter(handler: Handler) -> Handler:
        _SERVED[service, name] = Served(
            service=service, name=name, handler=handler, state=state, note=note
        )
        return handler

    return enter


def find_served(service: str, name: str) -> Served | None:
    """Return how an operation is served, or None if it is not."""
    load()
    return _SERVED.get((service, name))


def all_served() -> list[Served]:
    """Return all operations that are served, by service and name."""
    load()
    return [_SERVED[key] for key in sorted(_SERVED)]


def load() -> None:
    """Load the modules of all families."""
    from loopwright.sagemaker import family

    family.load()
