"""The seal of what was agreed: a digest, who, when; and how the goalposts moved afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec

from loopwright.core.digest import digest_value
from loopwright.problem.problem import Problem


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """The criteria as they were agreed.

    Parameters
    ----------
    digest
        Of all that was agreed.
    name
        Who ran the loop.
    at
        When.
    criteria
        Each in words.
    people
        Who agrees, as the loop file names them.
    terms
        What else was agreed, by its key in the loop file, in words.
    """

    digest: str
    name: str
    at: datetime
    criteria: tuple[str, ...]
    people: tuple[str, ...] = ()
    terms: dict[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A goalpost that was moved: what was agreed before and after, by whom and when."""

    at: str
    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.at[:16].replace('T', ' ')} by {self.name}: "
            f"{'; '.join(self.before) or 'nothing'} became {'; '.join(self.after) or 'nothing'}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the move as JSON types."""
        return {
            "at": self.at,
            "name": self.name,
            "before": list(self.before),
            "after": list(self.after),
            "told": str(self),
        }


def sealed(problem: Problem, *, name: str, at: datetime) -> Seal:
    """Return the seal of a problem's criteria: what was agreed cannot change unseen afterwards.

    Who agrees stands beside the digest, not in it: another name moves no goalpost.
    """
    criteria = [str(criterion) for criterion in problem.criteria]
    agreed: dict[str, Any] = {
        "target": problem.target,
        "confidence": problem.confidence,
        "payoff": problem.payoff,
        "criteria": criteria,
    }
    terms = {"target": problem.target, "confidence": f"{problem.confidence:g}"}
    if problem.payoff:
        terms["payoff"] = _told_payoff(problem.payoff)
    if problem.constraints is not None and (stated := problem.constraints.stated()):
        # a file without constraints keeps the digest it had before there were any
        agreed["constraints"] = msgspec.to_builtins(problem.constraints)
        terms["constraints"] = "; ".join(stated)
    return Seal(
        digest=digest_value(agreed),
        name=name,
        at=at,
        criteria=tuple(criteria),
        people=tuple(str(person) for person in problem.people),
        terms=terms,
    )


def moves(seals: Sequence[Mapping[str, Any]]) -> tuple[Move, ...]:
    """Return how the goalposts moved from each seal of a loop to the next, oldest first.

    Parameters
    ----------
    seals
        As the store keeps them: `Seal` as JSON types.
    """
    found = []
    for old, new in pairwise(seals):
        # seals of an earlier release hold the criteria alone
        with_terms = "terms" in old and "terms" in new
        before, after = (_posts(seal, with_terms=with_terms) for seal in (old, new))
        found.append(
            Move(
                at=str(new["at"]),
                name=str(new["name"]),
                before=tuple(post for post in before if post not in after),
                after=tuple(post for post in after if post not in before),
            )
        )
    return tuple(found)


def _posts(seal: Mapping[str, Any], *, with_terms: bool) -> list[str]:
    """Return all that a seal holds, one goalpost a line."""
    terms = seal["terms"] if with_terms else {}
    return [*seal["criteria"], *(f"{key} {value}" for key, value in terms.items())]


def _told_payoff(payoff: Mapping[str, Any]) -> str:
    told = []
    for name, amount in payoff.items():
        if isinstance(amount, Mapping):
            told += [f"{name} as {said}: {each}" for said, each in amount.items()]
        else:
            told.append(f"{name}: {amount}")
    return ", ".join(told)
