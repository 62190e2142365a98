"""The rows that explaining and estimating rests on: held-out ones in the bundle, the newest live ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.deploy import Cursor, captured_inputs, read_capture
from loopwright.deploy.segment import segments
from loopwright.loop.file import LoopFile
from loopwright.loop.gathering import VERIFY_PREFIX
from loopwright.loop.judging import as_answers, captured_answers, loss_metric
from loopwright.loop.live_quality import ANSWER_COLUMNS, row_losses, truth_of
from loopwright.loop.sourcing import Target
from loopwright.loop.worth import can_be_counted, row_money
from loopwright.monitor.explanation_drift import influence_sizes
from loopwright.monitor.reference import Reference
from loopwright.monitor.reference_rows import (
    LEAST_ROWS,
    ROWS_MEMBER,
    ReferenceRows,
    row_codes,
    sampled_rows,
)
from loopwright.monitor.skew import feature_statistics
from loopwright.prepare.lineage import feature_origins
from loopwright.problem import Answers
from loopwright.train.array_file import open_arrays
from loopwright.train.attribution import Attributor
from loopwright.train.reason import EXPLANATION_MEMBER

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from loopwright.monitor import Ledger
    from loopwright.train import ServingModel

    Numbers = NDArray[np.float64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

LIVE_ROWS = 2_000
_TAIL_BYTES = 4 << 20
_FEATURE_ROWS = 5_000


class LiveSample(msgspec.Struct, frozen=True, kw_only=True):
    """A model, the rows in its bundle and the newest live rows: what explains and estimates.

    Parameters
    ----------
    rows
        Held-out rows of the model.
    recent, labelled
        The newest captured predictions, and the newest with labels; see `recent_captured` and
        `recent_labelled`.
    seed
        Of all draws.
    """

    loop: LoopFile
    target: Target
    model: Any
    reference: Reference
    rows: ReferenceRows
    recent: Any
    labelled: Any
    seed: int

    @property
    def threshold(self) -> float:
        """The probability from which the positive class is said."""
        threshold: float = self.model.outcome.threshold
        return threshold

    def reference_answers(self) -> Answers:
        """Return what the model said of the held-out rows."""
        return as_answers(self.rows.raw, self.target, threshold=self.threshold)

    def answers(self, frame: pl.DataFrame) -> Answers:
        """Return what the model said of captured rows, with their worth."""
        problem, inputs = self.loop.problem, frame["inputs"].struct.unnest()
        counts = can_be_counted(problem, inputs.columns)
        money = row_money(problem, self.target, inputs) if counts else None
        return captured_answers(frame, self.target, threshold=self.threshold, money=money)

    def codes(self, frame: pl.DataFrame) -> NDArray[np.uint8]:
        """Return the bins of captured rows."""
        said = "probability" if self.target.task == "binary" else "prediction"
        return row_codes(self.reference, frame["inputs"].struct.unnest(), frame[said])

    def truth(self, frame: pl.DataFrame) -> Numbers:
        """Return the labels of captured rows as the metrics read them."""
        return truth_of(frame, self.target)

    def losses(self, frame: pl.DataFrame) -> Numbers:
        """Return what each captured answer cost, by its label."""
        return row_losses(self.loop, self.target, frame, threshold=self.threshold)

    def reference_losses(self) -> Numbers:
        """Return what each answer to the held-out rows cost."""
        metric = loss_metric(self.loop.problem, task=self.target.task)
        losses = metric.per_row(self.rows.y, self.reference_answers())
        if losses is None:
            raise AssertionError("the monitor follows losses row by row")
        return losses


def reference_rows_member(
    model: ServingModel,
    reference: Reference,
    train: pl.DataFrame,
    test: pl.DataFrame,
    raw: Numbers,
    y: Numbers,
    *,
    explains: bytes,
    seed: int = 0,
) -> dict[str, bytes]:
    """Return what a bundle must hold so that live rows can be explained and estimated.

    Nothing where fewer than 50 test rows have a truth and an answer.

    Parameters
    ----------
    train, test
        Raw rows that the model learnt from, and rows that it did not.
    raw, y
        The numbers behind its answers to the test rows, and the truth.
    explains
        What `explanation_member` returned for the model.
    """
    known = np.flatnonzero(np.isfinite(y) & np.isfinite(raw.reshape(len(y), -1)).all(axis=1))
    chosen = known[sampled_rows(len(known), seed=seed)]
    if len(chosen) < LEAST_ROWS:
        return {}
    rows = test[chosen.tolist()]
    said = pl.Series(model.outcome.said(raw[chosen]) if raw.ndim == 2 else raw[chosen])
    learnt = train[sampled_rows(train.height, most=_FEATURE_ROWS, seed=seed).tolist()]
    attributor = Attributor(
        predictor=model.predictor,
        background=open_arrays(explains, what=EXPLANATION_MEMBER),
        origins=feature_origins(model.fitted),
        transform=None if model.outcome.calibration is None else model.outcome.calibrated,
    )
    found = ReferenceRows(
        codes=row_codes(reference, rows, said),
        raw=raw[chosen],
        y=y[chosen],
        influence=influence_sizes(model, attributor, rows, seed=seed),
        features=feature_statistics(model.fitted.transform(learnt)),
    )
    return {ROWS_MEMBER: found.to_bytes()}


def recent_captured(folder: Path, *, version: str, most: int = LIVE_ROWS) -> pl.DataFrame:
    """Return the newest captured predictions of a version in the order of time.

    At most the last 4 MiB of each segment from the newest back are read, 4 MiB in all, however much
    was captured.
    """
    left, offsets = _TAIL_BYTES, {}
    for path in reversed(segments(folder / "capture")):
        size = path.stat().st_size
        taken = min(left, size)
        offsets[path.name], left = size - taken, left - taken
    page = read_capture(folder / "capture", after=Cursor(offsets=offsets), max_bytes=_TAIL_BYTES)
    own = (pl.col("version") == version) & ~pl.col("inference_id").str.starts_with(VERIFY_PREFIX)
    return page.frame.filter(own).sort("at", "inference_id").tail(most)


def recent_labelled(ledger: Ledger, *, version: str, most: int = LIVE_ROWS) -> pl.DataFrame:
    """Return the newest labelled predictions of a version in the order of time, with their inputs."""
    columns = ("hash", "inference_id", *ANSWER_COLUMNS)
    rows = ledger.labelled(version=version, columns=columns).tail(most)
    texts = ledger.inputs(rows["hash"])
    inputs = captured_inputs(texts["inputs"].to_list())
    beside = texts.select("inference_id").with_columns(inputs.to_struct("inputs"))
    return rows.join(beside, on="inference_id", how="inner", maintain_order="left")
