"""Constraints that a baseline suggests, and what of a data set violates them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopwright.sagemaker.monitoring.chi_square import p_value
from loopwright.sagemaker.monitoring.column import Column
from loopwright.sagemaker.monitoring.kll import distance, n_values

# a column with more levels than this is no list of categories
_MOST_DOMAINS = 100
_ROBUST = 1.8
L_INFINITY, CHI_SQUARED = "LInfinity", "ChiSquared"
_CONFIG: Mapping[str, Any] = {
    "evaluate_constraints": "Enabled",
    "emit_metrics": "Enabled",
    "datatype_check_threshold": 1.0,
    "domain_content_threshold": 1.0,
    "distribution_constraints": {
        "perform_comparison": "Enabled",
        "comparison_threshold": 0.1,
        "comparison_method": "Robust",
        "categorical_comparison_threshold": 0.1,
        "categorical_drift_method": L_INFINITY,
    },
}


def suggested(columns: Sequence[Column], *, drift_method: str = L_INFINITY) -> dict[str, Any]:
    """Return the `constraints.json` that a baseline suggests: what held for all of its rows.

    Parameters
    ----------
    drift_method
        How categories will be compared: `LInfinity` or `ChiSquared`.
    """
    rules = {**_CONFIG["distribution_constraints"], "categorical_drift_method": drift_method}
    return {
        "version": 0.0,
        "features": [_constraints(each) for each in columns],
        "monitoring_config": {**_CONFIG, "distribution_constraints": rules},
    }


def _constraints(column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": column.name,
        "inferred_type": column.inferred_type,
        "completeness": column.completeness,
    }
    if column.is_number:
        numbers = column.numbers
        found["num_constraints"] = {"is_non_negative": bool(len(numbers) and numbers.min() >= 0)}
    elif column.inferred_type == "String":
        levels = sorted(column.counts())
        if len(levels) <= min(_MOST_DOMAINS, max(1, len(column.present) // 2)):
            found["string_constraints"] = {"domains": levels}
    return found


def violations(
    columns: Sequence[Column],
    constraints: Mapping[str, Any],
    baseline: Mapping[str, Any] | None,
    statistics: Mapping[str, Any],
) -> tuple[list[dict[str, str]], dict[str, float]]:
    """Return what a data set violates, and the distance of each feature from the baseline.

    Parameters
    ----------
    columns
        Of the data set.
    constraints
        `constraints.json`, maybe changed by a person.
    baseline
        `statistics.json` of the baseline, if there is one.
    statistics
        That of the data set.
    """
    config = {**_CONFIG, **constraints.get("monitoring_config", {})}
    wanted = {each["name"]: each for each in constraints.get("features", ())}
    found = list(_of_columns(columns, wanted))
    known = {each.name: each for each in columns}
    for name, rule in wanted.items():
        column = known.get(name)
        own = {**config, **rule.get("monitoringConfigOverrides", {})}
        if column is not None and own["evaluate_constraints"] == "Enabled":
            found += [
                {"feature_name": name, "constraint_check_type": kind, "description": text}
                for kind, text in _of_values(column, rule, own)
            ]
    drifts: dict[str, float] = {}
    if baseline is not None:
        for each in _drifts(wanted, config, baseline, statistics):
            drifts[each.name] = each.value
            if each.is_p_value and each.value < each.limit:
                text = f"Baseline drift p-value: {each.value} is below threshold: {each.limit}"
            elif not each.is_p_value and each.value > each.limit:
                text = f"Baseline drift distance: {each.value} exceeds threshold: {each.limit}"
            else:
                continue
            found.append(_violation(each.name, "baseline_drift_check", text))
    return found, drifts


def _violation(name: str, kind: str, text: str) -> dict[str, str]:
    return {"feature_name": name, "constraint_check_type": kind, "description": text}


def _of_columns(
    columns: Sequence[Column], wanted: Mapping[str, Mapping[str, Any]]
) -> Iterator[dict[str, str]]:
    counts = (
        f"Number of columns in current dataset: {len(columns)}, "
        f"Number of columns in baseline constraints: {len(wanted)}"
    )
    names = [each.name for each in columns]
    missing = [name for name in wanted if name not in names]
    extra = [name for name in names if name not in wanted]
    if missing:
        text = f"There are missing columns in current dataset. {counts}"
        yield _violation(" ".join(missing), "missing_column_check", text)
    if extra:
        text = f"There are extra columns in current dataset. {counts}"
        yield _violation(" ".join(extra), "extra_column_check", text)


def _of_values(
    column: Column, rule: Mapping[str, Any], config: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    expected = rule.get("inferred_type", "Unknown")
    share, least = column.type_share(expected), float(config["datatype_check_threshold"])
    if share < least:
        yield (
            "data_type_check",
            f"Data type match requirement is not met. Expected data type: {expected}, Expected "
            f"match: {least * 100}%. Observed: Only {share * 100}% of data is {expected}.",
        )
    completeness = rule.get("completeness")
    if completeness is not None and column.completeness < float(completeness):
        yield (
            "completeness_check",
            f"Data completeness requirement is not met. Expected completeness: "
            f"{float(completeness) * 100}%. Observed: Only {column.completeness * 100}% of data "
            "is present.",
        )
    is_low = rule.get("num_constraints", {}).get("is_non_negative")
    numbers = column.numbers
    if is_low and len(numbers) and numbers.min() < 0:
        n_below = int((numbers < 0).sum())
        yield (
            "data_type_check",
            f"Non-negative requirement is not met. Observed: {n_below} of {len(numbers)} values "
            f"are negative, the least is {numbers.min()}.",
        )
    domains = rule.get("string_constraints", {}).get("domains")
    if domains and len(column.present):
        known = set(domains)
        unknown = {value: n for value, n in column.counts().items() if value not in known}
        inside = 1 - sum(unknown.values()) / len(column.present)
        least = float(config["domain_content_threshold"])
        if inside < least:
            shown = ", ".join(sorted(unknown)[:5])
            yield (
                "categorical_values_check",
                f"Categorical values requirement is not met. Expected match: {least * 100}%. "
                f"Observed: Only {inside * 100}% of data is in the domain; unknown: {shown}.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drift:
    """How far a feature is from the baseline: a distance, or how probable it is by chance."""

    name: str
    limit: float
    value: float
    is_p_value: bool = False


def _drifts(
    wanted: Mapping[str, Mapping[str, Any]],
    config: Mapping[str, Any],
    baseline: Mapping[str, Any],
    statistics: Mapping[str, Any],
) -> Iterator[_Drift]:
    """Yield how far each feature that both data sets have is from the baseline."""
    before = {each["name"]: each for each in baseline.get("features", ())}
    for each in statistics["features"]:
        name = each["name"]
        if name not in wanted or name not in before:
            continue
        own = {**config, **wanted[name].get("monitoringConfigOverrides", {})}
        rules = {**_CONFIG["distribution_constraints"], **own.get("distribution_constraints", {})}
        if own["evaluate_constraints"] != "Enabled" or rules["perform_comparison"] != "Enabled":
            continue
        is_robust = rules["comparison_method"] == "Robust"
        one, other = _numbers(before[name]), _numbers(each)
        if one is not None and other is not None:
            value = _distance_of(distance(one, other), n_values(one), n_values(other), is_robust)
            yield _Drift(name=name, limit=float(rules["comparison_threshold"]), value=value)
            continue
        first, second = _levels(before[name]), _levels(each)
        if not first or not second:
            continue
        limit = float(rules["categorical_comparison_threshold"])
        if rules["categorical_drift_method"] == CHI_SQUARED:
            value = p_value(second, first)
            yield _Drift(name=name, limit=limit, value=value, is_p_value=True)
        else:
            value = _distance_of(
                _apart(first, second), sum(first.values()), sum(second.values()), is_robust
            )
            yield _Drift(name=name, limit=limit, value=value)


def _numbers(feature: Mapping[str, Any]) -> list[list[float]] | None:
    found = feature.get("numerical_statistics", {}).get("distribution", {}).get("kll", {})
    data: list[list[float]] | None = found.get("sketch", {}).get("data")
    return data


def _levels(feature: Mapping[str, Any]) -> dict[str, float]:
    found = feature.get("string_statistics", {}).get("distribution", {}).get("categorical", {})
    return {each["value"]: float(each["count"]) for each in found.get("buckets", ())}


def _apart(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    n, m = sum(one.values()), sum(other.values())
    names = one.keys() | other.keys()
    return max(abs(one.get(name, 0.0) / n - other.get(name, 0.0) / m) for name in names)


def _distance_of(value: float, n: float, m: float, is_robust: bool) -> float:
    """Return a distance, less what chance alone makes of it where the method is robust.

    As deequ does it (`Distance.scala`): L-infinity less 1.8 * sqrt((n + m) / (n * m)), never
    below nothing.
    """
    if not is_robust:
        return value
    return max(0.0, value - _ROBUST * math.sqrt((n + m) / (n * m)))
