"""Suspicious labels: held when they come, on record, and accepted or rejected by a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from loopwright.core.errors import InvalidInputError, NotFoundError, WrongStateError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.loop.file import LoopFile
from loopwright.loop.gathering import gathered, ledger_about
from loopwright.loop.live_quality import row_losses
from loopwright.loop.sourcing import Sourced, Target
from loopwright.loop.workspace import Workspace
from loopwright.monitor import (
    GroundTruth,
    Ledger,
    Reference,
    SourceHistory,
    Suspect,
    judged_batches,
)
from loopwright.monitor.reference import bin_codes
from loopwright.monitor.source_history import histories

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_KIND = "label_suspect"
_ANEW = "labels_anew"
_MOST = 10_000
# coarse, so that fifty labels tell a mix from another
_BINS = 8
_SEED = 7


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """What a look made of the labels that were new.

    Parameters
    ----------
    found
        Batches that are held since.
    history
        What each source was like, for the next look; see `keep_review`.
    """

    found: tuple[Suspect, ...]
    history: dict[str, SourceHistory]


def review_labels(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    ledger: Ledger,
    reference: Reference,
    *,
    above: int,
    threshold: float,
    inputs_moved: bool,
    anew: bool = False,
) -> Review:
    """Hold the suspicious batches among the labels that came after a number, and return them.

    They are on record before they are held: a process that is killed between finds them again.

    Parameters
    ----------
    anew
        Whether what sources were like is to be learnt again, because labels were taken back.
    """
    history = _history(workspace, loop.name)
    if anew:
        older = _rows(loop, target, ledger, reference, above=0, threshold=threshold, upto=above)
        history = histories(older, (len(target.classes) or _BINS, _BINS))
    rows = _rows(loop, target, ledger, reference, above=above, threshold=threshold)
    if anew and rows.height:
        # what stands again where a label was taken back contradicts nothing
        rows = rows.filter(~pl.col("was_labelled"))
    if not rows.height:
        return Review(found=(), history=history)
    n_bins = (len(target.classes) or _BINS, _BINS)
    known = list_suspects(workspace, loop.name)
    found, after = judged_batches(
        rows,
        history,
        n_bins=n_bins,
        span=(above, ledger.number),
        inputs_moved=inputs_moved,
        now=workspace.clock.now(),
        accepted=[each for each in known if each.state == "accepted"],
    )
    for each in found:
        keep_suspect(workspace, loop.name, each)
    ledger.hold([each.batch for each in found])
    return Review(found=tuple(found), history=after)


def keep_review(workspace: Workspace, name: str, review: Review) -> None:
    """Keep what a look learnt of the sources, and tell of what it held; part of its transaction."""
    sources = {source: msgspec.to_builtins(each) for source, each in review.history.items()}
    workspace.metadata.put("label_history", name, {"sources": sources})
    if is_asked_anew(workspace, name):
        workspace.metadata.delete(_ANEW, name)
    for each in review.found:
        told = {"labels": each.id, "n_labels": each.n_rows, "reason": each.told}
        workspace.metadata.append(f"loop/{name}", "labels held", told)


def keep_suspect(workspace: Workspace, name: str, suspect: Suspect) -> None:
    """Put a batch of labels on record."""
    workspace.metadata.put(_KIND, _key(name, suspect.id), msgspec.to_builtins(suspect))


def ask_for_labels_anew(workspace: Workspace, name: str) -> None:
    """Let the next look forget what it learnt of labels, and learn it from those that count now."""
    workspace.metadata.put(_ANEW, name, {"asked_at": workspace.clock.now().isoformat()})


def is_asked_anew(workspace: Workspace, name: str) -> bool:
    """Tell whether labels that had counted were taken back since the last look."""
    return workspace.metadata.find(_ANEW, name) is not None


def list_suspects(workspace: Workspace, name: str) -> list[Suspect]:
    """Return all batches of labels that were ever held, oldest first."""
    records = workspace.metadata.list_(_KIND, prefix=f"{name}/", limit=_MOST)
    found = [msgspec.convert(record.body, Suspect) for record in records]
    return sorted(found, key=lambda each: each.found_at)


def decide_labels(
    workspace: Workspace,
    loop: LoopFile,
    id_: str,
    *,
    accept: bool,
    reason: str = "",
    by: str = "",
    taught: Sequence[str] = (),
) -> Suspect:
    """Accept or reject a batch of labels that is held, and return what was recorded.

    Accepted labels count from the next look on, and their source is known anew by them. Rejected
    ones never count. A rejected batch can be accepted after all, and an accepted one rejected: then
    the next look measures quality anew without it.

    Parameters
    ----------
    id_
        Its id, or the beginning of it.
    reason
        Why; needed to reject.
    by
        Who says so; the user when empty.
    taught
        The versions that learnt from a batch that had been accepted; see `recall_of`.

    Raises
    ------
    NotFoundError
        If no batch has this id.
    WrongStateError
        If it was decided so before.
    InvalidInputError
        If it is rejected without a reason.
    """
    suspect = get_suspect(workspace, loop.name, id_)
    state = "accepted" if accept else "rejected"
    if suspect.state == state:
        raise WrongStateError(
            f"The labels {suspect.id} were {state} already, by {suspect.decided_by}.",
            hint="`loopwright labels list` shows all that were held.",
            kind="labels",
            name=suspect.id,
        )
    if not accept and not reason.strip():
        raise InvalidInputError(
            "Labels are rejected with a reason.",
            hint="Add --reason, such as --reason 'the import mixed up two columns'.",
            field="reason",
        )
    decided = msgspec.structs.replace(
        suspect,
        state=state,
        decided_by=by or workspace.user,
        decided_at=workspace.clock.now(),
        reason=reason,
        taught=tuple(taught),
    )
    metadata = workspace.metadata
    with metadata.transaction():
        keep_suspect(workspace, loop.name, decided)
        if suspect.state == "accepted":
            ask_for_labels_anew(workspace, loop.name)
        told = {"labels": suspect.id, "by": decided.decided_by, "reason": reason}
        metadata.append(f"loop/{loop.name}", f"labels {state}", told)
    source = metadata.find("source", loop.name)
    if source is not None:
        target = msgspec.convert(source.body, Sourced).target
        folder = workspace.endpoint_folder(loop.deploy.endpoint if loop.deploy else "")
        hold_as_decided(workspace, loop.name, gathered(folder, ledger_about(loop, target)))
    return decided


def was_decided(workspace: Workspace, name: str, truth: GroundTruth | None) -> bool:
    """Tell whether a person decided about held labels that a report still asks about."""
    n_open = sum(each.state == "open" for each in list_suspects(workspace, name))
    return truth is not None and n_open < len(truth.held)


def hold_as_decided(workspace: Workspace, name: str, ledger: Ledger) -> None:
    """Let a ledger hold what is held on record and nothing else, whatever was interrupted."""
    known = list_suspects(workspace, name)
    held = {each.id for each in ledger.held}
    for each in known:
        if not each.is_held and each.id in held:
            ledger.release(each.id)
    ledger.hold([each.batch for each in known if each.is_held and each.id not in held])


def _rows(
    loop: LoopFile,
    target: Target,
    ledger: Ledger,
    reference: Reference,
    *,
    above: int,
    threshold: float,
    upto: int | None = None,
) -> pl.DataFrame:
    """Return new labels as `judged_batches` wants them; none where answers have no histogram."""
    moves = ledger.moves(above=above)
    if upto is not None:
        moves = moves.filter(pl.col("number") <= upto)
    stream = reference.find("prediction")
    if not moves.height or stream is None:
        return pl.DataFrame()
    order = np.random.default_rng(_SEED).permutation(moves.height)
    shuffled = moves.with_columns(moves["label"].gather(order))
    answers = moves["probability"] if target.task == "binary" else moves["prediction"]
    if target.classes:
        place = {name: index for index, name in enumerate(target.classes)}
        labels = moves["label"].replace_strict(place, default=0, return_dtype=pl.Int64)
    else:
        labels = _coarse(bin_codes(stream, moves["label"]), stream.n_bins)
    return pl.DataFrame(
        {
            "source": moves["label_source"],
            "label_at": moves["label_at"],
            "loss": row_losses(loop, target, moves, threshold=threshold),
            "shuffled": row_losses(loop, target, shuffled, threshold=threshold),
            "label_bin": labels,
            "answer_bin": _coarse(bin_codes(stream, answers), stream.n_bins),
            "was_labelled": ~moves["is_first"],
        }
    ).filter(pl.col("loss").is_finite() & pl.col("shuffled").is_finite())


def _coarse(codes: np.ndarray, n_bins: int) -> pl.Series:
    return pl.Series(codes * _BINS // n_bins)


def _history(workspace: Workspace, name: str) -> dict[str, SourceHistory]:
    record = workspace.metadata.find("label_history", name)
    if record is None:
        return {}
    return msgspec.convert(record.body["sources"], dict[str, SourceHistory])


def get_suspect(workspace: Workspace, name: str, id_: str) -> Suspect:
    """Return the batch of labels whose id begins so; see `decide_labels`."""
    known = list_suspects(workspace, name)
    fitting = [each for each in known if each.id.startswith(id_)] if id_ else []
    if len(fitting) != 1:
        raise NotFoundError(
            f"{len(fitting) or 'No'} held batches of labels of the loop {name!r} have the id {id_!r}.",
            hint=did_you_mean(id_, [each.id for each in known]),
            kind="labels",
            name=id_,
        )
    return fitting[0]


def _key(name: str, id_: str) -> str:
    return f"{name}/{id_}"
