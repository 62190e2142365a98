"""The flows of machine learning that operations belong to, and how many of each are served."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from loopwright.sagemaker.model import SERVICES, service
from loopwright.sagemaker.registry import all_served

OTHERS = "other things"
# the first that fits, by service and name
_FLOWS: tuple[tuple[str, str], ...] = (
    ("tuning", r"sagemaker:.*HyperParameterTuning.*"),
    ("training", r"sagemaker:.*(TrainingJob|Warmup).*|sagemaker:.*Algorithm.*"),
    ("batch transform", r"sagemaker:.*TransformJob.*"),
    ("processing", r"sagemaker:.*ProcessingJob.*"),
    (
        "monitoring",
        r"sagemaker:.*(Monitoring|DataQuality|ModelQuality|ModelBias|ModelExplainability).*",
    ),
    ("registry", r"sagemaker:.*ModelPackage.*"),
    ("pipelines", r"sagemaker:.*Pipeline.*"),
    ("functions of pipelines", r"lambda:.*"),
    ("MLflow", r"sagemaker:.*Mlflow.*"),
    (
        "experiments and lineage",
        r"sagemaker:.*(Experiment|Trial|Context|Action|Artifact|Association|Lineage).*"
        r"|sagemaker-metrics:.*",
    ),
    (
        "deployment",
        r"sagemaker:.*(Endpoint|InferenceComponent)[A-Za-z]*"
        r"|sagemaker:(Create|Describe|List|Delete)Models?|sagemaker-runtime:.*"
        r"|application-autoscaling:.*",
    ),
    ("search and tags", r"sagemaker:(Search|GetSearchSuggestions|.*Tags)"),
    ("S3", r"s3:.*"),
    ("logs and metrics", r"(logs|cloudwatch):.*"),
    ("identity", r"(sts|iam):.*"),
    (OTHERS, r".*"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many operations of a flow there are, and how many of them go how far."""

    flow: str
    executed: int
    recorded: int
    total: int


def flow_of(service_name: str, operation: str) -> str:
    """Return the flow that an operation belongs to."""
    name = f"{service_name}:{operation}"
    return next(flow for flow, form in _FLOWS if re.fullmatch(form, name))


def counts() -> Iterator[Count]:
    """Yield the counts of all flows, in the order of the work."""
    states = {(each.service, each.name): each.state for each in all_served()}
    found: dict[str, list[str]] = {flow: [] for flow, _ in _FLOWS}
    for name in SERVICES:
        for operation in service(name).operation_names:
            state = states.get((name, operation), "not supported")
            found[flow_of(name, operation)].append(state)
    for flow, each in found.items():
        yield Count(
            flow=flow,
            executed=each.count("executed"),
            recorded=each.count("recorded only"),
            total=len(each),
        )


def table() -> str:
    """Return the counts as a table of Markdown."""
    rows = ["| flow | executed | recorded only | of |", "|---|---|---|---|"]
    rows += [
        f"| {each.flow} | {each.executed} | {each.recorded} | {each.total} |" for each in counts()
    ]
    return "\n".join(rows)
