"""Labels that counted and are taken back: on record, with the models that had learnt from them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import InvalidInputError, NotFoundError, WrongStateError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.loop.file import LoopFile
from loopwright.loop.gathering import gathered, ledger_about
from loopwright.loop.label_review import ask_for_labels_anew, keep_suspect
from loopwright.loop.live_quality import row_losses
from loopwright.loop.round_record import FINAL, champion_of
from loopwright.loop.sourcing import Sourced, Target
from loopwright.loop.trigger import LEAST_ROWS
from loopwright.loop.workspace import Workspace
from loopwright.monitor import HeldBatch, Ledger, Suspect

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_MOST = 10_000
_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
_COLUMNS = ("at", "label_at", "label_source", "number", "prediction", "probability", "label")


class LabelSource(msgspec.Struct, frozen=True, kw_only=True):
    """What one source has said so far, as far as it counts.

    Parameters
    ----------
    n_labels
        Labelled predictions whose label is from it.
    from_at, to_at
        The times of these labels.
    mean_loss
        Of these predictions: what stands out from other sources may be wrong.
    """

    source: str
    n_labels: int
    from_at: datetime
    to_at: datetime
    mean_loss: float


class Taught(msgspec.Struct, frozen=True, kw_only=True):
    """A model that had labels among its rows which were taken back later.

    Parameters
    ----------
    n_labels
        How many of them.
    is_live
        Whether it answers now.
    is_open
        Whether its round goes on: it waits, or is rolled out.
    """

    version: str
    round: int
    n_labels: int
    is_live: bool
    is_open: bool


class Recall(msgspec.Struct, frozen=True, kw_only=True):
    """What taking labels back comes to.

    Parameters
    ----------
    labels
        What is on record; the id is that by which `labels accept` would let them count again.
    models
        The models that had learnt from them, newest first.
    advice
        What a person is to do, in sentences; empty where nothing is.
    """

    labels: Suspect
    models: tuple[Taught, ...]
    advice: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON types."""
        body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return body


def label_sources(workspace: Workspace, loop: LoopFile) -> list[LabelSource]:
    """Return who has sent the labels that count, and how they agree with the predictions."""
    ledger, target = _ledger(workspace, loop)
    rows = _counting(ledger)
    if not rows.height:
        return []
    losses = row_losses(loop, target, rows, threshold=0.5)
    found = (
        rows.with_columns(pl.Series("loss", losses))
        .group_by("label_source")
        .agg(
            pl.len().alias("n_labels"),
            pl.col("label_at").min().alias("from_at"),
            pl.col("label_at").max().alias("to_at"),
            pl.col("loss").mean().alias("mean_loss"),
        )
        .sort("label_source")
        .rename({"label_source": "source"})
    )
    return [LabelSource(**row) for row in found.iter_rows(named=True)]


def recalled(
    workspace: Workspace,
    loop: LoopFile,
    *,
    source: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    reason: str,
    by: str = "",
) -> Recall:
    """Return what taking back some labels would come to; nothing is changed.

    Parameters
    ----------
    source
        Whose labels; None for everybody's.
    since, until
        From when to when the labels became known, both included, aware; None for no bound.
    reason
        Why; needed.
    by
        Who says so; the user when empty.

    Raises
    ------
    InvalidInputError
        If neither a source nor a time is given, or no reason.
    NotFoundError
        If no label that counts is among them.
    """
    _check(source, since, until, reason)
    ledger, _ = _ledger(workspace, loop)
    batch = HeldBatch(
        id="",
        source=source,
        from_at=since or _FIRST,
        to_at=until or _LAST,
        after=0,
        upto=ledger.number,
    )
    everything = _counting(ledger)
    rows = _of_batch(everything, batch)
    if not rows.height:
        raise NotFoundError(
            f"No label {_told_which(batch)} counts for the loop {loop.name!r}.",
            hint=_known_sources(everything, source),
            kind="labels",
            name=source or "",
        )
    low, high = rows["label_at"].min(), rows["label_at"].max()
    batch = msgspec.structs.replace(batch, id=_id(batch), from_at=since or low, to_at=until or high)
    now = workspace.clock.now()
    models = _models(workspace, loop.name, rows, ledger.epoch)
    labels = Suspect(
        id=batch.id,
        batch=batch,
        n_rows=rows.height,
        kinds=("taken back",),
        told=f"Labels {_told_which(batch)} were taken back: {reason}",
        found_at=now,
        state="rejected",
        decided_by=by or workspace.user,
        decided_at=now,
        reason=reason,
        taught=tuple(each.version for each in models),
    )
    return Recall(labels=labels, models=models, advice=_advice(loop, models))


