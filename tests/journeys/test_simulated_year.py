"""The churn loop, left alone for a simulated year of kills, poison, faults, late labels and a drift.

`loopwright monitor --watch` runs as it is, by a clock that the test sets. Nobody approves, resumes,
accepts or rejects anything.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

import loopwright as lw
from loopwright.deploy import read_actual
from loopwright.loop.alarm import list_alarms
from loopwright.loop.status import loop_status
from loopwright.loop.timetable import find_slot
from loopwright.wiring import find_workspace

from .churn_year import (
    BROKEN,
    EXAMPLE,
    N_WEEKS,
    POISONED,
    ROWS_A_DAY,
    TURNED,
    ChurnYear,
    last_year,
)
from .simulated_time import SimulatedTime, can_simulate

ENDPOINT_DIES = 26
_KILLED = 0.5
_LOOK_S = 300.0
_SEED = 5


@dataclass(kw_only=True)
class Year:
    """A loop in its folder, the process that looks after it, and the clock that both go by."""

    folder: Path
    clock: SimulatedTime
    start: datetime
    loop: lw.Loop
    made: ChurnYear
    chance: random.Random
    process: subprocess.Popen[bytes] | None = None
    n_kills: int = 0
    log: list[str] = field(default_factory=list)

    def moment(self, week: int, day: int, hour: float) -> datetime:
        return self.start + timedelta(weeks=week, days=day, hours=hour)

    def week_of(self, at: datetime) -> int:
        return (at - self.start).days // 7

    def started(self) -> None:
        """Start the process that looks after the loop, if it does not run."""
        if self.process is not None and self.process.poll() is None:
            return
        with (self.folder / "watch.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "loopwright",
                    "monitor",
                    str(self.loop.read.path),
                    "--watch",
                ],
                env=self.clock.environment() | {"LOOPWRIGHT_HOME": str(self.folder / "home")},
                stdout=log,
                stderr=log,
            )

    def killed(self, after_s: float) -> None:
        """Kill that process after a while, whatever it does, and start the next one."""
        time.sleep(after_s)
        self.ended()
        self.n_kills += 1
        self.started()

    def ended(self) -> None:
        """Kill the process that looks after the loop."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def looked(self, since: datetime) -> None:
        """Wait until a look that began at some time has ended well."""
        end = time.monotonic() + _LOOK_S
        while time.monotonic() < end:
            self.started()
            workspace = find_workspace(self.loop.settings)
            slot = find_slot(workspace.metadata, self.loop.name, "look") if workspace else None
            if slot is not None and slot.state == "well" and (slot.started_at or since) > since:
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "watch.log").read_text()[-3_000:])

    def week(self, number: int) -> None:
        """Let a week pass: traffic every day, the labels that are known by now, a look at the end."""
        for day in range(7):
            self.clock.set(self.moment(number, day, 10))
            ids, rows = self.made.day(number, day)
            self.loop.predict(rows, inference_ids=ids)
        known = self.moment(number, 6, 12)
        labels = pl.read_parquet(self.folder / "labels.parquet")
        new = self.made.labels_of(number, known_at=known)
        pl.concat([labels, new]).write_parquet(self.folder / "labels.new")
        (self.folder / "labels.new").replace(self.folder / "labels.parquet")
        if number == ENDPOINT_DIES:
            actual = read_actual(self.folder / "home" / "endpoints" / "telecom-churn")
            assert actual is not None
            os.kill(actual.pid, signal.SIGKILL)
        self.clock.set(self.moment(number, 6, 18))
        since = self.clock.now()
        if self.chance.random() < _KILLED:
            self.killed(self.chance.uniform(0.1, 3.0))
        self.looked(since)


