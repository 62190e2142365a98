"""A first loop file for a table: what a person said, what the data suggest, and why."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from loopwright.core.clock import SystemClock
from loopwright.core.errors import AlreadyExistsError
from loopwright.core.files import write_atomically
from loopwright.core.lazy import LazyModule
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
    open_source,
    take_snapshot,
)
from loopwright.loop.file import LoopFile, ReadFile, parse_loop_file
from loopwright.loop.preflight import check_fair_columns
from loopwright.loop.proposal import Proposal, proposed
from loopwright.loop.sourcing import Target, found_target
from loopwright.loop.wording import criterion_said
from loopwright.loop.worth import checked_payoff_columns, checked_worth
from loopwright.problem import Constraints, Criterion, Payoff, Person, Problem, checked_problem

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_TEMPLATE = """\
# A loop file: one machine-learning loop, from the problem to the watched endpoint.
# docs/reference/loop-file.md explains every key. Edit the criteria, then: loopwright run
name: {name}
problem:
  question: {question}
{action}{today}  target: {target}
  task: {task}              # {reason}
{positive}{payoff}  criteria:               # all must hold, on rows the model never saw, with this confidence
{criteria}
  confidence: {confidence}
{constraints}{people}data:
  source: {source}
  split: {split}
prepare:
  auto: true                # suggestions with reasons; what follows is added or overrules them
  drop: []
train:
  # {approach}
  algorithms: [{algorithms}]
  budget: {{minutes: 5, jobs: 40}}