def take_back_labels(workspace: Workspace, loop: LoopFile, recall: Recall) -> None:
    """Let labels that counted count no more, from the next look on; see `recalled`.

    Labels for the same predictions that come later, or came from elsewhere, count. The next look
    measures quality, and whether errors have grown, anew without them.

    Raises
    ------
    WrongStateError
        If these labels were taken back already.
    """
    known = workspace.metadata.find("label_suspect", f"{loop.name}/{recall.labels.id}")
    if known is not None and known.body["state"] == "rejected":
        raise WrongStateError(
            f"The labels {recall.labels.id} were taken back already.",
            hint="`loopwright labels list` shows all that do not count.",
            kind="labels",
            name=recall.labels.id,
        )
    with workspace.metadata.transaction():
        keep_suspect(workspace, loop.name, recall.labels)
        ask_for_labels_anew(workspace, loop.name)
        told = {
            "labels": recall.labels.id,
            "n_labels": recall.labels.n_rows,
            "by": recall.labels.decided_by,
            "reason": recall.labels.reason,
            "models": list(recall.labels.taught),
        }
        workspace.metadata.append(f"loop/{loop.name}", "labels taken back", told)
    ledger, _ = _ledger(workspace, loop)
    ledger.hold([recall.labels.batch])


def recall_of(workspace: Workspace, loop: LoopFile, suspect: Suspect) -> Recall:
    """Return what rejecting a batch comes to that a person had accepted before: models learnt it."""
    ledger, _ = _ledger(workspace, loop)
    rows = _of_batch(_counting(ledger), suspect.batch)
    models = _models(workspace, loop.name, rows, ledger.epoch)
    taught = msgspec.structs.replace(suspect, taught=tuple(each.version for each in models))
    return Recall(labels=taught, models=models, advice=_advice(loop, models))


def _check(source: str | None, since: datetime | None, until: datetime | None, reason: str) -> None:
    if source is None and since is None and until is None:
        raise InvalidInputError(
            "Which labels are to be taken back is not said.",
            hint="Name their --source, or a time with --since and --until. "
            "`loopwright labels sources` lists them.",
            field="source",
        )
    if since is not None and until is not None and since > until:
        raise InvalidInputError(
            f"The time ends ({until:%Y-%m-%d %H:%M}) before it begins ({since:%Y-%m-%d %H:%M}).",
            hint="Exchange --since and --until.",
            field="until",
        )
    if not reason.strip():
        raise InvalidInputError(
            "Labels are taken back with a reason.",
            hint="Add --reason, such as --reason 'the import mixed up two columns'.",
            field="reason",
        )


def _ledger(workspace: Workspace, loop: LoopFile) -> tuple[Ledger, Target]:
    record = workspace.metadata.find("source", loop.name)
    if record is None or loop.deploy is None:
        raise WrongStateError(
            f"The loop {loop.name!r} has no endpoint, so it has no labels.",
            hint="Add a deploy block to the loop file, and run it.",
            kind="loop",
            name=loop.name,
        )
    target = msgspec.convert(record.body, Sourced).target
    folder = workspace.endpoint_folder(loop.deploy.endpoint)
    return gathered(folder, ledger_about(loop, target)), target


