"""The five families of errors a caller of loopwright can meet."""

from __future__ import annotations

from typing import Any


class LoopwrightError(Exception):
    """An error whose message says what was asked, what was found and what to do next.

    Parameters
    ----------
    message
        One or two sentences with the real values.
    hint
        What to do next, one sentence; shown after the message.
    facts
        What a program needs (`field`, `value`, `kind`, `name`, ...); kept as attributes in `facts`.
    """

    def __init__(self, message: str, *, hint: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()

    def __reduce__(self) -> tuple[Any, ...]:
        # errors cross process borders; keyword arguments would be lost by the default
        return (_rebuild, (type(self), self.message, self.hint, self.facts))


def _rebuild(
    kind: type[LoopwrightError], message: str, hint: str, facts: dict[str, Any]
) -> LoopwrightError:
    return kind(message, hint=hint, **facts)


class InvalidInputError(LoopwrightError):
    """What was given cannot be used; nothing was changed."""


class NotFoundError(LoopwrightError):
    """What was asked for does not exist."""


class AlreadyExistsError(LoopwrightError):
    """The name is taken."""


class WrongStateError(LoopwrightError):
    """It exists, but is not in a state that allows what was asked."""


class BackendError(LoopwrightError):
    """A database, a store, a process or the machine failed.

    `retryable` tells whether the same call may work later.
    """

    def __init__(
        self, message: str, *, hint: str = "", retryable: bool = False, **facts: Any
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable, **facts)
        self.retryable = retryable
