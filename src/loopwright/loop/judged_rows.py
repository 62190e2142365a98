"""Looks at test rows: which candidate was judged on which rows, for which decision, and why again.

Test rows that judge often judge no more: whoever tries until they say yes has fitted them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from loopwright.core.digest import digest_value
from loopwright.core.errors import WrongStateError

if TYPE_CHECKING:
    from loopwright.loop.candidate import Candidate
    from loopwright.loop.workspace import Workspace
    from loopwright.store import MetadataStore

_KIND = "test_look"
_MOST = 10_000
# how a model is served and watched, and what training left beside it, make no other candidate
_BESIDE = ("training.json", "validation.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One candidate judged on test rows.

    Parameters
    ----------
    loop, round
        Where it was judged.
    decision
        What was asked: the loop file without its words, and without how a model is served.
    candidate
        Digest of the model.
    at, by
        When, and who ran the loop.
    reason
        A person's, for a look that is not the first of its decision; empty otherwise.
    """

    loop: str
    round: int
    decision: str
    candidate: str
    at: str
    by: str
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the look as JSON types."""
        return asdict(self)


def candidate_digest(candidate: Candidate) -> str:
    """Return what tells candidates apart: their files, and from where they say yes."""
    members = {name: each for name, each in candidate.members.items() if name not in _BESIDE}
    return digest_value([members, candidate.threshold])


def looks_at(metadata: MetadataStore, rows: str) -> list[Look]:
    """Return the looks at test rows, oldest first, by whatever loop.

    Parameters
    ----------
    rows
        Digest of the test rows.
    """
    names = {field.name for field in fields(Look)}
    found = [
        Look(**{key: value for key, value in record.body.items() if key in names})
        for record in metadata.list_(_KIND, prefix=f"{_short(rows)}/", limit=_MOST)
    ]
    return sorted(found, key=lambda look: look.at)


def n_decisions(looks: Sequence[Look]) -> int:
    """Return how many decisions test rows were used for."""
    return len({look.decision for look in looks})


def told_looks(looks: Sequence[Look]) -> str:
    """Return what a reader must know of the looks at test rows; empty after a single one."""
    n, again = n_decisions(looks), [look for look in looks if look.reason]
    told = []
    if n > 1:
        told.append(
            f"These test rows were used for {n} decisions; each makes it likelier that one of "
            "them is right by luck."
        )
    told += [
        f"They were read again on {look.at[:10]} by {look.by}: {look.reason.rstrip('.')}."
        for look in again
    ]
    return " ".join(told)


def check_look(
    looks: Sequence[Look],
    *,
    loop: str,
    decision: str,
    candidate: str | None,
    once: bool,
    reason: str,
) -> None:
    """Refuse a look that needs a reason and has none.

    Parameters
    ----------
    looks
        At these rows so far.
    loop, decision, candidate
        Whose look it would be, and for what; no candidate asks before there is one.
    once
        Whether a later decision on the same rows needs a reason too.
    reason
        A person's.

    Raises
    ------
    WrongStateError
        With what was judged before.
    """
    others = [look for look in looks if look.decision != decision]
    here = [look for look in looks if look.decision == decision]
    if reason or any(look.candidate == candidate for look in here):
        return
    if here and candidate is not None:
        raise WrongStateError(
            "The test rows were read for this decision already, to judge another candidate "
            f"({here[-1].at[:16].replace('T', ' ')}).",
            hint="They judge one candidate a decision. To read them again, give a reason that "
            "every report will show: loopwright run --again 'why'.",
            kind="test rows",
            name=loop,
        )
    if once and others and not here:
        raise WrongStateError(
            f"The test rows judged {n_decisions(others)} decision(s) already, and "
            "problem.test_rows is 'once'.",
            hint="Bring new rows, or give a reason that every report will show: "
            "loopwright run --again 'why'.",
            kind="test rows",
            name=loop,
        )


def noted_look(workspace: Workspace, rows: str, look: Look, *, once: bool = False) -> list[Look]:
    """Record a look at test rows before it is taken, and return all looks at them.

    The same look for the same decision, after an interruption, is noted once.

    Parameters
    ----------
    rows
        Digest of the test rows.
    look
        What is judged, for what; its reason is a person's, if they gave one.
    once
        See `check_look`.

    Raises
    ------
    WrongStateError
        If it needs a reason and has none.
    """
    known = looks_at(workspace.metadata, rows)
    if any(_is_same(look, each) for each in known):
        return known
    check_look(
        known,
        loop=look.loop,
        decision=look.decision,
        candidate=look.candidate,
        once=once,
        reason=look.reason,
    )
    if not known or not _needs_reason(look, known, once=once):
        look = Look(**{**asdict(look), "reason": ""})
    name = digest_value([look.decision, look.candidate])
    workspace.metadata.put(_KIND, f"{_short(rows)}/{_short(name)}", look.to_json())
    return [*known, look]


def _needs_reason(look: Look, known: Sequence[Look], *, once: bool) -> bool:
    return once or any(each.decision == look.decision for each in known)


def _is_same(one: Look, other: Look) -> bool:
    return (one.decision, one.candidate) == (other.decision, other.candidate)


def _short(digest: str) -> str:
    return digest.rpartition(":")[2]
