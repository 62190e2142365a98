"""Reasons of an answer: what each column of the row added to it, as values and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.prepare.lineage import feature_origins
from loopwright.train.array_file import open_arrays, pack_arrays
from loopwright.train.attribution import Attributor, learned_background

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from loopwright.train.serving_model import ServingModel

    Numbers = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

EXPLANATION_MEMBER = "explanation.npz"
MOST_REASONS = 5
SLOWEST_ROW_US = 100_000.0
_SHARE_OF_ALL = 0.005
_MOST_ROWS = 20_000


def explanation_member(model: ServingModel, train: pl.DataFrame) -> bytes:
    """Return `explanation.npz`, what a bundle must hold so that its answers can be explained.

    Of very many rows 20,000 at equal steps are used.

    Parameters
    ----------
    model
        The model about to be packed.
    train
        Raw training rows, at least 1.
    """
    step = max(1, train.height // _MOST_ROWS)
    X = model.fitted.transform(train.gather_every(step))
    return pack_arrays(learned_background(model.predictor, X))


@lru_cache(maxsize=2)  # a model and the one that takes over from it
def attributor_of(model: ServingModel) -> Attributor:
    """Return what explains a model's answers, repaired probabilities included.

    Raises
    ------
    NotFoundError
        If its bundle holds no explanation.
    InvalidInputError
        If the explanation does not go with the model.
    """
    arrays = open_arrays(model.read_member(EXPLANATION_MEMBER), what=EXPLANATION_MEMBER)
    return Attributor(
        predictor=model.predictor,
        background=arrays,
        origins=feature_origins(model.fitted),
        transform=None if model.outcome.calibration is None else model.outcome.calibrated,
    )


def gives_reasons(model: ServingModel) -> bool:
    """Return whether a model can say its reasons within a tenth of a second a row."""
    return (
        EXPLANATION_MEMBER in model.members and attributor_of(model).row_cost_us <= SLOWEST_ROW_US
    )


def reasons(
    model: ServingModel, rows: Sequence[Mapping[str, Any]], features: Numbers, raw: Numbers
) -> list[dict[str, Any]]:
    """Return the reasons of each answer as JSON types; needs neither Polars nor a training library.

    Parameters
    ----------
    rows
        As `signature.check_row` returned them.
    features
        Of the rows, `(n_rows, n_features)`.
    raw
        The numbers behind the answers, `(n_rows,)` or `(n_rows, n_classes)`.

    Returns
    -------
    list of dict
        `of`: what is explained: `prediction`, or the probability of a class. `base`: the answer
        when nothing is known of the row. `columns`: the five that add or take away most, with
        their `value` and what it `adds`. `others`: what all others add together; base, columns
        and others add up to the answer. `told`: the same in words. `error`: the typical error of
        `adds` where it was sampled; 0 where it is exact.
    """
    attributor = attributor_of(model)
    found = attributor.attributions(features)
    answers = raw.reshape(len(rows), -1)
    said = answers.argmax(axis=1) if model.task == "multiclass" else np.zeros(len(rows), np.intp)
    classes = model.classes or ()
    told = []
    for at, (row, output) in enumerate(zip(rows, said.tolist(), strict=True)):
        of = classes[-1 if model.task == "binary" else output] if classes else None
        told.append(
            _told_row(
                dict(zip(attributor.columns, found.values[at, :, output].tolist(), strict=True)),
                row,
                answer=float(answers[at, output]),
                base=float(found.base[output]),
                of=of,
                error=found.error,
            )
        )
    return told


def _told_row(
    adds: Mapping[str, float],
    row: Mapping[str, Any],
    *,
    answer: float,
    base: float,
    of: str | None,
    error: float,
) -> dict[str, Any]:
    ordered = sorted(adds, key=lambda name: -abs(adds[name]))[:MOST_REASONS]
    whole = sum(abs(value) for value in adds.values())
    shown = [name for name in ordered if abs(adds[name]) > _SHARE_OF_ALL * whole]
    return {
        "of": "prediction" if of is None else f"probability of {of}",
        "base": base,
        "columns": [
            {"column": name, "value": _plain(row.get(name)), "adds": adds[name]} for name in shown
        ],
        # what rounding left over is theirs: everything adds up to the answer that was given
        "others": answer - base - sum(adds[name] for name in shown),
        "told": [
            told_reason(name, row.get(name), adds[name], is_share=of is not None) for name in shown
        ],
        "error": error,
    }


def told_reason(column: str, value: Any, adds: float, *, is_share: bool) -> str:
    """Return what a value adds to an answer, in words.

    Examples
    --------
    >>> told_reason("grade", 9.0, 84_312.7, is_share=False)
    'grade 9 adds 84,300'
    >>> told_reason("contract", "two years", -0.1234, is_share=True)
    'contract two years takes 12.3 points off'
    """
    what = f"{column} {told_cell(value)}"
    amount = f"{told_number(abs(100 * adds))} points" if is_share else told_number(abs(adds))
    return f"{what} adds {amount}" if adds >= 0 else f"{what} takes {amount} off"


def told_cell(value: Any) -> str:
    """Return a value of a row in few characters; years and codes stay as they are written.

    Examples
    --------
    >>> [told_cell(value) for value in (9.0, 2_350.5, 98_116.0, None, True, "x")]
    ['9', '2350.5', '98116', 'missing', 'yes', 'x']
    """
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | int):
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:,.0f}"
    text = str(_plain(value))
    return text if len(text) <= 40 else f"{text[:39]}…"


def told_number(value: float) -> str:
    """Return a number with three digits that count.

    Examples
    --------
    >>> [told_number(value) for value in (84_312.7, 12.34, 0.0123, 0.0)]
    ['84,300', '12.3', '0.0123', '0']
    """
    if not math.isfinite(value) or value == 0:
        return "0" if value == 0 else str(value)
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.0f}" if digits <= 0 else f"{rounded:,.{digits}f}".rstrip("0").rstrip(".")


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


REASONS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "of": {"type": "string"},
        "base": {"type": "number"},
        "columns": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "column": {"type": "string"},
                    "value": {},
                    "adds": {"type": "number"},
                },
            },
        },
        "others": {"type": "number"},
        "told": {"type": "array", "items": {"type": "string"}},
        "error": {"type": "number"},
    },
}
