"""Where a loop's rows came from: every snapshot on record, good or quarantined, with its parent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core.clock import SystemClock
from loopwright.core.errors import InvalidInputError, NotFoundError, WrongStateError
from loopwright.core.names import did_you_mean, new_id
from loopwright.data import Snapshot, check_plan, infer_contract, scan
from loopwright.loop.file import ReadFile, read_loop_file
from loopwright.loop.intake import Intake
from loopwright.loop.preflight import checked_over_columns
from loopwright.loop.sourcing import Extraction, Sourced, extracted, found_target
from loopwright.loop.workspace import Workspace, checked_home, locked_loop
from loopwright.store import MetadataStore

_PAGE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What a refresh came to.

    Parameters
    ----------
    state
        `new rows`, `nothing new` or `quarantined`.
    message
        The same in one or two sentences.
    snapshot
        The record of the newest snapshot of the loop; None if its store has none on record.
    """

    loop: str
    state: str
    message: str
    snapshot: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}


def refresh_rows(
    read: ReadFile,
    *,
    home: Path,
    find_workspace: Callable[[], Workspace | None],
    open_workspace: Callable[[], Workspace],
    full: bool = False,
) -> Refreshed:
    """Read the source of a loop now, and keep what is new; no round begins.

    Parameters
    ----------
    read, home, find_workspace, open_workspace
        See `loopwright.loop.run_loop`.
    full
        Whether to read all rows although the loop file names a cursor: this sees late rows, and
        rows that were changed or deleted.

    Raises
    ------
    InvalidInputError
        If something given cannot be used.
    BackendError
        If the source breaks off; what was kept before stands, and the next refresh goes on there.
    """
    checked_home(home)
    check_plan(read.content.data)
    workspace = find_workspace()
    with extracted(
        read,
        metadata=workspace.metadata if workspace else None,
        artifacts=workspace.artifacts if workspace else None,
        clock=workspace.clock if workspace else SystemClock(),
        refresh=True,
        scratch=workspace.scratch_folder() if workspace else None,
        home=home,
        full=full,
    ) as extraction:
        checked_over_columns(read.content, extraction.sourced)
        workspace = workspace or open_workspace()
        name = read.content.name
        with locked_loop(home, name):
            before = workspace.metadata.find("source", name)
            keep_extraction(workspace, read, extraction)
    known = list_snapshots(workspace.metadata, name)
    state, message = _told(extraction, before.body if before else None)
    return Refreshed(loop=name, state=state, message=message, snapshot=known[-1] if known else None)


def _told(extraction: Extraction, before: dict[str, Any] | None) -> tuple[str, str]:
    sourced, intake = extraction.sourced, extraction.intake
    if sourced.quarantine is not None:
        return "quarantined", sourced.quarantine.note
    n_rows = sourced.snapshot["n_rows"]
    if before is not None and before["snapshot"]["digest"] == sourced.snapshot["digest"]:
        return "nothing new", f"Nothing is new: the {n_rows:,} rows kept still stand."
    remark = f" All rows were read. {intake.remark}" if intake and intake.remark else ""
    if intake is not None and intake.kind == "increment":
        replaced = (
            f" ({intake.n_replaced:,} of them in place of older ones)" if intake.n_replaced else ""
        )
        return "new rows", f"{intake.n_new:,} new rows{replaced}, {n_rows:,} in all."
    return "new rows", f"{n_rows:,} rows.{remark}"


def keep_extraction(workspace: Workspace, read: ReadFile, extraction: Extraction) -> None:
    """Keep what an extraction gave: the rows, what is agreed on them, and where they came from.

    The rows are kept first: a record never names rows that are not there.
    """
    name, metadata = read.content.name, workspace.metadata
    sourced, intake = extraction.sourced, extraction.intake
    if extraction.parquet is not None:
        workspace.artifacts.put_file(extraction.parquet)
    with metadata.transaction():
        before = metadata.find("source", name)
        metadata.put("source", name, msgspec.to_builtins(sourced))
        if intake is not None:
            if not intake.violations:
                _put_contract(metadata, name, sourced, intake.contract.to_json())
            if extraction.parquet is not None:
                _record(metadata, read, sourced, intake, before.body if before else None)
        _put_loop(metadata, read)