deploy: {{endpoint: {name}{approve}}}
monitor: {{every: 1 hour, false_alarms_per_year: 2}}
retrain: {{when: [criterion_missed, drift], cooldown: 1 day, approve: {approve_own}}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a person said about a problem; what is empty is left to the data.

    Parameters
    ----------
    target
        The column to predict.
    name
        Of the loop; made from the source when None.
    question, action
        In words.
    today, cost_per_case
        How it is done today, and what one case costs.
    task
        See `problem.task`.
    positive
        The class that counts as positive, as its text.
    success
        Sentences, or metrics with their bounds; see `wording.criterion_said`.
    confidence
        How sure every verdict must be.
    payoff
        See `problem.payoff`.
    constraints, people
        See the keys of the same names.
    approve
        Who lets models go live: the first and those of later rounds.
    """

    target: str
    name: str | None = None
    question: str = ""
    action: str = ""
    today: str = ""
    cost_per_case: float | None = None
    task: str | None = None
    positive: str | None = None
    success: Sequence[str] = ()
    confidence: float = 0.95
    payoff: Payoff | None = None
    constraints: Constraints | None = None
    people: Sequence[Person | str] = ()
    approve: Literal["auto", "manual"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftData:
    """The rows a loop file is drafted for: read once, while the draft is made.

    Parameters
    ----------
    source
        As the person named it.
    spec
        For `data.source`.
    parquet
        A copy of all rows.
    """

    source: str
    spec: SourceSpec
    parquet: Path

    def rows(self) -> pl.LazyFrame:
        """Return the rows."""
        return pl.scan_parquet(self.parquet, glob=False)

    def columns(self) -> list[tuple[str, str, int]]:
        """Return every column with its type and how many values its first 10,000 rows have."""
        head = self.rows().head(10_000).collect()
        return [(name, str(dtype), head[name].n_unique()) for name, dtype in head.schema.items()]

    def target(self, told: Told) -> Target:
        """Return the target that a person chose.

        Raises
        ------
        InvalidInputError
            If it is no column, or cannot be predicted.
        """
        problem = Problem(target=told.target, task=told.task, positive=told.positive)
        loop = LoopFile(name="draft", problem=problem, data=DataPlan(source=self.spec))
        return found_target(self.parquet, ReadFile(path=Path("loop.yaml"), content=loop))

    def proposal(self, told: Told) -> Proposal:
        """Return the task and the approach that the rows and the question suggest."""
        return proposed(
            self.rows(),
            self.target(told),
            question=told.question,
            explainable=told.constraints is not None and told.constraints.explainable,
            of_images=isinstance(self.spec, ImageSource),
        )

    def checked(self, told: Told) -> list[Criterion]:
        """Return the criteria a person stated, after checking all that was said.

        Raises
        ------
        InvalidInputError
            With what does not fit, and the remedy.
        """
        found = self.target(told)
        criteria = [criterion_said(text, task=found.task) for text in told.success]
        problem = Problem(
            target=told.target,
            payoff=told.payoff,
            criteria=tuple(criteria),
            confidence=told.confidence,
            constraints=told.constraints,
        )
        checked_problem(problem, task=found.task)
        columns = self.rows().collect_schema().names()
        checked_payoff_columns(problem, found, columns)
        check_fair_columns(problem, columns)
        checked_worth(problem, found, self.rows())
        return criteria


@contextmanager
def draft_data(source: str, *, folder: Path) -> Iterator[DraftData]:
    """Read the rows of a source and give them while a draft is made.

    Parameters
    ----------
    source
        A file or a folder of images, relative to the working folder, the address of a file, a
        database URL with `#table` behind it, the URL of a Redis with `#pattern` or of a MongoDB
        with `/database#collection`, or `dynamodb://table`.
    folder
        Of the loop file to be written.

    Raises
    ------
    InvalidInputError
        If the source cannot be used.
    BackendError
        If a database cannot be reached.
    """
    from loopwright.store import MemoryArtifactStore

    spec = _source(source, folder)
    opened = open_source(spec, folder)
    opened.check(None)
    with tempfile.TemporaryDirectory(prefix="loopwright-") as temporary:
        store = MemoryArtifactStore(Path(temporary))
        taken = take_snapshot(opened, artifacts=store, clock=SystemClock(), folder=Path(temporary))
        yield DraftData(source=source, spec=spec, parquet=store.local_path(taken.digest))


def check_new(path: Path) -> None:
    """Refuse to write over a file.

    Raises
    ------
    AlreadyExistsError
        If the file exists.
    """
    if path.exists():
        raise AlreadyExistsError(
            f"The file {str(path)!r} exists already.",
            hint="Give another with --output, or remove it.",
            kind="loop file",
            name=str(path),
        )


def drafted_file(path: Path, data: DraftData, told: Told) -> Path:
    """Write a loop file and return its path.

    Parameters
    ----------
    path
        Where to write; must not exist.
    data
        The rows, as `draft_data` gives them.
    told
        What the person said.

    Raises
    ------
    AlreadyExistsError
        If the file exists.
    InvalidInputError
        If the target cannot be used, or something said does not fit it; nothing is written.
    """
    check_new(path)
    found, proposal = data.target(told), data.proposal(told)
    criteria = data.checked(told)
    text = drafted_text(data, told, found, proposal, criteria)
    parse_loop_file(text.encode(), name=path.name)
    write_atomically(path, text.encode())
    return path


def drafted_text(
    data: DraftData,
    told: Told,
    found: Target,
    proposal: Proposal,
    criteria: Sequence[Criterion],
) -> str:
    """Return the text of the loop file."""
    today = {"does": told.today, "cost_per_case": told.cost_per_case}
    stated = [_flow(msgspec.to_builtins(each)) for each in criteria] or usual_criteria(found)
    split: dict[str, Any] = {
        "train": 0.7,
        "validation": 0.2,
        "test": 0.1,
        "by": proposal.split_by,
        "seed": 7,
    }
    if proposal.split_column is not None:
        split["column"] = proposal.split_column
    approach = _one_line(f"{proposal.approach}: {proposal.why}")
    if proposal.caveat:
        approach += f"\n  # ({proposal.caveat})"
    name = checked_name(told.name or _name_from(data.source), what="loop")
    return _TEMPLATE.format(
        name=name,
        question=_quoted(told.question or f"What will {told.target} be?"),
        action=_line("action", told.action),
        today=f"  today: {_flow(today)}\n"
        if told.today or told.cost_per_case is not None
        else "  # today: {does: how it is done now, cost_per_case: 0}\n",
        target=_quoted(told.target),
        task=found.task,
        reason=_one_line(found.reason),
        positive=f"  positive: {_quoted(found.classes[1])}\n" if found.task == "binary" else "",
        payoff=f"  payoff: {_flow(dict(told.payoff))}\n" if told.payoff else "",
        criteria="\n".join(f"    - {each}" for each in stated),
        confidence=f"{told.confidence:g}",
        constraints=_constraints(told.constraints),
        people=_people(told.people),
        source=_flow(msgspec.to_builtins(data.spec)),
        split=_flow(split),
        approach=approach,
        algorithms=", ".join(proposal.algorithms),
        approve=f", approve: {told.approve}" if told.approve else "",
        # who asks for a person means every model, not the first alone
        approve_own=told.approve or "auto",
    )


def usual_criteria(target: Target) -> list[str]:
    """Return the criteria of a draft whose person stated none, to be edited."""
    if target.task == "regression":
        return ["{metric: r2, at_least: 0.75}"]
    if target.task == "binary":
        return ["{metric: roc_auc, at_least: 0.8}"]
    return [f"{{metric: accuracy, at_least: {max(0.6, 1.5 / len(target.classes)):.2g}}}"]


def _constraints(constraints: Constraints | None) -> str:
    if constraints is None or not constraints.stated():
        return ""
    usual = msgspec.to_builtins(Constraints())
    given = {k: v for k, v in msgspec.to_builtins(constraints).items() if v != usual[k]}
    if "fairness" in given:
        given["fairness"] = [
            {k: v for k, v in each.items() if v not in (None, (), [])} for each in given["fairness"]
        ]
    return f"  constraints: {_flow(given)}\n"


def _people(people: Sequence[Person | str]) -> str:
    if not people:
        return ""
    told = [
        msgspec.to_builtins(each) if isinstance(each, Person) and each.role else str(each)
        for each in people
    ]
    return f"  people: {json.dumps(told, ensure_ascii=False)}\n"


def _line(key: str, text: str) -> str:
    return f"  {key}: {_quoted(text)}\n" if text else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


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


def _quoted(text: str) -> str:
    return (
        text
        if re.fullmatch(r"[A-Za-z_][\w ?.]*", text) and not _is_word(text)
        else json.dumps(text, ensure_ascii=False)
    )


def _is_word(text: str) -> bool:
    """Return whether YAML reads the text as something else than text."""
    return text.lower() in {"yes", "no", "true", "false", "null", "on", "off", "y", "n"} or (
        text.endswith("?") and ": " in text
    )


def _flow(value: Mapping[str, Any]) -> str:
    pairs = (
        f"{key}: {json.dumps(item, ensure_ascii=False)}"
        for key, item in value.items()
        if item is not None
    )
    return "{" + ", ".join(pairs) + "}"
