"""What people say success is, in plain words, as criteria."""

from __future__ import annotations

import re
from collections.abc import Callable

from loopwright.core.errors import InvalidInputError
from loopwright.problem import Criterion, metric_named

_PERCENT = r"(\d+(?:\.\d+)?) ?(?:%|percent|per cent)"
_NUMBER = r"(-?\d[\d,_]*(?:\.\d+)?)"
_SIGN = r"(<=|>=|=<|=>|≤|≥|at most|at least|below|above|under|over)"

EXAMPLES: dict[str, tuple[str, ...]] = {
    "regression": (
        "within 5 % of the truth in 30 % of the cases",
        "on average at most 15 % off",
        "on average at most 20000 off",
        "r2 at least 0.75",
    ),
    "binary": (
        "find at least 80 % of them",
        "right in 70 % of those named",
        "earn at least 5 per case",
        "top 10 % hold 3 times the average",
        "roc_auc at least 0.8",
    ),
    "multiclass": (
        "right in 90 % of the cases",
        "among the top 3 in 95 % of the cases",
        "macro_f1 at least 0.7",
    ),
}

_Found = Callable[[re.Match[str]], Criterion]


def _least(metric: str, group: int = 1, *, percent: bool = True) -> _Found:
    return lambda m: Criterion(
        metric=metric, at_least=_share(m[group]) if percent else _number(m[group])
    )


_PHRASES: dict[str, tuple[tuple[str, _Found], ...]] = {
    "regression": (
        (
            rf"within {_PERCENT}.*?{_PERCENT}",
            lambda m: Criterion(
                metric=f"share_within_{_percent(m[1])}_percent", at_least=_share(m[2])
            ),
        ),
        (
            rf"{_PERCENT}.*? within {_PERCENT}",
            lambda m: Criterion(
                metric=f"share_within_{_percent(m[2])}_percent", at_least=_share(m[1])
            ),
        ),
        (
            rf"(?:{_PERCENT} (?:off|wrong|away)|(?:average|mean).*?{_PERCENT})",
            lambda m: Criterion(metric="mape", at_most=_share(m[1] or m[2])),
        ),
        (
            rf"(?:{_NUMBER} (?:off|wrong|away)|(?:average|mean)\D*?{_NUMBER})",
            lambda m: Criterion(metric="mae", at_most=_number(m[1] or m[2])),
        ),
    ),
    "binary": (
        (
            rf"(?:top|highest|first) (?:10 ?(?:%|percent)|decile|tenth).*?{_NUMBER} ?(?:times|x)",
            _least("lift_in_top_decile", percent=False),
        ),
        (
            rf"(?:earn|profit|gain|save|make)\D*?{_NUMBER}.*thousand",
            _least("expected_profit_per_thousand", percent=False),
        ),
        (
            rf"(?:earn|profit|gain|save|make)\D*?{_NUMBER}",
            _least("profit_per_case", percent=False),
        ),
        (
            rf"{_PERCENT}.*?(?:named|flagged|alarm|warned|said|called)",
            _least("precision"),
        ),
        (
            rf"(?:named|flagged|alarm|warned|called).*?{_PERCENT}",
            _least("precision"),
        ),
        (rf"(?:find|catch|detect|recogni[sz]e|spot|reach)\D*?{_PERCENT}", _least("recall")),
        (rf"(?:right|correct)\D*?{_PERCENT}", _least("accuracy")),
        (rf"{_PERCENT}\D*?(?:right|correct)", _least("accuracy")),
    ),
    "multiclass": (
        (
            rf"(?:top|first|best) (\d+)\b(?! ?%).*?{_PERCENT}",
            lambda m: Criterion(metric=f"top_{m[1]}_accuracy", at_least=_share(m[2])),
        ),
        (rf"(?:right|correct)\D*?{_PERCENT}", _least("accuracy")),
        (rf"{_PERCENT}\D*?(?:right|correct)", _least("accuracy")),
    ),
}


def criterion_said(text: str, *, task: str) -> Criterion:
    """Return the criterion that a sentence means.

    Parameters
    ----------
    text
        A sentence like those of `EXAMPLES`, or a metric with its bound, such as `mape <= 0.15`.
    task
        `regression`, `binary` or `multiclass`.

    Raises
    ------
    InvalidInputError
        If it cannot be understood, with sentences that can.

    Examples
    --------
    >>> str(criterion_said("within 5 % of the price for 30 % of the houses", task="regression"))
    'share_within_5_percent at least 0.3'
    >>> str(criterion_said("recall >= 80%", task="binary"))
    'recall at least 0.8'
    """
    said = " ".join(text.lower().split()).rstrip(".")
    if match := re.fullmatch(rf"([a-z][a-z0-9_.]*) ?{_SIGN} ?{_NUMBER} ?(%|percent)?", said):
        value = _share(match[3]) if match[4] else _number(match[3])
        name = match[1]
        metric_named(name, payoff={"true_positive": 1.0})  # an unknown name is told here
        if match[2] in ("<=", "=<", "≤", "at most", "below", "under"):
            return Criterion(metric=name, at_most=value)
        return Criterion(metric=name, at_least=value)
    for pattern, found in _PHRASES.get(task, ()):
        if match := re.search(pattern, said):
            return found(match)
    examples = "; ".join(repr(each) for each in EXAMPLES.get(task, ()))
    raise InvalidInputError(
        f"{text!r} is no measure of success that is understood.",
        hint=f"Say for instance: {examples}.",
        field="success",
        value=text,
    )


def _number(text: str) -> float:
    return float(text.replace(",", "").replace("_", ""))


def _share(text: str) -> float:
    return round(_number(text) / 100, 10)


def _percent(text: str) -> str:
    return f"{_number(text):g}"
