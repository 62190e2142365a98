"""The reference page is what the code says."""

from __future__ import annotations

from pathlib import Path

from loopwright.sagemaker.model import service
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
