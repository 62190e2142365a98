"""The reference page is what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopwright.sagemaker.flow import OTHERS, counts, flow_of
from loopwright.sagemaker.model import SERVICES, service
from loopwright.sagemaker.reference import reference
from loopwright.sagemaker.registry import all_served

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "sagemaker.md"


def served_rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| `")]


def test_the_page_says_what_is_served() -> None:
    # which others there are depends on the version of botocore
    assert served_rows(PAGE.read_text()) == served_rows(reference())


def test_only_operations_that_aws_knows_are_served() -> None:
    unknown = [
        each for each in all_served() if each.name not in service(each.service).operation_names
    ]

    assert unknown == []


def test_every_operation_of_sagemaker_is_on_the_page() -> None:
    page = reference()

    assert [name for name in service("sagemaker").operation_names if f"`{name}`" not in page] == []


def test_every_operation_that_is_served_counts_in_one_flow() -> None:
    found = list(counts())
    served = {(each.service, each.name) for each in all_served()}

    assert sum(each.executed + each.recorded for each in found) == len(served)
    assert sum(each.total for each in found) == sum(
        len(service(name).operation_names) for name in SERVICES
    )
    assert [each for each in served if flow_of(*each) == OTHERS] == []


@pytest.mark.parametrize(
    ("operation", "flow"),
    [
        ("CreateTrainingJob", "training"),
        ("ListTrainingJobsForHyperParameterTuningJob", "tuning"),
        ("CreateModelQualityJobDefinition", "monitoring"),
        ("CreateModelPackage", "registry"),
        ("CreateModel", "deployment"),
        ("CreateEndpointConfig", "deployment"),
        ("AssociateTrialComponent", "experiments and lineage"),
        ("CreateFeatureGroup", OTHERS),
    ],
)
def test_an_operation_counts_where_its_name_belongs(operation: str, flow: str) -> None:
    assert flow_of("sagemaker", operation) == flow
