"""What an endpoint logged, taken into its ledger: new lines only, each once, whatever is killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.core.quantity import seconds
from loopwright.deploy import Cursor, end_of_log, has_more, read_capture_lines, read_labels
from loopwright.loop.file import LoopFile
from loopwright.loop.sourcing import Target
from loopwright.monitor import Ledger, LedgerAbout

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

# ids of the test rows sent after a deployment; they are no traffic
VERIFY_PREFIX = "loopwright-verify-"
_CAPTURE_BYTES = 48 << 20
_LABEL_BYTES = 16 << 20
_LABELS_AT_ONCE = 500_000
_TEXT = ("inference_id", "source", "key")


def ledger_about(loop: LoopFile, target: Target) -> LedgerAbout:
    """Return what the rows of a loop's ledger mean."""
    plan = loop.monitor.labels
    key = plan.key if plan is not None and plan.key != "inference_id" else None
    grace = plan.grace if plan is not None else None
    return LedgerAbout(
        task=target.task,  # type: ignore[arg-type] # checked when it was read
        classes=target.classes,
        key=key,
        grace_s=seconds(grace, field="monitor.labels.grace") if grace is not None else None,
    )


def gathered(
    folder: Path,
    about: LedgerAbout,
    *,
    epoch: str = "",
    read_until: tuple[Cursor | None, Cursor | None] = (None, None),
) -> Ledger:
    """Return an endpoint's ledger with everything its logs hold.

    Parameters
    ----------
    folder
        The endpoint's folder.
    about
        What the rows mean.
    epoch, read_until
        The ledger that the caller has read before, and how far the logs of predictions and labels
        were in it then: where the ledger had to be made anew, `Ledger.settled` says where that is.
    """
    ledger = Ledger(folder / "truth", about)
    if any(read_until) and epoch != ledger.epoch and not ledger.settled:
        empty = Cursor()
        _take_in(ledger, folder, until=(read_until[0] or empty, read_until[1] or empty))
        ledger.settle()
    # what comes from now on is left to the next look: else a busy endpoint would be read for ever
    _take_in(ledger, folder, until=(end_of_log(folder / "capture"), end_of_log(folder / "labels")))
    return ledger


def log_cursor(ledger: Ledger, log: str) -> Cursor | None:
    """Return how far a log, `capture` or `labels`, has been taken into a ledger."""
    kept = ledger.cursors.get(log)
    return None if kept is None else Cursor.from_json(kept)


def _take_in(ledger: Ledger, folder: Path, *, until: tuple[Cursor, Cursor]) -> None:
    for page in _pages(ledger, folder, "capture", read_capture_lines, _CAPTURE_BYTES, until[0]):
        traffic = ~pl.col("inference_id").str.starts_with(VERIFY_PREFIX)
        cursors = {"capture": page.cursor.to_json()}
        ledger.take_predictions(page.frame.filter(traffic), cursors=cursors)
    held: list[pl.DataFrame] = []
    cursor: Any = None
    for page in _pages(ledger, folder, "labels", read_labels, _LABEL_BYTES, until[1]):
        frame = page.frame.with_columns(pl.col(name).cast(pl.String) for name in _TEXT)
        # texts and numbers are not mixed: "1.0" is no class where 1 is
        if held and held[0]["label"].dtype != frame["label"].dtype:
            ledger.take_labels(pl.concat(held), cursors={"labels": cursor.to_json()})
            held = []
        held.append(frame)
        cursor = page.cursor
        if sum(each.height for each in held) >= _LABELS_AT_ONCE:
            ledger.take_labels(pl.concat(held), cursors={"labels": cursor.to_json()})
            held = []
    if held:
        ledger.take_labels(pl.concat(held), cursors={"labels": cursor.to_json()})


def _pages(
    ledger: Ledger,
    folder: Path,
    log: str,
    read: Callable[..., Any],
    max_bytes: int,
    until: Cursor,
) -> Any:
    """Yield the pages of a log that are not in the ledger yet."""
    cursor = log_cursor(ledger, log)
    while has_more(folder / log, after=cursor):
        page = read(folder / log, after=cursor, max_bytes=max_bytes, until=until)
        if page.cursor == (cursor or Cursor()):
            return
        cursor = page.cursor
        yield page
