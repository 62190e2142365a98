"""Whether a fit on all rows may stand for the fit that was judged: numbers alone, on record."""

from __future__ import annotations

import math

import msgspec

MARGIN = 0.01
"""How much worse than the judged fit still counts as not worse, as a share of its figure."""
LEAST_SEGMENT = 50
# where the judged fit hardly errs, a difference of so much of the truth's spread is still small
_LEAST_DIFFERENCE = 0.01


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """The figure of the judged fit and that of the fit on all rows, on the same rows."""

    name: str
    n_rows: int
    judged: float
    again: float


class RefitEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """A fit on all rows beside the judged one.

    It has learnt from the rows of `newest` and `segments`: they can show that something went wrong,
    not that it is better.

    Parameters
    ----------
    n_learnt
        Rows it learnt from.
    newest
        On the rows that judged.
    segments
        In each guarded segment of them with 50 rows or more.
    segment_margin
        See `EvaluatePlan.margin`.
    golden
        On the rows whose truth is certain, which neither learnt from; None where there are none.
    difference
        Root of the mean squared difference between what both say, in units of the answer.
    error, spread
        The same between the judged fit and the truth, and between the truth and its mean.
    """

    metric: str
    higher_is_better: bool
    n_learnt: int
    newest: Beside
    segments: tuple[Beside, ...] = ()
    segment_margin: float = 0.05
    golden: Beside | None = None
    difference: float
    error: float
    spread: float

    @property
    def told(self) -> str:
        """It in words."""
        return (
            f"{self.metric} {self.newest.judged:.4g} to {self.newest.again:.4g} on {self.newest.n_rows:,} "
            f"rows it has learnt from now, answers {self.difference:.3g} apart, "
            f"errors were {self.error:.3g}"
        )


def refusals(evidence: RefitEvidence) -> list[str]:
    """Return why a fit on all rows may not go live; empty where it may.

    | refused for | because |
    |---|---|
    | worse by over 1 % on rows it has learnt from | it failed to learn |
    | worse by over the margin in a guarded segment, so too | it failed to learn that one |
    | worse by over 1 % on golden rows | there it is seen from outside |
    | further from the judged fit than that is from the truth | what was judged was another model |
    """
    found = []
    asked = [(evidence.newest, MARGIN, "the rows that judged")]
    asked += [(each, evidence.segment_margin, repr(each.name)) for each in evidence.segments]
    if evidence.golden is not None:
        asked.append((evidence.golden, MARGIN, "the golden rows"))
    for each, margin, where in asked:
        if _is_worse(each, margin, higher_is_better=evidence.higher_is_better):
            found.append(
                f"on {where} {evidence.metric} went from {each.judged:.4g} to {each.again:.4g}"
            )
    allowed = max(evidence.error, _LEAST_DIFFERENCE * evidence.spread)
    if not evidence.difference <= allowed:
        found.append(
            f"its answers are {evidence.difference:.3g} from those of the judged fit, which errs by "
            f"{evidence.error:.3g}"
        )
    return found


def _is_worse(each: Beside, margin: float, *, higher_is_better: bool) -> bool:
    if not math.isfinite(each.judged):
        return False  # the figure does not exist on these rows, of either fit
    gain = (each.again - each.judged) * (1 if higher_is_better else -1)
    return not gain >= -margin * abs(each.judged)