def _put_contract(
    metadata: MetadataStore, name: str, sourced: Sourced, contract: dict[str, Any]
) -> None:
    body = {"source_digest": sourced.source_digest, "contract": contract}
    record = metadata.find("contract", name)
    if record is None or record.body != body:
        metadata.put("contract", name, body)


def _put_loop(metadata: MetadataStore, read: ReadFile) -> None:
    loop = read.content
    known = {
        "file": str(read.path),
        "question": loop.problem.question,
        "endpoint": loop.deploy.endpoint if loop.deploy else None,
    }
    record = metadata.find("loop", loop.name)
    if record is None or record.body != known:
        metadata.put("loop", loop.name, known)


def _record(
    metadata: MetadataStore,
    read: ReadFile,
    sourced: Sourced,
    intake: Intake,
    before: dict[str, Any] | None,
) -> None:
    """Put a snapshot on record, unless it is the one that stands, or was quarantined, already."""
    snapshot, parent = intake.snapshot, None
    if before is not None:
        known = before.get("quarantine") if intake.violations else before["snapshot"]
        if known is not None and known["digest"] == snapshot.digest:
            return
        parent = before["snapshot"]["digest"]
    loop, cursor = read.content, read.content.data.refresh.cursor
    body = {
        "loop": loop.name,
        "id": new_id(),
        "digest": snapshot.digest,
        "state": "quarantined" if intake.violations else "good",
        "kind": intake.kind,
        "source": snapshot.source,
        # the address of a source may hold a secret, a query or a table's name does not
        "query": getattr(loop.data.source, "query", None),
        "cursor": cursor
        and {"column": cursor, "from": _json(intake.start), "to": _json(intake.end)},
        "n_rows": snapshot.n_rows,
        "n_new": intake.n_new,
        "n_replaced": intake.n_replaced,
        "schema": {column.name: column.dtype for column in snapshot.columns},
        "parent": parent,
        "taken_at": snapshot.taken_at.isoformat(),
        "remark": intake.remark,
        "violations": [violation.to_json() for violation in intake.violations],
        "snapshot": snapshot.to_json(),
    }
    metadata.create("snapshot", f"{loop.name}/{body['id']}", body)
    if intake.violations and sourced.quarantine is not None:
        told = {"digest": snapshot.digest, "note": sourced.quarantine.note}
        metadata.append(f"loop/{loop.name}", "rows quarantined", told)


def _json(value: Any) -> Any:
    if isinstance(value, date | datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, int | float | str) else str(value)


def list_snapshots(metadata: MetadataStore, loop: str | None = None) -> list[dict[str, Any]]:
    """Return the records of all snapshots, of one loop or of all, each loop's oldest first.

    Besides what was recorded when it was taken, `current` says whether the loop goes by it now.
    """
    current = {record.key: record.body["snapshot"]["digest"] for record in metadata.list_("source")}
    return [
        {**body, "current": current.get(body["loop"]) == body["digest"]}
        for body in _bodies(metadata, f"{loop}/" if loop else "")
    ]


def _bodies(metadata: MetadataStore, prefix: str) -> Iterator[dict[str, Any]]:
    after = ""
    while page := metadata.list_("snapshot", prefix=prefix, after=after, limit=_PAGE):
        yield from (record.body for record in page)
        after = page[-1].key


