"""Which verdict follows from what was found, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from loopwright.evaluate.comparison import Comparison
from loopwright.evaluate.entrant import Entrant, Jury
from loopwright.evaluate.quick import QUICK_MODELS
from loopwright.evaluate.rule import Rule
from loopwright.evaluate.shortfall import Shortfall
from loopwright.evaluate.signal import Signal
from loopwright.evaluate.weak_segment import WeakSegment

Decision = Literal["ml_worth_it", "rule_enough", "no_signal", "not_with_this_data"]
# a model is worth it by money alone from so much more than a simple way earns
_LEAST_GAIN = 0.02


def told_figure(figure: Mapping[str, Any]) -> str:
    """Return a figure with its bounds."""
    low, high = figure["lower"], figure["upper"]
    if low is None or high is None:
        return f"{figure['value']:.4g}"
    return f"{figure['value']:.4g} ({low:.4g} to {high:.4g})"


def is_worth(advantage: Comparison) -> bool:
    """Tell whether a model earns more beyond doubt, and enough for anybody to care."""
    return advantage.is_better and advantage.gain >= _LEAST_GAIN * abs(advantage.champion)


def enough_told(enough: Entrant, rule: Rule, advantage: Comparison | None) -> tuple[Decision, str]:
    """Return the verdict where a simple way meets the criteria; `advantage` if a model earns more."""
    way = f"the {enough.name} ({enough.how})"
    if advantage is not None:
        return "ml_worth_it", (
            f"{way[0].upper()}{way[1:]} meets every criterion, but a quick model earns "
            f"{advantage.gain:+,.4g} a case beside it ({advantage.lower:+,.4g} to "
            f"{advantage.upper:+,.4g})."
        )
    if enough.name == "constant":
        return "rule_enough", (
            f"No model needed: one answer for all meets every criterion ({rule.to_words()}) If that "
            "is no use to you, a criterion is missing, such as precision beside recall, or a payoff."
        )
    return "rule_enough", f"No model needed: {way} meets every criterion."


def decided(
    signal: Signal,
    missing: Sequence[Shortfall],
    segments: Sequence[WeakSegment],
    jury: Jury,
    entrants: Mapping[str, Entrant],
) -> tuple[Decision, str]:
    """Return the verdict where no simple way meets the criteria, with its reason."""
    name = jury.measure.name
    constant = entrants["constant"].figures[name]["value"]
    if not signal.found:
        return "no_signal", (
            f"Nothing tried beats a constant answer on {len(jury.y):,} rows: {signal}. "
            "These columns do not tell the target."
        )
    if missing:
        kinds = (
            " Collect above all rows where " + " or ".join(each.words for each in segments) + "."
            if segments
            else ""
        )
        return "not_with_this_data", f"{_sentence(missing)}.{kinds}"
    sign = 1.0 if jury.measure.higher_is_better else -1.0
    best = sign * max(sign * entrants[kind].figures[name]["value"] for kind in QUICK_MODELS)
    end = "no simple rule meets the criteria" if jury.criteria else "no criteria are stated"
    return "ml_worth_it", (
        f"The columns tell the target ({name} {constant:.4g} for a constant, "
        f"{best:.4g} for a quick model), and {end}."
    )


def _sentence(missing: Sequence[Shortfall]) -> str:
    told = "; ".join(str(each) for each in missing)
    return f"Not with this data: {told}"
