"""The questions of `loopwright init`: asked in plain words, each with an answer to fall back on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean

if TYPE_CHECKING:
    from loopwright.loop.draft import DraftData, Told
    from loopwright.loop.sourcing import Target

_T = TypeVar("_T")
_MOST_SHOWN = 40
_MOST_TRIES = 20


def asked_source() -> str:
    """Ask where the rows are."""
    click.echo("A loop file says what is asked, what counts as success, and where the rows are.\n")
    return str(
        click.prompt(
            "Where are the rows? A file, a folder of images, or a database URL with #table"
        )
    )


def asked_told(data: DraftData, told: Told) -> Told:
    """Ask what nobody said yet; an empty answer leaves it to the data."""
    told = _with_target(data, told)
    told = _with_question(told)
    found = data.target(told)
    told = _with_approach(data, told, found)
    found = data.target(told)
    if found.task == "binary" and told.payoff is None:
        told = _with_payoff(data, told, found)
    told = _with_success(data, told, found)
    if told.constraints is None:
        told = _with_constraints(told)
    return _with_people(told)


def _with_target(data: DraftData, told: Told) -> Told:
    if told.target:
        data.target(told)
        return told
    columns = data.columns()
    click.echo(f"\nThe table has {len(columns)} columns:")
    for number, (name, dtype, n_values) in enumerate(columns[:_MOST_SHOWN], start=1):
        click.echo(f"  {number:>3}  {name}  ({dtype.lower()}, {n_values:,} different values)")
    names = [name for name, *_ in columns]

    def chosen(answer: str) -> Told:
        name = answer
        if answer not in names and answer.isdecimal() and 1 <= int(answer) <= len(names):
            name = names[int(answer) - 1]
        if name not in names:
            raise InvalidInputError(
                f"There is no column {answer!r}.", hint=did_you_mean(answer, names)
            )
        asked = replace(told, target=name)
        data.target(asked)
        return asked

    return _until_right("Which one is to be predicted? A number or a name", chosen)


def _with_question(told: Told) -> Told:
    click.echo("")
    question = told.question or _text(
        "What is the business question?", f"What will {told.target} be?"
    )
    action = told.action or _text("What will be done with the answer?")
    today = told.today or _text("How is it done today?")
    cost = told.cost_per_case
    if cost is None and today:
        cost = _until_right(
            "What does one case cost today? (a number, or nothing)",
            lambda answer: _number(answer) if answer else None,
            default="",
        )
    return replace(told, question=question, action=action, today=today, cost_per_case=cost)


def _with_approach(data: DraftData, told: Told, found: Target) -> Told:
    proposal = data.proposal(told)
    click.echo(f"\nProposal: {found.task}, because {proposal.task_reason}.")
    click.echo(f"Approach: {proposal.approach}, because {proposal.why}.")
    if proposal.caveat:
        click.echo(f"Mind that {proposal.caveat}.")

    def taken(answer: str) -> Told:
        asked = replace(told, task=None if answer == found.task else answer)
        data.target(asked)
        return asked

    if told.task is None:
        told = _until_right(
            "Which kind is it? (regression, binary, multiclass)", taken, default=found.task
        )
        found = data.target(told)
    if found.task == "binary" and told.positive is None:
        names = " or ".join(repr(name) for name in found.classes)

        def positive(answer: str) -> Told:
            asked = replace(told, positive=answer)
            data.target(asked)
            return asked

        told = _until_right(f"Which is the case to act upon? {names}", positive, found.classes[1])
    return told


def _with_payoff(data: DraftData, told: Told, found: Target) -> Told:
    if not click.confirm("\nDo right and wrong answers earn or cost money?", default=False):
        return told
    click.echo("Costs are negative. A column may stand in it, such as 0.5 * yearly_value - 20.")
    other, case = found.classes
    asked = {
        "true_positive": f"a {case!r} that is named",
        "false_positive": f"a {other!r} that is named by mistake",
        "false_negative": f"a {case!r} that is missed",
        "true_negative": f"a {other!r} that is left alone",
    }

    def amount(answer: str) -> float | str:
        try:
            return _number(answer)
        except InvalidInputError:
            return answer

    while True:
        payoff: dict[str, Any] = {
            outcome: _until_right(f"  What does {words} earn?", amount, default="0")
            for outcome, words in asked.items()
        }
        try:
            data.checked(replace(told, payoff=payoff))
        except InvalidInputError as error:
            _show(error)
            if not click.confirm("Once more?", default=True):
                return told
            continue
        return replace(told, payoff={k: v for k, v in payoff.items() if v != 0})


def _with_success(data: DraftData, told: Told, found: Target) -> Told:
    from loopwright.loop.wording import EXAMPLES, criterion_said

    if told.success:
        return told
    click.echo("\nWhen is it good enough? For instance:")
    for example in EXAMPLES[found.task]:
        click.echo(f"  {example}")
    said: list[str] = []

    def understood(answer: str) -> str:
        if answer:
            data.checked(replace(told, success=(*said, answer)))
            click.echo(f"  understood as: {criterion_said(answer, task=found.task)}")
        return answer

    while len(said) < _MOST_TRIES:
        words = "Good enough when" if not said else "And when (nothing: that is all)"
        answer = _until_right(words, understood, default="")
        if not answer:
            break
        said.append(answer)
    if not said:
        click.echo("  The file will hold a usual criterion; agree on it before you run.")
    return replace(told, success=tuple(said))


def _with_constraints(told: Told) -> Told:
    from loopwright.problem import Constraints

    click.echo("")
    explainable = click.confirm("Must a person be able to read the model?", default=False)
    personal = click.confirm("May models see personal data?", default=True)
    latency = _until_right(
        "Must an answer come within some milliseconds? (a number, or nothing)",
        lambda answer: _number(answer) if answer else None,
        default="",
    )
    constraints = Constraints(explainable=explainable, personal_data=personal, latency_ms=latency)
    return replace(told, constraints=constraints if constraints.stated() else None)


def _with_people(told: Told) -> Told:
    from loopwright.problem import Person

    if not told.people:
        answer = _text("\nWho agrees with this? Names with commas, roles in brackets")
        people = [person_said(each) for each in answer.split(",") if each.strip()]
        told = replace(told, people=[Person(name=name, role=role) for name, role in people])
    if told.approve is None and click.confirm(
        "Must a person approve a model before it goes live?", default=False
    ):
        told = replace(told, approve="manual")
    return told


def person_said(text: str) -> tuple[str, str]:
    """Return the name and the role in a text such as `Bo Chen (head of sales)`."""
    match = re.fullmatch(r"\s*(.*?)\s*(?:\((.*)\))?\s*", text)
    return (match[1], match[2] or "") if match else (text.strip(), "")


def _text(words: str, default: str = "") -> str:
    return str(click.prompt(words, default=default, show_default=bool(default))).strip()


def _number(answer: str) -> float:
    try:
        return float(answer.replace(",", ""))
    except ValueError:
        raise InvalidInputError(
            f"{answer!r} is no number.", hint="Write it as 1500 or 0.5."
        ) from None


def _until_right(words: str, read: Callable[[str], _T], default: str | None = None) -> _T:
    """Ask until the answer can be read; what is wrong with it is told."""
    for _ in range(_MOST_TRIES):
        answer = click.prompt(words, default=default, show_default=bool(default))
        try:
            return read(str(answer).strip())
        except InvalidInputError as error:
            _show(error)
    raise click.Abort


def _show(error: InvalidInputError) -> None:
    click.secho(f"  {error.message}", fg="red")
    if error.hint:
        click.echo(f"  {error.hint}")
