"""What a step does to the registers of a row, in the words of the compiled kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from loopwright.prepare.step import Operation


class Instruction(NamedTuple):
    """One change of registers; `kernel/rows.c` does it.

    Parameters
    ----------
    kind
        `l`ook up in `table`, one-`h`ot by the places in `table`, `r`are unless in `table`, `f`ill
        with `other`, `m`ark what is missing, clip (`z`) to `a` and `b`, `s`cale by `a` and `b`,
        lo`g`arithm; or `c`all `table`, an operation in Python, for all that has no word.
    source, to
        The registers read and written; with one-hot the first of `n`.
    n
        How many registers are written.
    """

    kind: str
    source: int = 0
    to: int = 0
    n: int = 1
    table: Any = None
    other: Any = None
    a: float = 0.0
    b: float = 0.0


def called(operations: Iterable[Operation]) -> list[Instruction]:
    """Return the instructions that call operations in Python."""
    return [Instruction("c", table=operation) for operation in operations]
