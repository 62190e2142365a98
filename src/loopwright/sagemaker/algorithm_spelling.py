"""What SageMaker's algorithms call otherwise than ours, or count otherwise, in our words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from loopwright.sagemaker.error import validation

Texts = dict[str, str]

_LEAST_RATE = 1e-4
_DEEPEST = 64


def respelled(name: str, texts: Mapping[str, str]) -> Texts:
    """Return hyperparameters of a built-in algorithm with those respelled that ours has otherwise.

    Parameters
    ----------
    name
        Of the algorithm.
    texts
        The hyperparameters, without the quotes of the second SDK.

    Raises
    ------
    ApiError
        If one has a value that nobody knows.
    """
    found = dict(texts)
    for key, change in _CHANGES.get(name, {}).items():
        if key in found:
            change(found, found.pop(key))
    return found


def watched_metrics(texts: Mapping[str, str]) -> list[str]:
    """Return the metrics that XGBoost is to tell; the last of them is the one to stop by."""
    text = texts.get("eval_metric", "").strip('"')
    listed = text.strip("[]").replace("'", "").replace('"', "")
    return [each.strip() for each in listed.split(",") if each.strip()]


def _least_rate(found: Texts, text: str) -> None:
    """Keep a learning rate of 0, at which nothing is learnt, at one that learns as good as nothing."""
    try:
        is_below = 0 <= float(text) < _LEAST_RATE
    except ValueError:
        is_below = False
    found["eta"] = str(_LEAST_RATE) if is_below else text


def _directions(found: Texts, text: str) -> None:
    """Name the features of `(1,0,-1)`, which go by their order."""
    listed = text.strip().removeprefix("(").removesuffix(")").removeprefix("[").removesuffix("]")
    try:
        signs = [int(each) for each in listed.split(",") if each.strip()]
    except ValueError as error:
        raise validation(
            f"monotone_constraints cannot be {text[:80]!r}; write (1,0,-1)."
        ) from error
    table = {f"f{place}": sign for place, sign in enumerate(signs) if sign}
    if table:
        found["monotone_constraints"] = json.dumps(table)


def _last_metric(found: Texts, text: str) -> None:
    known = watched_metrics({"eval_metric": text})
    if known:
        found["eval_metric"] = known[-1]


def _drawn_every(found: Texts, text: str) -> None:
    """Take a frequency of 0 as what it says: all rows."""
    if text == "0":
        found["bagging_fraction"] = "1"
    else:
        found["bagging_freq"] = text


def _depth(found: Texts, text: str) -> None:
    """Take a depth that no tree reaches, or one of 0 or below, as none."""
    try:
        is_bound = 0 < int(text) <= _DEEPEST
    except ValueError:
        is_bound = True
    if is_bound:
        found["max_depth"] = text
    else:
        found["max_depth"] = str(_DEEPEST)


def _balanced(found: Texts, text: str) -> None:
    if _is_yes(text):
        found["class_weight"] = "balanced"


def _positive_weight(found: Texts, text: str) -> None:
    if text == "balanced":
        found["class_weight"] = "balanced"
        return
    try:
        found["class_weight"] = json.dumps({"1": float(text)})
    except ValueError as error:
        raise validation(
            f"positive_example_weight_mult cannot be {text[:80]!r}; it is a number, or balanced."
        ) from error


def _is_yes(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise validation(f"{text[:80]!r} is neither true nor false.")
    return text.lower() == "true"


_CHANGES: Mapping[str, Mapping[str, Callable[[Texts, str], None]]] = {
    "xgboost": {
        "eta": _least_rate,
        "monotone_constraints": _directions,
        "eval_metric": _last_metric,
    },
    "lightgbm": {
        "bagging_freq": _drawn_every,
        "max_depth": _depth,
        "is_unbalance": _balanced,
    },
    "linear-learner": {
        "positive_example_weight_mult": _positive_weight,
        "balance_multiclass_weights": _balanced,
    },
}