def prepared(folder: Path) -> Year:
    """Return a year at its beginning: the example's loop file, with a label source and a seed."""
    shutil.copytree(EXAMPLE, folder)
    made = ChurnYear.of_seed(_SEED)
    made.history().write_parquet(folder / "churn.parquet")
    made.labels_of(-1, known_at=last_year()).write_parquet(folder / "labels.parquet")
    text = (folder / "loop.yaml").read_text()
    for old, new in (
        ("monitor: {every: 1 hour, ", "monitor: {every: 7 days, labels: {source: {kind: file, "
         "path: labels.parquet}, at: known_at}, "),
        ("approve: auto}", "approve: auto, bad_data: wait}"),
        ("jobs: 40}", "jobs: 12}"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    (folder / "loop.yaml").write_text(text)
    return Year(
        folder=folder,
        clock=SimulatedTime.made(folder / "clock"),
        start=last_year(),
        loop=lw.Loop(folder / "loop.yaml", home=folder / "home"),
        made=made,
        chance=random.Random(_SEED),
    )


def auc(year: Year, *, is_new: bool) -> tuple[float, float]:
    """Return how well the champion, and the true rule itself, tell apart who leaves."""
    rows = year.made.fresh(is_new=is_new, n=3_000, seed=99)
    answers = year.loop.predict(rows.drop("Churn", "chance"))
    truth = (rows["Churn"] == "Yes").to_numpy()
    found = [answer["probability"] for answer in answers]
    return roc_auc_score(truth, found), roc_auc_score(truth, rows["chance"].to_numpy())


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.skipif(not can_simulate(), reason="needs Linux and a C compiler")
def test_a_year_alone_ends_with_the_right_champion_few_alarms_and_a_history(
    tmp_path: Path,
) -> None:
    year = prepared(tmp_path / "churn")
    try:
        lived_through(year)
        checked(year)
    finally:
        year.ended()
        year.loop.stop()


def lived_through(year: Year) -> None:
    """Let the year pass."""
    year.clock.set(year.start - timedelta(hours=12))
    before = year.clock.now() - timedelta(seconds=1)
    year.started()
    year.looked(before)
    for number in range(N_WEEKS):
        year.week(number)


def checked(year: Year) -> None:
    """Check who answers at the end, what was told meanwhile, what was learnt, and the history."""
    assert year.n_kills > N_WEEKS / 4
    workspace = find_workspace(year.loop.settings)
    assert workspace is not None
    status = loop_status(workspace, year.loop.name)
    history = year.loop.feedback()
    own = [each for each in status.rounds if each["live"] is not None]

    # the world changed once, and the model that answers has learnt how it is now
    live = [each for each in own if each["state"] == "live"]
    assert live
    assert len(own) <= 6
    turned = year.moment(TURNED, 0, 0)
    assert all(datetime.fromisoformat(each["started_at"]) > turned for each in own)
    found, best = auc(year, is_new=True)
    assert found > best - 0.05
    assert history.state.champion == status.champion["version"]  # type: ignore[index]
    assert [each.kind for each in history.decisions].count("begun") == 1
    assert [each["number"] for each in status.rounds] == list(range(1, len(own) + 2))

    # nothing was learnt from labels that were turned over, nor from rows in another unit
    for each in own:
        rows = pl.read_parquet(workspace.artifacts.local_path(each["live"]["digest"]))
        assert rows["MonthlyCharges"].max() < 200  # type: ignore[operator]
        truth = rows["customerID"].replace_strict(year.made.truth, default=None)
        assert (truth == rows["Churn"]).all()

    # few alarms, each about what happened; all over but the one that waits for a person
    alarms = list_alarms(workspace, year.loop.name)
    told = {(year.week_of(each.opened_at), each.kind) for each in alarms}
    assert len(alarms) <= 8, told
    assert {week for week, _ in told} <= {
        *range(POISONED, POISONED + 2),
        *range(BROKEN, BROKEN + 2),
        *range(TURNED + 2, N_WEEKS),
    }, told
    assert {"operation", "data_quality", "error"} <= {kind for _, kind in told}
    # the second model's reference has some hundred rows: `columns together` may alarm, and starts nothing
    inputs = [each for each in alarms if each.kind == "data" and each.opened_at > turned]
    assert len(inputs) <= 1
    left = [each for each in alarms if each.state != "closed" and each not in inputs]
    assert [each.subject for each in left] == ["held labels"]

    # no prediction was lost or counted twice by whoever was killed
    versions = {each.label for each in year.loop.chronicle().champions}
    hours = [hour for version in versions for hour in year.loop.timeline(version=version)]
    assert sum(hour["n"] for hour in hours) == N_WEEKS * 7 * ROWS_A_DAY
    page = year.folder / "history.html"
    command = [sys.executable, "-m", "loopwright", "status", year.loop.name, "--page", str(page)]
    environment = year.clock.environment() | {"LOOPWRIGHT_HOME": str(year.folder / "home")}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    text = page.read_text()
    for words in ("The whole history", "held labels", "MonthlyCharges", live[-1]["reason"][:20]):
        assert words in text