def find_snapshot(
    metadata: MetadataStore, wanted: str = "latest", *, loop: str | None = None
) -> dict[str, Any]:
    """Return the record of one snapshot.

    Parameters
    ----------
    wanted
        Its digest or the start of it, with or without `sha256:`; `latest` for the newest, be it
        quarantined or not, and `current` for the one the loop goes by. The name of a loop: the
        latest of that loop.
    loop
        Whose snapshots to look at; all when absent.

    Raises
    ------
    NotFoundError
        If there is none.
    InvalidInputError
        If the start fits several, or `latest` and `current` could mean several loops.
    """
    known = list_snapshots(metadata, loop)
    if wanted in ("latest", "current"):
        return _newest(known, wanted)
    if of_loop := [each for each in known if each["loop"] == wanted]:
        return of_loop[-1]
    start = wanted.removeprefix("sha256:")
    fits = [each for each in known if each["digest"].removeprefix("sha256:").startswith(start)]
    digests = sorted({each["digest"] for each in fits})
    if len(digests) > 1:
        raise InvalidInputError(
            f"{len(digests)} snapshots begin with {wanted!r}.",
            hint=f"Give more digits: {', '.join(short(digest, 16) for digest in digests[:5])}.",
            field="digest",
            value=wanted,
        )
    if not fits:
        raise NotFoundError(
            f"There is no snapshot {wanted!r}.",
            hint=did_you_mean(start[:12], {short(each["digest"]) for each in known}),
            kind="snapshot",
            name=wanted,
        )
    return fits[-1]


def _newest(known: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    fits = [each for each in known if wanted == "latest" or each["current"]]
    loops = sorted({each["loop"] for each in fits})
    if not fits:
        raise NotFoundError(
            "There are no snapshots here yet.",
            hint="Run `loopwright data refresh FILE`.",
            kind="snapshot",
            name=wanted,
        )
    if len(loops) > 1:
        raise InvalidInputError(
            f"{wanted!r} could be a snapshot of {', '.join(loops)}.",
            hint="Name the loop with --loop, or give a digest.",
            field="digest",
            value=wanted,
        )
    return fits[-1]


def short(digest: str, n: int = 12) -> str:
    """Return the first hexadecimal digits of a digest, enough for people."""
    return digest.removeprefix("sha256:")[:n]


def accept_snapshot(workspace: Workspace, name: str, *, reason: str = "") -> dict[str, Any]:
    """Take the quarantined rows of a loop and agree anew what later ones shall look like.

    Parameters
    ----------
    name
        The loop.
    reason
        Why; kept on record.

    Raises
    ------
    WrongStateError
        If nothing of the loop is quarantined.
    InvalidInputError
        If the loop file does not fit these rows, as when the target is gone; nothing is changed.
    """
    with locked_loop(workspace.home, name):
        metadata = workspace.metadata
        record = metadata.find("source", name)
        sourced = msgspec.convert(record.body, Sourced) if record else None
        if sourced is None or sourced.quarantine is None:
            raise WrongStateError(
                f"No rows of the loop {name!r} are quarantined.",
                hint="`loopwright data list` shows what there is.",
                kind="loop",
                name=name,
            )
        held = sourced.quarantine
        read = read_loop_file(Path(metadata.get("loop", name).body["file"]))
        body = find_snapshot(metadata, held.digest, loop=name)
        snapshot = Snapshot.from_json(body["snapshot"])
        rows = scan(snapshot, workspace.artifacts)
        taken = Sourced(
            source_digest=sourced.source_digest,
            fingerprint=held.fingerprint,
            snapshot=body["snapshot"],
            target=found_target(workspace.artifacts.local_path(held.digest), read),
            at=held.at,
        )
        checked_over_columns(read.content, taken)
        contract = infer_contract(rows).to_json()
        accepted = {
            **{key: value for key, value in body.items() if key != "current"},
            "state": "accepted",
            "accepted": {
                "by": workspace.user,
                "at": workspace.clock.now().isoformat(),
                "reason": reason,
            },
        }
        with metadata.transaction():
            metadata.put("source", name, msgspec.to_builtins(taken))
            _put_contract(metadata, name, taken, contract)
            metadata.put("snapshot", f"{name}/{body['id']}", accepted)
            told = {"digest": held.digest, **accepted["accepted"]}
            metadata.append(f"loop/{name}", "rows accepted", told)
    return {**accepted, "current": True}
