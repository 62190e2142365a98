"""Labels that look poisoned: batches of one source and hour that other labels speak against."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.monitor.label_rule import HeldBatch
from loopwright.monitor.source_history import SourceHistory, bounded, counted, pooled

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

State = Literal["open", "accepted", "rejected"]
Kind = Literal["loss", "unrelated", "labels", "contradiction", "taken back"]

LEAST_ROWS = 50
_USUAL_ROWS = 100
_CERTAIN_Z = 6.0
_TWICE, _THREE_TIMES = 2.0, 3.0
_RELATED, _UNRELATED = 0.8, 0.97
_NEAR, _FAR = 0.3, 0.6
_CONTRADICTING = 0.3

_PLAIN: dict[Kind, str] = {
    "loss": "disagree with the predictions far more than they used to, and nothing else has changed",
    "unrelated": "agree with the predictions no better than chance, as if they had been mixed up or "
    "turned over",
    "labels": "are of another range or mix than before, as if a unit or a column had been mixed up",
    "contradiction": "say something else than earlier labels of the same cases",
}


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """A batch of labels that does not count until a person says so.

    Parameters
    ----------
    id
        By which `loopwright labels accept` and `reject` name it.
    batch
        Which labels they are.
    n_rows
        How many labels.
    kinds
        What speaks against them: `loss`: they disagree with the predictions far more than earlier
        labels of this source and than others; `unrelated`: they agree with the predictions no
        better than shuffled; `labels`: they are of another range or mix; `contradiction`: they
        change what earlier labels said; `taken back`: a person said so after they had counted.
    told
        The evidence, in sentences.
    figures
        The numbers in it.
    state
        `open` until a person decides.
    decided_by, decided_at, reason
        Who accepted or rejected it, when and why.
    taught
        The versions of models that had learnt from it when it was rejected.
    """

    id: str
    batch: HeldBatch
    n_rows: int
    kinds: tuple[Kind, ...]
    told: str
    found_at: datetime
    figures: dict[str, float] = {}
    state: State = "open"
    decided_by: str = ""
    decided_at: datetime | None = None
    reason: str = ""
    taught: tuple[str, ...] = ()

    @property
    def is_held(self) -> bool:
        """Whether its labels count for nothing."""
        return self.state != "accepted"


def judged_batches(
    rows: pl.DataFrame,
    history: Mapping[str, SourceHistory],
    *,
    n_bins: tuple[int, int],
    span: tuple[int, int],
    inputs_moved: bool,
    now: datetime,
    accepted: Sequence[Suspect] = (),
) -> tuple[list[Suspect], dict[str, SourceHistory]]:
    """Return the suspicious batches among some new labels, and the history with the others.

    A batch is what one source said in one hour; hours of fewer than 50 labels are taken together.
    A source without a history of its own is judged by that of all. A change of the world shows in the labels of all sources alike, and seldom makes answers as good
    as random or errors three times as large from one hour to the next; what goes further than that
    is held until a person has looked. Where inputs moved as well, only contradictions and labels of
    another range are held.

    Parameters
    ----------
    rows
        New labels of predictions: source, label_at, loss, shuffled (the loss against a shuffled
        label), label_bin, answer_bin and was_labelled (whether it changes an earlier label).
    history
        What each source was like so far.
    n_bins
        Bins of labels and of answers.
    span
        Numbers of the ledger between which these labels were taken in.
    inputs_moved
        Whether an alarm about inputs or predictions is open.
    now
        The present moment.
    accepted
        Batches that a person accepted: their source is known anew by them.

    Notes
    -----
    Two mean losses are compared by Welch's statistic, `(m1 - m2) / sqrt(s1^2/n1 + s2^2/n2)`; 6 of
    its standard errors and a factor of 2, or 3 where there is no other source to compare with, are
    asked for. Label distributions are compared by their total variation.
    """
    after = dict(history)
    found: list[Suspect] = []
    fine: list[pl.DataFrame] = []
    for source, part in _batches(rows):
        cleared = [each for each in accepted if _is_of(each.batch, source, part)]
        if cleared:
            after[source] = SourceHistory().with_rows(part, n_bins)
            continue
        others = rows.filter(pl.col("source") != source)
        past = history.get(source, SourceHistory())
        if past.n < _USUAL_ROWS:
            # a name that is new, such as that of today's file, is no way round the check
            past = pooled(history.values())
        if rows.height and part.height >= LEAST_ROWS:
            kinds, told, figures = _evidence(part, past, others, history, n_bins, inputs_moved)
            if kinds:
                found.append(_suspect(source, part, kinds, told, figures, span=span, now=now))
                continue
        fine.append(part)
    for part in fine:
        source = str(part["source"][0])
        after[source] = after.get(source, SourceHistory()).with_rows(part, n_bins)
    return found, bounded(after)


def _batches(rows: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Return the rows of each source and hour; small hours of a source together."""
    if not rows.height:
        return []
    hours = rows.with_columns(pl.col("label_at").dt.truncate("1h").alias("hour"))
    keyed = hours.with_columns(
        pl.when(pl.len().over("source", "hour") >= LEAST_ROWS).then(pl.col("hour")).alias("hour")
    )
    parts = keyed.sort("source", "hour", "label_at", nulls_last=True).partition_by(
        "source", "hour", maintain_order=True
    )
    return [(str(part["source"][0]), part) for part in parts]


def _is_of(batch: HeldBatch, source: str, part: pl.DataFrame) -> bool:
    inside = part["label_at"].is_between(batch.from_at, batch.to_at)
    return batch.source in (None, source) and bool(inside.all())


