"""The command `init`: a first loop file, from questions in plain words or from options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopwright.cli.interview import asked_source, asked_told, person_said
from loopwright.cli.main import command
from loopwright.core.errors import InvalidInputError

if TYPE_CHECKING:
    from loopwright.loop.draft import Told
    from loopwright.problem import Constraints, FairnessLimit


@command
@click.argument("source", required=False)
@click.option("--target", default="", help="Column to predict.")
@click.option("--name", help="Name of the loop [default: from the source].")
@click.option("--question", default="", help="The business question, in words.")
@click.option("--action", default="", help="What is done with the answer, in words.")
@click.option("--today", default="", help="How it is done today, in words.")
@click.option("--cost", type=float, help="What one case costs today.")
@click.option("--task", type=click.Choice(["regression", "binary", "multiclass"]))
@click.option("--positive", help="Value of a binary target to act upon.")
@click.option(
    "--success",
    multiple=True,
    metavar="WORDS",
    help="When it is good enough: 'within 5 % in 30 % of the cases', 'recall >= 0.8'. Repeatable.",
)
@click.option("--confidence", default=0.95, show_default=True, help="How sure a verdict must be.")
@click.option(
    "--payoff",
    multiple=True,
    metavar="OUTCOME=AMOUNT",
    help="What an outcome earns, a number or an expression over columns. Repeatable.",
)
@click.option("--explainable", is_flag=True, help="Only models that a person can read.")
@click.option("--no-personal-data", is_flag=True, help="Models may not see personal data.")
@click.option("--latency-ms", type=float, help="Longest time of 99 of 100 answers.")
@click.option("--size-mb", type=float, help="Largest packed model.")
@click.option(
    "--fair",
    multiple=True,
    metavar="COLUMN:METRIC:GAP",
    help="Largest difference of a metric between groups of people. Repeatable.",
)
@click.option("--person", multiple=True, help="Who agrees: 'Bo Chen (head of sales)'. Repeatable.")
@click.option("--approve", type=click.Choice(["auto", "manual"]), help="Who lets it go live.")
@click.option("--yes", is_flag=True, help="Ask nothing; leave to the data what is not said.")
@click.option("--output", "-o", default="loop.yaml", type=click.Path(path_type=Path))
def init(
    home: Path | None,  # noqa: ARG001 every command is given --home
    as_json: bool,
    source: str | None,
    yes: bool,
    output: Path,
    **said: Any,
) -> None:
    """Write a loop file for a table, asking what the options do not say.

    SOURCE is a file, a folder of images, or a database URL with #table.
    """
    from loopwright.cli.show import echo_json
    from loopwright.loop.draft import check_new, draft_data, drafted_file

    check_new(output)
    asks = not yes and not as_json and sys.stdin.isatty() and sys.stdout.isatty()
    told = _told(**said)
    if not asks:
        _check_said(source, told)
    source = source or asked_source()
    with draft_data(source, folder=output.resolve().parent) as data:
        if asks:
            told = asked_told(data, told)
        path = drafted_file(output, data, told)
        proposal = data.proposal(told)
    if as_json:
        echo_json(
            {
                "file": str(path),
                "task": proposal.task,
                "approach": proposal.approach,
                "why": proposal.why,
            }
        )
        return
    click.echo(f"{proposal.task}, {proposal.approach}: {proposal.why}.")
    click.echo(f"Wrote {path}. Edit the criteria in it, then: loopwright run {path}")


def _check_said(source: str | None, told: Told) -> None:
    for field, value in (("SOURCE", source), ("--target", told.target)):
        if not value:
            raise InvalidInputError(
                f"{field} is missing.",
                hint="Write loopwright init customers.csv --target churned; on a terminal, init asks.",
                field=field.strip("-").lower(),
                value=None,
            )


def _told(
    *,
    target: str,
    name: str | None,
    question: str,
    action: str,
    today: str,
    cost: float | None,
    task: str | None,
    positive: str | None,
    success: tuple[str, ...],
    confidence: float,
    payoff: tuple[str, ...],
    person: tuple[str, ...],
    approve: Any,
    **constraints: Any,
) -> Told:
    from loopwright.loop.draft import Told
    from loopwright.problem import Person

    people = [person_said(each) for each in person]
    return Told(
        target=target,
        name=name,
        question=question,
        action=action,
        today=today,
        cost_per_case=cost,
        task=task,
        positive=positive,
        success=success,
        confidence=confidence,
        payoff=dict(_amount(each) for each in payoff) or None,
        constraints=_constraints(**constraints),
        people=[Person(name=each, role=role) for each, role in people],
        approve=approve,
    )


def _amount(text: str) -> tuple[str, float | str]:
    outcome, sign, amount = (part.strip() for part in text.partition("="))
    if not (sign and amount):
        raise InvalidInputError(
            f"--payoff is {text!r}.",
            hint="Write --payoff true_positive=160.",
            field="payoff",
            value=text,
        )
    try:
        return outcome, float(amount)
    except ValueError:
        return outcome, amount


def _constraints(
    *,
    explainable: bool,
    no_personal_data: bool,
    latency_ms: float | None,
    size_mb: float | None,
    fair: tuple[str, ...],
) -> Constraints | None:
    from loopwright.problem import Constraints

    found = Constraints(
        latency_ms=latency_ms,
        size_mb=size_mb,
        explainable=explainable,
        personal_data=not no_personal_data,
        fairness=tuple(_fairness(each) for each in fair),
    )
    return found if found.stated() else None


def _fairness(text: str) -> FairnessLimit:
    from loopwright.problem import FairnessLimit

    column, _, rest = text.partition(":")
    metric, _, gap = rest.partition(":")
    try:
        return FairnessLimit(column=column, metric=metric, at_most_gap=float(gap))
    except ValueError:
        raise InvalidInputError(
            f"--fair is {text!r}.",
            hint="Write --fair gender:recall:0.1.",
            field="fair",
            value=text,
        ) from None