def _counting(ledger: Ledger) -> pl.DataFrame:
    """Return the labelled predictions with what tells whose label it is and since when it counts."""
    names = (*_COLUMNS, "probabilities") if ledger.about.task != "regression" else _COLUMNS
    return ledger.labelled(columns=names)


def _of_batch(rows: pl.DataFrame, batch: HeldBatch) -> pl.DataFrame:
    """Return the rows whose label is of a batch; the number of a row is that of its last change."""
    kept = rows.filter(pl.col("label_at").is_between(batch.from_at, batch.to_at))
    return kept if batch.source is None else kept.filter(pl.col("label_source") == batch.source)


def _models(workspace: Workspace, name: str, rows: pl.DataFrame, epoch: str) -> tuple[Taught, ...]:
    """Return the models whose rounds had some of these labels among their rows, newest first."""
    metadata = workspace.metadata
    packed = {
        record.body["round"]: record.body["output"]["version"]
        for record in metadata.list_("step", prefix=f"{name}/", limit=_MOST)
        if record.body.get("stage") == "pack" and record.body.get("state") == "done"
    }
    live = (champion_of(workspace, name) or {}).get("version")
    found = []
    for record in metadata.list_("round", prefix=f"{name}/", limit=_MOST):
        body = record.body
        n_labels = _n_learnt(rows, body, epoch)
        if n_labels and body["number"] in packed:
            version = str(packed[body["number"]])
            found.append(
                Taught(
                    version=version,
                    round=body["number"],
                    n_labels=n_labels,
                    is_live=version == live,
                    is_open=body["state"] not in FINAL,
                )
            )
    return tuple(reversed(found))


def _n_learnt(rows: pl.DataFrame, body: dict[str, Any], epoch: str) -> int:
    live = body["live"] or {}
    if not live.get("until"):
        return 0
    were = pl.col("at") <= datetime.fromisoformat(live["until"])
    of_epoch, number = live.get("ledger") or ("", 0)
    if of_epoch == epoch:
        were &= pl.col("number") <= number
    else:  # the ledger was made anew since: the label's own time must do
        were &= pl.col("label_at") <= datetime.fromisoformat(body["started_at"])
    return rows.filter(were).height


def _advice(loop: LoopFile, models: tuple[Taught, ...]) -> tuple[str, ...]:
    """Return what a person is to do about models that learnt what is wrong."""
    told = []
    for each in models:
        if each.is_open and not each.is_live:
            told.append(
                f"Version {each.version} is not the champion yet: `loopwright reject {loop.name} "
                "--reason WHY` if it waits for approval, `loopwright rollout FILE --abort --reason "
                "WHY` if it is rolled out."
            )
    if any(each.is_live for each in models):
        told.append(
            "Let the loop learn again without these labels: `loopwright retrain FILE --reason WHY`, "
            f"once {LEAST_ROWS} labels have come for newer predictions. Until then read "
            "`loopwright monitor FILE`: quality is measured without them."
        )
    return tuple(told)


def _known_sources(rows: pl.DataFrame, source: str | None) -> str:
    known = rows["label_source"].unique().sort().to_list() if rows.height else []
    if not known:
        return "No label counts yet."
    named = did_you_mean(source, known) if source is not None else ""
    return named or "`loopwright labels sources` shows whose labels count, and from when."


def _told_which(batch: HeldBatch) -> str:
    parts = [f"from {batch.source!r}"] if batch.source is not None else []
    if batch.from_at != _FIRST:
        parts.append(f"since {batch.from_at:%Y-%m-%d %H:%M}")
    if batch.to_at != _LAST:
        parts.append(f"until {batch.to_at:%Y-%m-%d %H:%M}")
    return " ".join(parts)


def _id(batch: HeldBatch) -> str:
    name = f"{batch.source}\n{batch.from_at.isoformat()}\n{batch.to_at.isoformat()}\n{batch.upto}"
    return hashlib.sha256(name.encode()).hexdigest()[:8]
