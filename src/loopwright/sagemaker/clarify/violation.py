"""What of an analysis is worse than the one that a monitor was given as its constraints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loopwright.sagemaker.clarify.config import AnalysisConfig

LEAST_NDCG = 0.9
_SECTIONS = ("pre_training_bias_metrics", "post_training_bias_metrics")
# a ratio of two shares that are the same is 1; all other measures are differences or distances
_EVEN = {"DI": 1.0}


def bias_violations(
    config: AnalysisConfig, found: Mapping[str, Any], baseline: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Return the measures of bias that are further from even than those of the baseline.

    By AWS's documentation, "Bias Drift Violations"; even is 0, and 1 for disparate impact.

    Parameters
    ----------
    found, baseline
        `analysis.json` of the monitored data and of the baseline.
    """
    violations = []
    for section in _SECTIONS:
        facets = baseline.get(section, {}).get("facets", {})
        for facet, groups in found.get(section, {}).get("facets", {}).items():
            given = _given(config, facet)
            for group in groups:
                shown = group["value_or_threshold"]
                before = _peer(facets.get(facet, ()), shown, is_only=given is not None)
                for name, value in _worse(group, before):
                    violations.append(
                        {
                            "facet": facet,
                            "facet_value": given or shown,
                            "metric_name": name,
                            "constraint_check_type": "bias_drift_check",
                            "description": f"Value {value} does not meet the constraint requirement",
                        }
                    )
    return violations


def _given(config: AnalysisConfig, facet: str) -> str | None:
    """Return the values of a facet as the configuration has them."""
    names = config.headers or []
    for each in config.facet:
        where = each.name_or_index
        name = names[where] if isinstance(where, int) and where < len(names) else str(where)
        if name == facet and each.value_or_threshold:
            return ",".join(str(value) for value in each.value_or_threshold)
    return None


def _peer(
    groups: Sequence[Mapping[str, Any]], shown: str, *, is_only: bool
) -> Mapping[str, Any] | None:
    """Return the same group of the baseline; an interval may end elsewhere there."""
    if is_only and len(groups) == 1:
        return groups[0]
    return next((each for each in groups if each["value_or_threshold"] == shown), None)


def _worse(
    group: Mapping[str, Any], before: Mapping[str, Any] | None
) -> Iterator[tuple[str, float | str]]:
    known = {each["name"]: each.get("value") for each in before["metrics"]} if before else {}
    for each in group["metrics"]:
        value, limit = each.get("value"), known.get(each["name"])
        if value is None or limit is None:
            continue
        even = _EVEN.get(each["name"], 0.0)
        if abs(float(value) - even) > abs(float(limit) - even):
            yield each["name"], value


def attribution_violations(
    found: Mapping[str, Any], baseline: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Return the scores of which features matter in another order than in the baseline."""
    before = baseline.get("explanations", {}).get("kernel_shap", {})
    violations = []
    for label, about in found.get("explanations", {}).get("kernel_shap", {}).items():
        if label not in before:
            continue
        value = ndcg(before[label]["global_shap_values"], about["global_shap_values"])
        if value < LEAST_NDCG:
            violations.append(
                {
                    "label": label,
                    "metric_name": "shap",
                    "constraint_check_type": "feature_attribution_drift_check",
                    "description": f"Feature attribution drift {value} exceeds threshold "
                    f"{LEAST_NDCG}",
                }
            )
    return violations


def ndcg(before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """Return how well an order of features is kept, 0 to 1.

    AWS's documentation, "Feature attribution drift for models in production": with a(f) the
    attribution of a feature in the training data, DCG is the sum of a(f_i) / log2(i + 1) in the
    order of the live data, over the same in the order of the training data.

    Examples
    --------
    >>> before = {"SAT": 0.70, "GPA": 0.50, "class rank": 0.05}
    >>> round(ndcg(before, {"SAT": 0.10, "GPA": 0.20, "class rank": 0.70}), 2)
    0.69
    """
    shared = [name for name in before if name in now]
    ideal = _gain(before, sorted(shared, key=lambda name: -before[name]))
    if not ideal:
        return 1.0
    return _gain(before, sorted(shared, key=lambda name: -now[name])) / ideal


def _gain(values: Mapping[str, float], order: Sequence[str]) -> float:
    return sum(values[name] / math.log2(place + 2) for place, name in enumerate(order))
