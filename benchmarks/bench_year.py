"""A year of real rows in the order of time: when to retrain, and what that is worth.

    python benchmarks/bench_year.py --tables electricity houses flights

prints, for each table, the mean loss of what was answered over the year and the number of trainings,
of a model that is never trained again, one that is trained anew every month, one that is trained anew
whenever Evidently would raise an alarm about a week's rows, and of the feedback loop of loopwright.
All of them begin with the same model and use the same LightGBM; once a week each is asked what to do.

The loop is the product's own: its monitor, its triage and guards, its choice of rows, its gate, the
fit on all rows and the trial of a new champion, without endpoint and store between them. Evidently's rule is written anew after its defaults (0.7): a
number that is more than 0.1 standard deviations away by Wasserstein, a category more than 0.1 away by
Jensen-Shannon (natural logarithm, as SciPy); "any column", and its own preset's half of the columns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import polars as pl
from monitor_table import DATASETS
from year_table import TABLES, Array, Model, Year, answers_of, fitted, losses_of

from loopwright.deploy.rollout import ShadowPlan
from loopwright.loop.baking import is_baking
from loopwright.loop.choosing import chosen_windows
from loopwright.loop.feedback import begin, step
from loopwright.loop.feedback_state import (
    BeginRound,
    Begun,
    Compared,
    Configured,
    Ended,
    Event,
    Failed,
    Looked,
    LoopState,
    Ticked,
    Trained,
)
from loopwright.loop.gate import Rule, measured_evidence, passage
from loopwright.loop.onset import onset
from loopwright.loop.retrain_plan import Occasion, RetrainPlan
from loopwright.loop.shadowing import standing
from loopwright.loop.trigger import LEAST_ROWS, LOSS_CAUSES, policy_of, seen_in
from loopwright.monitor import (
    MonitorPlan,
    Reference,
    Timing,
    WatchState,
    build_reference,
    live_figures,
    start_watch,
    watch,
)
from loopwright.problem import metric_named

_WEEK = timedelta(days=7)
_MONTH = timedelta(days=30)
# a criterion that the first model meets with some room
_ROOM = 1.1


def main() -> None:
    """Print the table of every year that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    options = parser.parse_args()
    if not DATASETS.is_dir():
        print("The real tables are not here; nothing is measured.")
        return
    for name in options.tables:
        compared(TABLES[name]())


def compared(year: Year) -> None:
    """Print how each policy did over a year."""
    start = year.frame["at"][0] + year.first
    known = year.frame.filter(pl.col("at") < start)
    train, _, test = _by_place(known, 0.7, 0.9)
    model = fitted(year, train)
    target = _ROOM * float(losses_of(year, test, model.says(test)).mean())
    live = year.frame.height - known.height
    print(
        f"\n{year.name}: {known.height:,} rows known, {live:,} to come, labels after "
        f"{year.late.days} days, {year.metric} at most {target:.4f}"
    )
    alarms = RetrainPlan(when=("criterion_missed", "drift"))
    judged = RetrainPlan(when=("criterion_missed", "drift"), all_rows=False)
    both = RetrainPlan(when=("criterion_missed", "drift", Occasion(every="30 days")))
    policies: dict[str, Callable[[], Policy]] = {
        "never": lambda: Never(year, train),
        "every month": lambda: Monthly(year, train),
        "every Evidently alarm, half of the columns": lambda: Evidently(year, train, share=0.5),
        "every Evidently alarm, any column": lambda: Evidently(year, train, share=0.0),
        "loopwright": lambda: Ours(year, train, test, model, target, RetrainPlan()),
        "loopwright, alarms alone": lambda: Ours(year, train, test, model, target, alarms),
        "loopwright, so, the judged fit goes live": lambda: Ours(
            year, train, test, model, target, judged
        ),
        "loopwright, alarms and every 30 days": lambda: Ours(
            year, train, test, model, target, both
        ),
    }
    for label, made in policies.items():
        began = time.process_time()
        policy = made()
        loss, worst = lived(year, policy, model, start)
        told = f"{policy.n_trained:3} rounds, {policy.n_live:3} new champions"
        print(
            f"  {label:44} {loss:.4f}  worst month {worst:.4f}  {told}"
            f"  {time.process_time() - began:5.1f} CPU s  {policy.told}",
            flush=True,
        )


