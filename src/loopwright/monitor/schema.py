"""Whether requests still have the columns and types that the model was made with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.monitor.bet import wilson_bounds
from loopwright.monitor.finding import DataFinding
from loopwright.monitor.reference import Reference, StreamReference
from loopwright.monitor.value import to_numbers

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

LEAST_ROWS = 20  # of a look; fewer say little
_GONE_SHARE = 0.05  # a column that fewer reference rows lacked is one that belongs there
_WRONG_TYPE = 0.05
_FAR_OUTSIDE = 0.05
_SIGMAS = 4.0
_N_NAMES = 5


def schema_findings(reference: Reference, inputs: pl.DataFrame) -> list[DataFinding]:
    """Return what is wrong with the columns of some requests, (n_rows, n_columns).

    `gone`: a column that the reference had is in none of them. `type`: over 5 % of a column's
    values are there and cannot be read as what it was, such as text in a number. `out_of_range`:
    over 5 % of a column's numbers lie farther from the reference's than those are wide. `new`:
    columns that the model does not know; told, but no fault.
    """
    found = [finding for s in reference.inputs for finding in _of_stream(s, inputs)]
    known = {stream.name for stream in reference.inputs}
    new = [name for name in inputs.columns if name not in known and inputs[name].count()]
    return found + ([_new(new, inputs.height)] if new else [])


def _of_stream(stream: StreamReference, inputs: pl.DataFrame) -> Iterator[DataFinding]:
    usually_missing = stream.counts[-1] / max(stream.n_rows, 1)
    n = inputs.height
    if stream.name not in inputs.columns or not inputs[stream.name].count():
        if usually_missing < 1 - _GONE_SHARE:
            yield DataFinding(
                stream=stream.key,
                problem="gone",
                share=1.0,
                reference_share=usually_missing,
                n_rows=n,
                message=f"{stream.key} is in none of {n:,} requests "
                f"({1 - usually_missing:.1%} of rows had it before).",
            )
        return
    share = _unreadable(stream, inputs[stream.name])
    if wilson_bounds(share, n, sigmas=_SIGMAS)[0] > _WRONG_TYPE:
        yield DataFinding(
            stream=stream.key,
            problem="type",
            share=share,
            reference_share=0.0,
            n_rows=n,
            message=f"{stream.key} cannot be read as a {stream.kind} in {share:.1%} of {n:,} "
            f"requests; they hold {inputs[stream.name].dtype}.",
        )
    far = _far(stream, inputs[stream.name])
    if wilson_bounds(far, n, sigmas=_SIGMAS)[0] > _FAR_OUTSIDE:
        yield DataFinding(
            stream=stream.key,
            problem="out_of_range",
            share=far,
            reference_share=0.0,
            n_rows=n,
            message=f"{stream.key} lies far outside all values the model saw in {far:.1%} of "
            f"{n:,} requests.",
        )


def _far(stream: StreamReference, values: pl.Series) -> float:
    """Return the share of numbers that are farther off than the reference's are wide."""
    if stream.kind != "number" or not stream.edges:
        return 0.0
    numbers = to_numbers(values, kind=stream.kind, date_format=stream.date_format)
    low, high = stream.edges[0], stream.edges[-1]
    width = high - low
    return float(((numbers < low - width) | (numbers > high + width)).mean()) if width else 0.0


def _unreadable(stream: StreamReference, values: pl.Series) -> float:
    if stream.kind not in ("number", "date") or values.dtype.is_numeric():
        return 0.0
    numbers = to_numbers(values, kind=stream.kind, date_format=stream.date_format)
    present = values.is_not_null()
    if values.dtype == pl.String:  # an empty text is a missing value, whatever the type
        present &= values.str.strip_chars() != ""
    there = present.fill_null(False).to_numpy().astype(np.bool_)
    return float((there & np.isnan(numbers)).mean())


def _new(names: Sequence[str], n: int) -> DataFinding:
    shown = ", ".join(names[:_N_NAMES]) + (", ..." if len(names) > _N_NAMES else "")
    return DataFinding(
        stream=names[0],
        problem="new",
        share=1.0,
        reference_share=0.0,
        n_rows=n,
        message=f"Requests hold {len(names)} columns that the model does not know: {shown}.",
        is_grave=False,
    )
