"""The single model of an `auto` job beside its blend: what both are worth, and which is served."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.problem import metric_named
from loopwright.train.job import OUT_FOLDER
from loopwright.train.job_folder import Part
from loopwright.tune.auto import AutoModel
from loopwright.tune.distilling import Distilled, distilled
from loopwright.tune.job import DISTILLED_FILE, AutoSpec
from loopwright.tune.tradeoff import answer_times, comparison, takes_single

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SingleModel:
    """A model that learnt from the blend, and how it compares.

    Parameters
    ----------
    distilled
        The model.
    answers
        What it says about the validation rows.
    report
        What it costs and gains, as JSON types; `out/distilled.json`.
    is_served
        Whether it is the one to serve.
    """

    distilled: Distilled
    answers: npt.NDArray[np.float64]
    report: dict[str, Any]
    is_served: bool


def single_model(
    spec: AutoSpec,
    model: AutoModel,
    validation: Part,
    answers: npt.NDArray[np.float64],
    *,
    seconds: float,
    is_stopped: Callable[[], bool] = lambda: False,
) -> SingleModel | None:
    """Return the single model that learns from a blend, compared with it on the validation rows.

    None if none came of it in time.

    Parameters
    ----------
    spec
        The order of the job.
    model, answers
        The blend, and what it says about the validation rows.
    validation
        Rows that neither learns from.
    seconds
        Wall time for the learning.
    is_stopped
        Asked now and then whether to end with what there is.
    """
    metric = metric_named(spec.metric)
    found = distilled(
        model,
        model.prepared,
        metric,
        seconds=seconds,
        threads=spec.training.threads,
        algorithms=spec.algorithms,
        # who has to stop has no time left
        clock=lambda: math.inf if is_stopped() else time.monotonic(),
    )
    if found is None:
        print("no single model could learn from the blend in the time there was", flush=True)
        return None
    said = found.predict_raw(validation.frame)
    costs = comparison(
        validation.y,
        answers,
        said,
        metric=metric,
        is_class=bool(spec.training.classes),
        seed=spec.training.seed,
    )
    is_served = takes_single(spec.distill, costs, may_cost=spec.distill_may_cost)
    report = {
        "metric": spec.metric,
        "algorithm": found.algorithm,
        "n_validation": len(validation.y),
        "n_new": found.n_new,
        "seconds": found.seconds,
        **costs,
        "latency": {
            "blend": answer_times(model.fitted, model.predictor, validation.frame),
            "single": answer_times(found.fitted, found.predictor, validation.frame),
        },
        "policy": spec.distill,
        "may_cost": spec.distill_may_cost,
        "served": "single" if is_served else "blend",
    }
    print(told(report), flush=True)
    return SingleModel(distilled=found, answers=said, report=report, is_served=is_served)


def read_distilled(folder: Path) -> dict[str, Any] | None:
    """Return what the single model of an `auto` job costs and gains, with `told`, a sentence.

    None if the job made none, or has not come so far.
    """
    try:
        report: dict[str, Any] = msgspec.json.decode(
            (folder / OUT_FOLDER / DISTILLED_FILE).read_bytes()
        )
        return {**report, "told": told(report)}
    except (OSError, msgspec.MsgspecError, KeyError, TypeError, ValueError):
        return None


def told(report: dict[str, Any]) -> str:
    """Return what the single model costs and gains, in one sentence."""
    blend, single = (report["latency"][name] for name in ("blend", "single"))
    return (
        f"single {report['algorithm']}: {report['metric']} {report['single']:.5g} instead of "
        f"{report['blend']:.5g} on {report['n_validation']:,} validation rows (worse by "
        f"{report['cost']:.3g}, with 95 % confidence {report['cost_low']:.3g} to "
        f"{report['cost_high']:.3g}); {single['row_us']:.0f} instead of {blend['row_us']:.0f} "
        f"microseconds a row, {single['batch_us']:.0f} instead of {blend['batch_us']:.0f} in a "
        f"batch; served: the {report['served'].replace('single', 'single model')}"
    )
