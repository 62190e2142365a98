"""A first loop file for a table: everything filled in, the criteria to be edited."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core.clock import SystemClock
from loopwright.core.errors import AlreadyExistsError
from loopwright.core.files import write_atomically
from loopwright.core.names import checked_name
from loopwright.data import (
    DataPlan,
    DynamoDbSource,
    FileSource,
    ImageSource,
    MongoDbSource,
    RedisSource,
    SourceSpec,
    SqlSource,
    holds_images,
)
from loopwright.loop.file import LoopFile, ReadFile
from loopwright.loop.sourcing import Target, extracted
from loopwright.problem import Problem

_TEMPLATE = """\
# A loop file: one machine-learning loop, from the problem to the watched endpoint.
# docs/reference/loop-file.md explains every key. Edit the criteria, then: loopwright run
name: {name}
problem:
  question: {question}
  # today: {{does: how it is done now, cost_per_case: 0}}
  target: {target}
  task: {task}              # {reason}
{positive}  criteria:               # all must hold, on rows the model never saw, with this confidence
{criteria}
  confidence: 0.95
data:
  source: {source}
  split: {{train: 0.7, validation: 0.2, test: 0.1, by: random, seed: 7}}
prepare:
  auto: true                # suggestions with reasons; what follows is added or overrules them
  drop: []
train:
  algorithms: [linear-learner, knn, xgboost, lightgbm]
  budget: {{minutes: 5, jobs: 40}}
deploy: {{endpoint: {name}}}
monitor: {{every: 1 hour, false_alarms_per_year: 2}}
retrain: {{when: [criterion_missed, drift], cooldown: 1 day, approve: auto}}
"""


def drafted_file(path: Path, *, source: str, target: str, name: str | None, question: str) -> Path:
    """Write a loop file for a source and a target, and return its path.

    Parameters
    ----------
    path
        Where to write; must not exist.
    source
        A file or a folder of images, relative to the working folder, the address of a file, a
        database URL with `#table` behind it, the URL of a Redis with `#pattern` or of a MongoDB
        with `/database#collection`, or `dynamodb://table`.
    target
        The column to predict.
    name
        Of the loop; made from the source when None.
    question
        The business question, in words.

    Raises
    ------
    AlreadyExistsError
        If the file exists.
    InvalidInputError
        If the source or the target cannot be used.
    """
    if path.exists():
        raise AlreadyExistsError(
            f"The file {str(path)!r} exists already.",
            hint="Give another with --output, or remove it.",
            kind="loop file",
            name=str(path),
        )
    spec = _source(source, path.resolve().parent)
    name = checked_name(name or _name_from(source), what="loop")
    loop = LoopFile(name=name, problem=Problem(target=target), data=DataPlan(source=spec))
    read = ReadFile(path=path.resolve(), content=loop)
    with extracted(
        read, metadata=None, artifacts=None, clock=SystemClock(), refresh=True, scratch=None
    ) as extraction:
        found = extraction.sourced.target
    text = _TEMPLATE.format(
        name=name,
        question=_quoted(question or f"What will {target} be?"),
        target=_quoted(target),
        task=found.task,
        reason=found.reason,
        positive=f"  positive: {_quoted(found.classes[1])}\n" if found.task == "binary" else "",
        criteria="\n".join(f"    - {each}" for each in _criteria(found)),
        source=_flow(msgspec.to_builtins(spec)),
    )
    write_atomically(path, text.encode())
    return path


def _source(source: str, folder: Path) -> SourceSpec:
    scheme = source.partition("://")[0].lower() if "://" in source else ""
    address, _, behind = source.partition("#")
    if scheme in ("s3", "gs", "az", "http", "https"):
        return FileSource(path=source)
    if scheme in ("redis", "rediss", "unix"):
        return RedisSource(url=address, pattern=behind or "*")
    if scheme == "dynamodb":
        return DynamoDbSource(table=address.partition("://")[2].strip("/"))
    if scheme in ("mongodb", "mongodb+srv"):
        database = address.partition("://")[2].partition("/")[2].partition("?")[0]
        return MongoDbSource(url=address, database=database, collection=behind)
    if scheme or source.startswith("env:"):
        return SqlSource(url=address, table=behind or None)
    path = Path(source).resolve()
    place = str(path.relative_to(folder) if path.is_relative_to(folder) else path)
    return ImageSource(path=place) if holds_images(path) else FileSource(path=place)


def _name_from(source: str) -> str:
    stem = source.rpartition("#")[2] if "#" in source else Path(source).name.partition(".")[0]
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:63] or "loop"


def _criteria(target: Target) -> list[str]:
    if target.task == "regression":
        return ["{metric: r2, at_least: 0.75}"]
    if target.task == "binary":
        return ["{metric: roc_auc, at_least: 0.8}"]
    return [f"{{metric: accuracy, at_least: {max(0.6, 1.5 / len(target.classes)):.2g}}}"]


def _quoted(text: str) -> str:
    return (
        text
        if re.fullmatch(r"[A-Za-z_][\w ?.]*", text) and not _is_word(text)
        else json.dumps(text)
    )


def _is_word(text: str) -> bool:
    """Return whether YAML reads the text as something else than text."""
    return text.lower() in {"yes", "no", "true", "false", "null", "on", "off", "y", "n"} or (
        text.endswith("?") and ": " in text
    )


def _flow(value: dict[str, Any]) -> str:
    pairs = (f"{key}: {json.dumps(item)}" for key, item in value.items() if item is not None)
    return "{" + ", ".join(pairs) + "}"
