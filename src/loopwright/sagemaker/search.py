"""Search: resources by what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.endpoint import ENDPOINTS, describe_endpoint
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.tag import tags_of
from loopwright.sagemaker.training_job import JOBS, described


def _training_jobs(desk: Desk, caller: Caller) -> Iterator[dict[str, Any]]:
    for record in JOBS.all(desk, caller):
        yield described(desk, record)


def _endpoints(desk: Desk, caller: Caller) -> Iterator[dict[str, Any]]:
    for record in ENDPOINTS.all(desk, caller):
        yield describe_endpoint(desk, caller, {"EndpointName": record.body["name"]})


Found = Callable[[Desk, Caller], Iterator[dict[str, Any]]]
"""Yields the descriptions of all resources of a kind."""
_RESOURCES: dict[str, tuple[Found, str, str]] = {
    "TrainingJob": (_training_jobs, "TrainingJobArn", "TrainingJob"),
    "Endpoint": (_endpoints, "EndpointArn", "Endpoint"),
}


def searchable(resource: str, *, arn: str, member: str = "") -> Callable[[Found], Found]:
    """Return a decorator that has `Search` find a kind of resource.

    Parameters
    ----------
    resource
        As a request names it.
    arn
        The member of a description that holds the ARN.
    member
        The member of a result that holds the description; that of the resource when empty.
    """

    def enter(find: Found) -> Found:
        _RESOURCES[resource] = (find, arn, member or resource)
        return find

    return enter


@serves("sagemaker", "Search", note="Of what is executed here.")
def search(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return the resources that an expression holds for."""
    resource = given["Resource"]
    if resource not in _RESOURCES:
        raise validation(f"Search of {resource} is not supported yet by loopwright.")
    find, arn, member = _RESOURCES[resource]
    found = []
    for each in find(desk, caller):
        tags = tags_of(desk, each[arn])
        if _holds(given.get("SearchExpression", {}), each, tags):
            listed = [{"Key": key, "Value": value} for key, value in tags.items()]
            found.append({**each, "Tags": listed})
    by = given.get("SortBy", "LastModifiedTime")
    descending = given.get("SortOrder", "Descending") == "Descending"
    found.sort(key=lambda each: _sortable(_value(each, by, {})), reverse=descending)
    start = int(given.get("NextToken", "0")) if given.get("NextToken", "0").isdigit() else 0
    end = start + given.get("MaxResults", 10)
    return {
        "Results": [{member: each} for each in found[start:end]],
        "NextToken": str(end) if end < len(found) else None,
        "TotalHits": {"Value": len(found), "Relation": "EqualTo"},
    }


def _holds(expression: Mapping[str, Any], each: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
    said = [_fits(one, each, tags) for one in expression.get("Filters", ())]
    said += [_holds(one, each, tags) for one in expression.get("SubExpressions", ())]
    for nested in expression.get("NestedFilters", ()):
        items = _value(each, nested["NestedPropertyName"], tags) or []
        prefix = f"{nested['NestedPropertyName']}."
        rules = [{**one, "Name": one["Name"].removeprefix(prefix)} for one in nested["Filters"]]
        said.append(any(all(_fits(one, item, {}) for one in rules) for item in items))
    if not said:
        return True
    return any(said) if expression.get("Operator") == "Or" else all(said)


def _value(each: Any, name: str, tags: Mapping[str, str]) -> Any:
    if name.startswith("Tags."):
        return tags.get(name.removeprefix("Tags."))
    for part in name.split("."):
        each = _member(each, part)
    return each


def _member(each: Any, part: str) -> Any:
    if isinstance(each, Mapping):
        return each.get(part)
    if not isinstance(each, list):
        return None
    named = [one for one in each if part in (one.get("MetricName"), one.get("Name"))]
    if named:
        return named[0]
    # of a list, what any of its items says
    return [one[part] for one in each if part in one] or None


def _sortable(value: Any) -> tuple[int, Any]:
    if isinstance(value, datetime):
        return (1, value.isoformat())
    if isinstance(value, (int, float)):
        return (0, value)
    return (2, "") if value is None else (1, str(value))


def _fits(rule: Mapping[str, Any], each: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
    operator, wanted = str(rule.get("Operator", "Equals")), str(rule.get("Value", ""))
    value = _value(each, rule["Name"], tags)
    if isinstance(value, list) and operator not in ("Exists", "NotExists"):
        last = rule["Name"].rpartition(".")[2]
        rules = {**rule, "Name": last}
        said = [_fits(rules, {last: one}, {}) for one in value]
        return all(said) if operator == "NotEquals" else any(said)
    if operator in ("Exists", "NotExists"):
        return (value is not None) == (operator == "Exists")
    if value is None:
        return operator == "NotEquals"
    if operator in ("Equals", "NotEquals"):
        return (_text(value) == wanted) == (operator == "Equals")
    if operator == "Contains":
        return wanted.lower() in _text(value).lower()
    if operator == "In":
        return _text(value) in [part.strip() for part in wanted.split(",")]
    return _compares(operator, value, wanted)


def _compares(operator: str, value: Any, wanted: str) -> bool:
    try:
        if isinstance(value, datetime):
            left: Any = value
            right: Any = datetime.fromisoformat(wanted)
        else:
            left, right = float(value), float(wanted)
        said: dict[str, bool] = {
            "GreaterThan": left > right,
            "GreaterThanOrEqualTo": left >= right,
            "LessThan": left < right,
            "LessThanOrEqualTo": left <= right,
        }
        return said[operator]
    except (ValueError, TypeError, KeyError) as error:
        raise validation(f"The filter {operator} {wanted!r} cannot be applied.") from error


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