def _evidence(
    part: pl.DataFrame,
    past: SourceHistory,
    others: pl.DataFrame,
    history: Mapping[str, SourceHistory],
    n_bins: tuple[int, int],
    inputs_moved: bool,
) -> tuple[list[Kind], list[str], dict[str, float]]:
    loss = part["loss"].to_numpy()
    mean, n = float(loss.mean()), len(loss)
    kinds: list[Kind] = []
    told: list[str] = []
    figures: dict[str, float] = {"n": float(n), "mean_loss": mean}
    changed = float(part["was_labelled"].mean() or 0.0)  # type: ignore[arg-type] # a column of numbers
    if n >= _USUAL_ROWS and changed >= _CONTRADICTING:
        kinds.append("contradiction")
        figures["changed_share"] = changed
        told.append(f"{changed:.0%} of its {n:,} labels contradict an earlier label.")
    if past.n < _USUAL_ROWS:
        return kinds, told, figures
    labels = counted(part["label_bin"], n_bins[0])
    answers = counted(part["answer_bin"], n_bins[1])
    moved, answers_moved = _variation(labels, past.labels), _variation(answers, past.answers)
    figures |= {"usual_loss": past.mean, "label_distance": moved}
    if moved >= _FAR and answers_moved <= _NEAR:
        kinds.append("labels")
        told.append(
            f"Labels are of another range or mix than before (distance {moved:.2f} of 1) while "
            f"predictions are not ({answers_moved:.2f})."
        )
    if inputs_moved:
        return kinds, told, figures
    z = _welch(mean, float(loss.var()), n, past)
    times = mean / past.mean if past.mean > 0 else math.inf
    if z >= _CERTAIN_Z and times >= _TWICE:
        around = _of_others(others, history)
        is_alone = around is not None and around < _TWICE
        if is_alone or (around is None and times >= _THREE_TIMES and moved <= _NEAR):
            kinds.append("loss")
            beside = f", other sources {around:.1f} times" if around is not None else ""
            told.append(
                f"The mean loss is {mean:.4g} on {n:,} labels, {times:.1f} times what it was "
                f"({past.mean:.4g}){beside}, and inputs have not moved."
            )
            figures["z"] = z
    shuffled = float(part["shuffled"].mean() or 0.0)  # type: ignore[arg-type] # a column of numbers
    related = past.mean / past.shuffled if past.shuffled > 0 else 1.0
    # labels of one class mostly, which come first, are as good shuffled; turned over they are worse
    error = math.sqrt(float(loss.var()) / n)
    is_turned = mean - shuffled >= _CERTAIN_Z * error > 0
    if (
        n >= _USUAL_ROWS
        and z >= _CERTAIN_Z
        and related <= _RELATED
        and mean >= _UNRELATED * shuffled > 0
        and (moved <= _NEAR or is_turned)
    ):
        kinds.append("unrelated")
        figures["shuffled_loss"] = shuffled
        told.append(
            f"The labels agree with the predictions no better than in another order: mean loss "
            f"{mean:.4g}, shuffled {shuffled:.4g}; before, {past.mean:.4g} and {past.shuffled:.4g}."
        )
    return kinds, told, figures


def _of_others(others: pl.DataFrame, history: Mapping[str, SourceHistory]) -> float | None:
    """Return how many times their usual loss other sources have now; None if none can be told."""
    told = []
    for source, part in _batches(others):
        past = history.get(source, SourceHistory())
        if past.n >= _USUAL_ROWS and past.mean > 0 and part.height >= LEAST_ROWS:
            told.append(float(part["loss"].mean() or 0.0) / past.mean)  # type: ignore[arg-type] # a column of numbers
    return max(told, default=None)


def _suspect(
    source: str,
    part: pl.DataFrame,
    kinds: Sequence[Kind],
    told: Sequence[str],
    figures: dict[str, float],
    *,
    span: tuple[int, int],
    now: datetime,
) -> Suspect:
    low, high = part["label_at"].min(), part["label_at"].max()
    assert isinstance(low, datetime)  # noqa: S101 a batch has rows
    assert isinstance(high, datetime)  # noqa: S101
    name = f"{source}\n{low.isoformat()}\n{high.isoformat()}\n{span[0]}"
    id_ = hashlib.sha256(name.encode()).hexdigest()[:8]
    when = f"{low:%Y-%m-%d %H:%M} to {high:%Y-%m-%d %H:%M}"
    return Suspect(
        id=id_,
        batch=HeldBatch(
            id=id_, source=source, from_at=low, to_at=high, after=span[0], upto=span[1]
        ),
        n_rows=part.height,
        kinds=tuple(kinds),
        told=f"Labels from {source!r}, {when}, {_PLAIN[kinds[0]]}. In figures: {' '.join(told)}",
        found_at=now,
        figures={name: round(value, 6) for name, value in figures.items()},
    )


def _welch(mean: float, variance: float, n: int, past: SourceHistory) -> float:
    error = variance / n + past.variance / past.n
    if error <= 0:
        return math.inf if mean > past.mean else 0.0
    return (mean - past.mean) / math.sqrt(error)


def _variation(one: Any, other: Any) -> float:
    """Return the total variation of two histograms, 0 to 1."""
    p, q = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if len(p) != len(q) or not p.sum() or not q.sum():
        return 0.0
    return float(np.abs(p / p.sum() - q / q.sum()).sum() / 2)
