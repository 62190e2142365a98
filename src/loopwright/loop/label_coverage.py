"""Whether the labelled rows speak for those without a label: a model learns only what is labelled."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.loop.file import LoopFile
from loopwright.loop.gathering import gathered, ledger_about
from loopwright.loop.sourcing import Target
from loopwright.loop.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_ALL_BUT_COVERED = 0.8
_FEWEST = 100
_LARGE = 0.1
_SIGMAS = 4.0


def labels_differ(
    workspace: Workspace, loop: LoopFile, target: Target, champion: dict[str, Any]
) -> str:
    """Return why the labelled rows of the champion do not speak for the others; empty if they do.

    Where only cases that were acted on get a label, those that were not never teach, and a model
    learnt from the rest is wrong about them. Only times from which labels have come are looked at.
    """
    if loop.deploy is None:
        return ""
    folder, about = workspace.endpoint_folder(loop.deploy.endpoint), ledger_about(loop, target)
    ledger, version = gathered(folder, about), str(champion["version"])
    score = "probability" if target.task == "binary" else "prediction"
    if target.task not in ("binary", "regression"):
        return ""
    labelled = ledger.labelled(version=version, columns=("inference_id", "at", score))
    if labelled.height < _FEWEST:
        return ""
    own = (pl.col("version") == version) & ~pl.col("shadow")
    mature = own & (pl.col("at") <= labelled["at"].max())
    columns = ("inference_id", score)
    pages = [page.filter(mature).select(columns) for page in ledger.predictions(above=0)]
    known = labelled.select("inference_id")
    others = pl.concat(pages).join(known, on="inference_id", how="anti")
    return told_difference(
        labelled[score].cast(pl.Float64).to_numpy(), others[score].cast(pl.Float64).to_numpy()
    )


def told_difference(labelled: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> str:
    """Return in words that what was predicted for two sets of rows differs by much; else nothing.

    Notes
    -----
    Mann and Whitney's statistic (Annals of Mathematical Statistics 18, 1947): the chance that a
    labelled row has the higher score, 0.5 where the sets are alike. It differs by much when it is
    off by 0.1 and by four standard errors. A set of which 80 % are labelled is not asked about.
    """
    n, m = len(labelled), len(others)
    share = n / (n + m) if n + m else 1.0
    if m < _FEWEST or n < _FEWEST or share >= _ALL_BUT_COVERED:
        return ""
    together = np.concatenate([labelled, others])
    values, places, counts = np.unique(together, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    ranks = middle[places[:n]]
    chance = (float(ranks.sum()) - n * (n + 1) / 2) / (n * m)
    error = math.sqrt((n + m + 1) / (12 * n * m))
    if abs(chance - 0.5) < max(_LARGE, _SIGMAS * error) or len(values) < 2:
        return ""
    higher = "higher" if chance > 0.5 else "lower"
    return (
        f"only {share:.0%} of the rows have a label, and those were predicted {higher} than the "
        f"others ({max(chance, 1 - chance):.0%} of pairs): a model would learn from a part of the "
        "cases only. Label some of the others too."
    )
