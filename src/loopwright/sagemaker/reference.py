"""The page that lists every operation and how far it goes: `python -m loopwright.sagemaker.reference`."""

from __future__ import annotations

import sys

from loopwright.sagemaker.flow import table
from loopwright.sagemaker.model import SERVICES, service
from loopwright.sagemaker.registry import all_served

_HEAD = """# The SageMaker-compatible API, operation by operation

Made from the code by `python -m loopwright.sagemaker.reference`; do not edit.

- **executed**: it does here what it says.
- **recorded only**: it is kept and told again, and nothing follows from it.
- **not supported**: it answers with an error that says so. Names that AWS does not know either answer
  with `UnknownOperationException`.

What is not said of an operation that is executed: all values are checked by the shapes of AWS's own
service model, as botocore has it.

S3 is described as it is with buckets in the home folder. With buckets in another store (`--s3`), what it answers is the
store's: all operations of S3 that read are passed on, and those that write objects, uploads, tags and buckets.
"""
_TITLES = {
    "sagemaker": "SageMaker",
    "sagemaker-runtime": "SageMaker runtime",
    "sagemaker-metrics": "SageMaker metrics",
    "s3": "S3",
    "sts": "STS",
    "iam": "IAM",
    "logs": "CloudWatch Logs",
    "cloudwatch": "CloudWatch",
    "lambda": "Lambda",
    "application-autoscaling": "Application Auto Scaling",
}


def reference() -> str:
    """Return the page."""
    parts = [_HEAD, f"## By flow\n\n{table()}\n"]
    for name in SERVICES:
        served = [each for each in all_served() if each.service == name]
        known = {each.name for each in served}
        others = sorted(set(service(name).operation_names) - known)
        total = len(others) + len(served)
        parts.append(f"## {_TITLES[name]}\n\n{len(served)} of {total} operations are served.\n")
        if served:
            rows = [f"| `{each.name}` | {each.state} | {each.note} |" for each in served]
            parts.append(
                "\n".join(["| operation | state | what is different |", "|---|---|---|", *rows])
                + "\n"
            )
        listed = ", ".join(f"`{each}`" for each in others)
        parts.append(
            f"<details><summary>{len(others)} not supported</summary>\n\n{listed}\n\n</details>\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(reference())
