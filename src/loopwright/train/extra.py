"""Extras: what a model adds to its answers when it is asked, such as an interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.train.reason import REASONS_SCHEMA, gives_reasons, reasons

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from loopwright.train.serving_model import ServingModel

    Array = npt.NDArray[np.float64]

Rows = Sequence[Mapping[str, Any]]
Adding = Callable[["ServingModel", Rows, "Array", "Array"], Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """One thing that can be added to every answer, under its own name.

    Parameters
    ----------
    is_offered
        Whether a model can add it.
    added
        Returns what is added to each row's answer, as JSON types: of the model, the checked rows,
        their features `(n_rows, n_features)`, and the numbers behind the answers (calibrated, see
        `Outcome`).
    lacks
        Why a model may not offer it, for the message.
    schema
        JSON Schema of what is added.
    """

    is_offered: Callable[[ServingModel], bool]
    added: Adding
    lacks: str
    schema: Mapping[str, Any]


def _intervals(
    model: ServingModel, _rows: Rows, _features: Array, raw: Array
) -> list[dict[str, float]]:
    interval = model.outcome.interval
    if interval is None:
        raise AssertionError("an extra is only added when it is offered")
    lower, upper = interval.bounds(raw)
    return [
        {"lower": low, "upper": high, "confidence": interval.confidence}
        for low, high in zip(lower.tolist(), upper.tolist(), strict=True)
    ]


EXTRAS: dict[str, Extra] = {
    "interval": Extra(
        is_offered=lambda model: model.outcome.interval is not None,
        added=_intervals,
        lacks="only a regression with enough validation rows has intervals",
        schema={
            "type": "object",
            "properties": {
                "lower": {"type": "number"},
                "upper": {"type": "number"},
                "confidence": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            },
        },
    ),
    "reasons": Extra(
        is_offered=gives_reasons,
        added=reasons,
        lacks="its bundle holds no explanation, or explaining a row would take too long",
        schema=REASONS_SCHEMA,
    ),
}


def checked_extras(names: Sequence[str], *, offered: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of extras without repetition, if all of them are offered.

    Raises
    ------
    InvalidInputError
        If one is unknown, or the model does not offer it.
    """
    for name in names:
        if name in offered:
            continue
        if name in EXTRAS:
            raise InvalidInputError(
                f"This model adds no {name!r} to its answers: {EXTRAS[name].lacks}.",
                hint=f"It can add {', '.join(offered)}." if offered else "Ask for answers alone.",
                field="with",
                value=name,
            )
        raise InvalidInputError(
            f"{name[:80]!r} is nothing that can be added to an answer.",
            hint=did_you_mean(name[:80], list(EXTRAS)),
            field="with",
            value=name[:80],
        )
    return tuple(dict.fromkeys(names))
