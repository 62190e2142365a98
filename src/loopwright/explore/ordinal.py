"""Values that have an order: grades, ratings, and words such as low, medium and high."""

from __future__ import annotations

import re
from collections.abc import Collection

_SCALES = (
    "very low, low, medium low, medium, medium high, high, very high",
    "low, moderate, high, severe",
    "minimal, mild, moderate, severe, critical",
    "minor, moderate, major, critical, blocker",
    "none, low, medium, high",
    "xxs, xs, s, m, l, xl, xxl, xxxl",
    "tiny, small, medium, large, extra large, huge",
    "very poor, poor, fair, average, good, very good, excellent",
    "very poor, poor, below average, average, above average, good, very good, excellent, "
    "very excellent",
    "poor, fair, typical, good, excellent",
    "po, fa, ta, gd, ex",
    "bad, ok, good, great",
    "fair, good, very good, premium, ideal",
    "never, rarely, seldom, sometimes, often, usually, always",
    "never, yearly, quarterly, monthly, weekly, daily, hourly",
    "strongly disagree, disagree, slightly disagree, neutral, slightly agree, agree, "
    "strongly agree",
    "strongly disagree, disagree, neither agree nor disagree, agree, strongly agree",
    "very dissatisfied, dissatisfied, neutral, satisfied, very satisfied",
    "cold, cool, mild, warm, hot",
    "basic, bronze, silver, gold, platinum, diamond",
    "free, basic, standard, premium, enterprise",
    "beginner, elementary, intermediate, advanced, expert",
    "trainee, junior, mid, senior, lead, principal",
    "primary, secondary, tertiary",
    "preschool, primary, high school, bachelor, bachelors, masters, master, doctorate, phd",
    "first, second, third, fourth, fifth",
)
_ORDERS = tuple(tuple(scale.split(", ")) for scale in _SCALES)
_GRADE_WORDS = re.compile(
    r"grade|rating|rank|level|stage|quality|qual|condition|cond|pclass|tier|severity|priority"
    r"|satisfaction|stars?|score|importance|degree|likert|education",
    re.IGNORECASE,
)
_FEWEST, _MOST_LEVELS = 3, 20
_MOST_OF_RATING = 7


def word_order(values: Collection[str]) -> tuple[str, ...]:
    """Return the values from the least to the greatest, or nothing if no order is known.

    Examples
    --------
    >>> word_order(["High", "Low", "Medium"])
    ('Low', 'Medium', 'High')
    >>> word_order(["Kent", "Renton", "Low"])
    ()
    """
    if not _FEWEST <= len(values) <= _MOST_LEVELS:
        return ()
    plain = {value: " ".join(re.split(r"[\s_-]+", value.strip().lower())) for value in values}
    for order in _ORDERS:
        if len(set(plain.values())) == len(values) and set(plain.values()) <= set(order):
            return tuple(sorted(values, key=lambda value: order.index(plain[value])))
    return ()


def is_graded(name: str, *, low: float, high: float, n_distinct: int) -> bool:
    """Tell whether whole numbers are grades: a few steps without holes, named so or like a rating.

    Examples
    --------
    >>> is_graded("grade", low=1, high=13, n_distinct=13)
    True
    >>> is_graded("rooms", low=1, high=13, n_distinct=13)
    False
    >>> is_graded("answer_3", low=1, high=5, n_distinct=5)
    True
    """
    span = high - low + 1
    if not (_FEWEST <= n_distinct <= _MOST_LEVELS and low >= 0 and span <= _MOST_LEVELS):
        return False
    if n_distinct < 0.8 * span:
        return False
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    named = bool(words) and bool(_GRADE_WORDS.fullmatch(words[-1]))
    asked = bool(words) and words[0].lower() in ("q", "question", "answer", "item")
    return named or (asked and low == 1 and n_distinct == span <= _MOST_OF_RATING)
