"""The `evaluate:` block of a loop file: guarded segments, and how sure intervals are to be."""

from __future__ import annotations

import msgspec

from loopwright.core.errors import InvalidInputError

_MOST_SLICES = 50


class EvaluatePlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How models are looked at beside the criteria.

    Parameters
    ----------
    slices
        Segments to guard: by name an expression over the columns that is true or false, such as
        `{new customers: "tenure < 12"}`. Each is shown in the report, and a challenger may be worse
        than the champion in none of them.
    margin
        How much worse a challenger may be in a guarded segment and still count as not worse, as a
        share of the champion's figure there.
    interval
        Share of cases whose truth is to lie in the prediction interval of a regression.
    """

    slices: dict[str, str] = msgspec.field(default_factory=dict)
    margin: float = 0.05
    interval: float = 0.9


def check_evaluate(plan: EvaluatePlan) -> None:
    """Raise for what is wrong whatever the columns are.

    Raises
    ------
    InvalidInputError
        If a number is out of range, or there are too many slices or one without a name.
    """
    if not 0 <= plan.margin <= 1:
        raise InvalidInputError(
            f"evaluate.margin is {plan.margin:g}, which is no share.",
            hint="Give a number from 0 to 1; 0.05 means 5 %.",
            field="evaluate.margin",
            value=plan.margin,
        )
    if not 0.5 <= plan.interval <= 0.999:
        raise InvalidInputError(
            f"evaluate.interval is {plan.interval:g}; an interval holds from half of the cases to "
            "999 of 1,000.",
            hint="Give a number such as 0.9.",
            field="evaluate.interval",
            value=plan.interval,
        )
    if len(plan.slices) > _MOST_SLICES:
        raise InvalidInputError(
            f"evaluate.slices has {len(plan.slices)} slices; at most {_MOST_SLICES} are looked at.",
            hint="Keep those that matter to people: others are found by themselves.",
            field="evaluate.slices",
            value=len(plan.slices),
        )
    for name in plan.slices:
        if not name.strip() or len(name) > 80:
            raise InvalidInputError(
                f"evaluate.slices has the name {name[:80]!r}.",
                hint="Name a slice in 1 to 80 characters.",
                field="evaluate.slices",
                value=name[:80],
            )