def lived(year: Year, policy: Policy, model: Model, start: datetime) -> tuple[float, float]:
    """Return the mean loss over the year and that of the worst month."""
    losses, times = [], []
    now, end = start, year.frame["at"][-1]
    while now <= end:
        rows = year.frame.filter(pl.col("at").is_between(now, now + _WEEK, closed="left"))
        if rows.height:
            said = model.says(rows)
            losses.append(losses_of(year, rows, said))
            times.append(rows["at"])
            now += _WEEK
            known = year.frame.filter(pl.col("at") < now - year.late)
            model = policy.after_week(now, rows, said, known) or model
        else:
            now += _WEEK
    frame = pl.DataFrame({"at": pl.concat(times), "loss": np.concatenate(losses)})
    months = frame.group_by(((pl.col("at") - start).dt.total_days() // 30).alias("m")).agg(
        pl.col("loss").mean(), pl.len()
    )
    worst = months.filter(pl.col("len") >= 100)["loss"].max()
    return float(frame["loss"].mean()), float(worst)  # type: ignore[arg-type]


@dataclass
class Never:
    """Leaves the model as it is."""

    year: Year
    train: pl.DataFrame
    n_trained: int = 0
    n_live: int = 0
    told: str = ""

    def after_week(
        self, now: datetime, rows: pl.DataFrame, said: Array, known: pl.DataFrame
    ) -> Model | None:
        """Return the model that answers from now on, if it is another."""
        return None

    def trained(self, known: pl.DataFrame) -> Model:
        """Return a model that learnt from all rows whose truth is known."""
        self.n_trained += 1
        self.n_live += 1
        return fitted(self.year, known)


@dataclass
class Monthly(Never):
    """Trains anew every 30 days."""

    last: datetime | None = None

    def after_week(
        self, now: datetime, rows: pl.DataFrame, said: Array, known: pl.DataFrame
    ) -> Model | None:
        """See `Never`."""
        self.last = self.last or now - _WEEK
        if now - self.last < _MONTH:
            return None
        self.last = now
        return self.trained(known)


@dataclass
class Evidently(Never):
    """Trains anew when a week's rows drifted from those that the model learnt from."""

    share: float = 0.5

    def after_week(
        self, now: datetime, rows: pl.DataFrame, said: Array, known: pl.DataFrame
    ) -> Model | None:
        """See `Never`."""
        flags = [
            _drifted(self.train[c], rows[c], is_number=kind == "number")
            for c, kind in self.year.kinds().items()
        ]
        if not any(flags) or np.mean(flags) < self.share:
            return None
        self.train = known
        return self.trained(known)


def _drifted(before: pl.Series, now: pl.Series, *, is_number: bool) -> bool:
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import wasserstein_distance

    before, now = before.drop_nulls(), now.drop_nulls()
    if not len(before) or not len(now):
        return False
    # Evidently takes numbers of five values at most for categories
    if is_number and before.n_unique() > 5:
        deviation = max(float(before.std()), 0.001)  # type: ignore[arg-type]
        return bool(wasserstein_distance(before.to_numpy(), now.to_numpy()) / deviation >= 0.1)
    shares = [dict(zip(*s.value_counts(normalize=True), strict=True)) for s in (before, now)]
    values = list(shares[0] | shares[1])
    both = [[share.get(v, 0.0) for v in values] for share in shares]
    return bool(jensenshannon(*both) >= 0.1)


class Ours:
    """The feedback loop, as a round of it goes in the product."""

    def __init__(
        self,
        year: Year,
        train: pl.DataFrame,
        test: pl.DataFrame,
        model: Model,
        target: float,
        plan: RetrainPlan,
    ) -> None:
        self.year, self.model, self.target = year, model, target
        self.plan, self.base = plan, train
        self.first = year.frame.filter(pl.col("at") < year.frame["at"][0] + year.first)
        self.n_learnt = train.height
        self.before: Model | None = None
        self.n_back = 0
        self.n_trained = self.n_live = 0
        self.learnt_until = self.tried_until = year.frame["at"][0] + year.first
        self.known_until = self.learnt_until - year.late
        self.said = _Said()
        now = self.learnt_until
        self.state: LoopState = begin("year", now)
        bare = msgspec.structs.replace(plan, bad_data="wait")
        self._tell(Configured(policy=policy_of(bare)), now)
        self._tell(Begun(number=1, cause="first run", reason=""), now)
        self._tell(Trained(number=1), now)
        self._tell(Ended(number=1, outcome="live", version="1"), now)
        self._watched_from(train, test)
        self.alarms: list[str] = []

    @property
    def told(self) -> str:
        """Which alarms there were."""
        back = [f"{self.n_back} taken back"] if self.n_back else []
        return ", ".join([*back, *self.alarms])

    def after_week(
        self, now: datetime, rows: pl.DataFrame, said: Array, known: pl.DataFrame
    ) -> Model | None:
        """See `Never`."""
        self.said.add(rows["at"], said, losses_of(self.year, rows, said))
        new = self.said.between(self.known_until, now - self.year.late)
        self.known_until = now - self.year.late
        mine = self.said.between(self.crowned_at, now - self.year.late)
        figures = live_figures(mine["loss"].to_numpy(), metric="loss", at_most=self.target)
        self.watch, report = watch(
            self.reference,
            self.watch,
            _predictions(rows, said, self.watch.version),
            inputs=rows.select(self.year.inputs),
            losses=new.filter(pl.col("at") >= self.crowned_at).select(
                pl.col("at") + self.year.late, "loss"
            ),
            figures=figures if mine.height else (),
            now=now,
        )
        self.alarms += [f"{a.kind} {a.stream} {now:%m-%d}" for a in report.new_alarms]
        fresh = known.filter(pl.col("at") > self.tried_until)
        seen = seen_in(report, n_fresh=fresh.height)
        seen = msgspec.structs.replace(seen, n_learnt=self.n_learnt)
        if back := self._taken_back(now):
            return back
        if report.verdict in LOSS_CAUSES and mine.height:
            since = onset(mine["at"], mine["loss"].to_numpy())
            n_since = mine.filter(pl.col("at") >= since).height if since else None
            seen = msgspec.structs.replace(seen, since=since or seen.since, n_since=n_since)
        effects = self._tell(Looked(seen=seen), now)
        rounds = [each for each in effects if isinstance(each, BeginRound)]
        return self._round(rounds[0], known, now) if rounds else None

    def _round(self, asked: BeginRound, known: pl.DataFrame, now: datetime) -> Model | None:
        """Train on each choice of rows, take the better one, and let it pass the gate or not."""
        for period in asked.without:
            known = known.filter(~pl.col("at").is_between(period.since, period.until))
        since = self.learnt_until
        n_recent = known.filter(pl.col("at") >= asked.since).height if asked.since else None
        if n_recent is not None and n_recent >= LEAST_ROWS and asked.since is not None:
            since = max(since, asked.since - timedelta(microseconds=1))
        live = known.filter(pl.col("at") > self.year.frame["at"][0] + self.year.first)
        fresh = live.filter(pl.col("at") > since)
        if fresh.height < LEAST_ROWS:
            self._tell(Failed(number=asked.number, error="too few rows", is_final=True), now)
            return None
        self.n_trained += 1
        self.tried_until = known["at"][-1]
        recent, validation, test = _by_place(fresh, 0.5, 0.7)
        old = pl.concat([self.base, live.filter(pl.col("at") <= since)])
        windows = chosen_windows(old, recent, ("all", "recent"))
        models = [(fitted(self.year, part), name) for name, part in windows.items()]
        year = self.year
        best, chosen = min(
            models, key=lambda m: losses_of(year, validation, m[0].says(validation)).mean()
        )
        self._tell(Trained(number=asked.number), now)
        evidence = measured_evidence(
            metric_named(year.metric),
            test["truth"].to_numpy(),
            champion=answers_of(year, self.model.says(test)),
            challenger=answers_of(year, best.says(test)),
            rule=Rule(kind=asked.gate, trial=asked.trial),  # type: ignore[arg-type]
            recent=None if n_recent is None else np.arange(test.height) >= test.height - n_recent,
        )
        if not passage(evidence).passes:
            self._tell(Ended(number=asked.number, outcome="kept champion"), now)
            return None
        self._tell(Ended(number=asked.number, outcome="live", version=str(asked.number)), now)
        self.n_live += 1
        self.before, self.model = self.model, best
        self.learnt_before, self.learnt_until = self.learnt_until, self.tried_until
        self.n_before, self.n_learnt = self.n_learnt, windows[chosen].height
        # what it is watched by stays what the judged fit said to rows that it never saw
        self._watched_from(windows[chosen], test)
        if self.plan.all_rows:
            old = pl.concat([self.first, live.filter(pl.col("at") <= since)])
            rows = chosen_windows(old, fresh, (chosen,))[chosen]  # type: ignore[arg-type]
            self.n_learnt, self.model = rows.height, fitted(year, rows)
        return self.model

    def _taken_back(self, now: datetime) -> Model | None:
        """Return the champion before, if the new one is on trial and worse than it beyond doubt."""
        if not is_baking(self.state) or self.before is None:
            return None
        rows = self.year.frame.filter(
            pl.col("at").is_between(self.crowned_at, now - self.year.late, closed="left")
        )
        if not rows.height:
            return None
        losses = [losses_of(self.year, rows, m.says(rows)) for m in (self.before, self.model)]
        found = standing(losses[0], losses[1], ShadowPlan())
        champion, previous = str(self.state.champion), str(self.state.previous)
        compared = Compared(version=champion, beside=previous, is_worse=found.verdict == "worse")
        if not self._tell(compared, now):
            return None
        self.model, self.before = self.before, None
        self.learnt_until, self.n_learnt = self.learnt_before, self.n_before
        self.n_back += 1
        self._watched_from(*self.watched_before)
        return self.model

    def _watched_from(self, train: pl.DataFrame, test: pl.DataFrame) -> None:
        """Watch the present model from now on, beside what it was made of."""
        self.watched_before, self.watched = getattr(self, "watched", (train, test)), (train, test)
        self.crowned_at = self.state.at
        said = self.model.says(test)
        self.reference: Reference = build_reference(
            train.select(self.year.inputs),
            said,
            losses_of(self.year, test, said),
            self.year.kinds(),
            importances=self.model.importances(),
            answered=test.select(self.year.inputs),
            times=Timing(at=train["at"], answers_at=test["at"]),
        )
        self.watch: WatchState = start_watch(
            self.reference, MonitorPlan(), version=str(self.state.round)
        )

    def _tell(self, event: Event, now: datetime) -> tuple[Any, ...]:
        self.state, effects = step(self.state, event, now)
        self.state, _ = step(self.state, Ticked(), now)
        return effects


@dataclass
class _Said:
    """What was answered, and what it cost."""

    parts: list[pl.DataFrame] = field(default_factory=list)

    def add(self, at: pl.Series, said: Array, losses: Array) -> None:
        self.parts.append(pl.DataFrame({"at": at, "said": said, "loss": losses}))

    def between(self, since: datetime, until: datetime) -> pl.DataFrame:
        frame = pl.concat(self.parts)
        return frame.filter(pl.col("at").is_between(since, until, closed="left"))


def _predictions(rows: pl.DataFrame, said: Array, version: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "inference_id": pl.int_range(rows.height, eager=True).cast(pl.String),
            "at": rows["at"].cast(pl.Datetime("us", "UTC")),
            "version": pl.repeat(version, rows.height, eager=True),
            "prediction": said,
        }
    )


def _by_place(rows: pl.DataFrame, *cuts: float) -> list[pl.DataFrame]:
    """Return the parts of rows between some shares of them, in their order."""
    places = [0, *(int(rows.height * cut) for cut in cuts), rows.height]
    return [rows[a:b] for a, b in pairwise(places)]


Policy = Never | Ours


if __name__ == "__main__":
    main()
