"""Endpoints under load while everything is done to them: swaps, kills, rollouts, broken models.

`python benchmarks/soak_endpoint.py --minutes 10` soaks the two examples one after the other: callers send
rows without a pause, or at a rate, and compare every answer with what the version that it names answers in this
process. Meanwhile the model is exchanged, workers are killed, a canary moves step by step, models that
are broken are asked for. The first worker is never killed: its memory and descriptors must not grow.
Ends with 1 if a request failed, an answer was wrong, or something grew.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from loopwright.core.errors import BackendError
from loopwright.deploy import (
    CaptureSettings,
    DesiredState,
    Endpoint,
    Variant,
    free_port,
    read_actual,
    wait_until_serving,
    write_desired,
)
from loopwright.prepare import Signature, fit_recipe, suggest
from loopwright.train import (
    Outcome,
    TrainingData,
    TrainingPart,
    fit_algorithm,
    get_algorithm,
    named_outcome,
    open_bundle,
    pack_bundle,
)
from loopwright.train.predictor_file import pack_predictor
from loopwright.tune import families_of

EXAMPLES = Path(__file__).parents[1] / "examples"
TABLES = {
    "house-prices": ("house-prices/houses.parquet", "price", None),
    "churn": ("telecom-churn/churn.parquet", "Churn", ("No", "Yes")),
}
N_ROWS = 200
# a caller tries so often, as the client of loopwright does for a connection that was cut
MOST_TRIES = 3
SAME = 1e-9


def packed(name: str, rounds: int) -> tuple[bytes, list[dict[str, Any]]]:
    """Return a model of an example's table, and rows to ask it."""
    file, target, classes = TABLES[name]
    table = pl.read_parquet(EXAMPLES / file).drop_nulls(target).head(4000)
    task: Literal["regression", "binary"] = "binary" if classes else "regression"
    about: dict[str, Any] = {"n_classes": 2} if classes else {}
    inputs = table.drop(target)
    y = (table[target] == classes[1] if classes else table[target]).cast(pl.Float64).to_numpy()
    (family,) = families_of(("lightgbm",))
    fitted, X = fit_recipe(suggest(table, target, task, family=family), inputs, y, seed=0)
    part = TrainingPart(X=X, y=y)
    model = fit_algorithm(
        get_algorithm("lightgbm"),
        TrainingData(train=part, validation=part, **about),
        task=task,
        hyperparameters={"rounds": rounds, "early_stopping_rounds": 0},
        seed=0,
        threads=1,
    )
    outcome = (
        named_outcome("binary", classes, positive=classes[1])
        if classes
        else Outcome(task="regression")
    )
    rows = json.loads(inputs.head(N_ROWS).write_json())
    bundle = pack_bundle(
        {
            **pack_predictor(model.predictor),
            "recipe.json": fitted.to_json().encode(),
            "signature.json": Signature.from_frame(inputs).to_json().encode(),
        },
        name=name,
        algorithm="lightgbm",
        outcome=outcome,
        golden_rows=rows[:10],
    )
    return bundle, rows


@dataclass
class Soak:
    """An endpoint, what it may answer now, and what was counted."""

    folder: Path
    rows: list[dict[str, Any]]
    bundles: dict[str, Path]
    expected: dict[str, list[float]]
    n_workers: int
    generation: int = 0
    # when which versions began to be possible; the last ones are now
    possible: list[tuple[float, frozenset[str]]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def ask_for(self, parts: dict[str, float], *, fails: bool = False) -> None:
        """Have versions serve with weights; several become variants. Broken ones must be refused."""
        self.generation += 1
        variants = [
            Variant(name=f"of-{each}", bundle=str(self.bundles[each]), version=each, weight=weight)
            for each, weight in parts.items()
        ]
        models: dict[str, Any] = {"variants": tuple(variants)}
        if len(variants) == 1:
            (only,) = variants
            models = {"bundle": only.bundle, "version": only.version}
        before = self.possible[-1][1] if self.possible else frozenset()
        after = before if fails else frozenset(each for each in parts if parts[each] > 0)
        self.possible.append((time.monotonic(), before | after))
        write_desired(
            self.folder,
            DesiredState(
                name="soak",
                generation=self.generation,
                workers=self.n_workers,
                port=self.port,
                capture=CaptureSettings(folder=str(self.folder / "capture")),
                **models,
            ),
        )
        if self.process is None:
            self.process = subprocess.Popen(
                Endpoint("soak", self.folder).command,
                stderr=(self.folder / "log.txt").open("wb"),
                start_new_session=True,
            )
        process = self.process
        try:
            wait_until_serving(
                self.folder,
                generation=self.generation,
                timeout_s=60,
                is_alive=lambda: process.poll() is None,
            )
        except BackendError:
            if not fails:
                raise
        else:
            if fails:
                raise SystemExit("a broken model was served")
        self.possible.append((time.monotonic(), after))

    def may_answer(self, since: float, until: float) -> frozenset[str]:
        """Return the versions that may have answered a request at some time in between."""
        found: frozenset[str] = frozenset()
        history = list(self.possible)
        for (begin, versions), (end, _) in itertools.pairwise([*history, (float("inf"), found)]):
            if begin <= until and end >= since:
                found |= versions
        return found

    def call(self, seed: int, pause_s: float) -> None:
        """Ask row after row, a request every `pause_s` seconds if that is above 0, and check answers."""
        random_ = random.Random(seed)
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        due = time.monotonic()
        while not self.is_over.wait(max(0.0, due - time.monotonic())):
            due = max(due + pause_s, time.monotonic() - 1.0)
            at = random_.randrange(len(self.rows))
            size = 1 if random_.random() < 0.9 else 20
            picked = [(at + step) % len(self.rows) for step in range(size)]
            body = json.dumps([self.rows[each] for each in picked])
            self._ask(line, body, picked)
            if random_.random() < 0.01:
                line.close()
        line.close()

    def _ask(self, line: http.client.HTTPConnection, body: str, picked: list[int]) -> None:
        since, problem = time.monotonic(), ""
        for number in range(MOST_TRIES):
            began_at = time.monotonic()
            try:
                line.request("POST", "/invocations", body, {"Content-Type": "application/json"})
                response = line.getresponse()
                said = json.loads(response.read())
            except (OSError, http.client.HTTPException) as error:
                line.close()
                problem = type(error).__name__
                self.counts["asked again after a cut line"] += 1
                time.sleep(0.02 * number)
                continue
            if response.status == 503:
                self.counts["refused by policy"] += 1
                time.sleep(0.1)
                continue
            if response.status != 200:
                problem = f"{response.status}: {said}"
                break
            self.seconds.append(time.monotonic() - began_at)
            self._check(said, picked, since)
            return
        self.counts["failed"] += 1
        self.examples.append(problem[:300])

    def _check(self, said: dict[str, Any], picked: list[int], since: float) -> None:
        version = str(said.get("model_version"))
        answers = said["predictions"]
        possible = self.may_answer(since, time.monotonic())
        self.counts["answered"] += 1
        self.counts[f"by {version}"] += 1
        if version not in possible:
            self.counts["of a wrong version"] += 1
            self.examples.append(f"{version} answered; {sorted(possible)} could")
            return
        for place, answer in zip(picked, answers, strict=True):
            found = answer.get("probability", answer["prediction"])
            wanted = self.expected[version][place]
            if abs(found - wanted) > SAME * max(1.0, abs(wanted)):
                self.counts["wrong"] += 1
                self.examples.append(f"{version}, row {place}: {found}, not {wanted}")


def held(pid: int) -> tuple[float, int]:
    """Return MiB of resident memory and open descriptors of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def disturb(
    soak: Soak, until: float, period_s: float
) -> tuple[list[tuple[float, int]], Counter[str]]:
    """Do one thing after the other to the endpoint; return what its first worker held, and what was done."""
    samples: list[tuple[float, int]] = []
    done: Counter[str] = Counter()
    actual = read_actual(soak.folder)
    assert actual is not None
    kept = actual.workers[0] if actual.workers else actual.pid
    whole, served = ["a", "b"], "a"
    for number in itertools.count():
        if time.monotonic() > until:
            return samples, done
        kind = ("swap", "kill", "rollout", "break", "kill", "hup")[number % 6]
        done[kind] += 1
        other = whole[1 - whole.index(served)]
        if kind == "swap":
            soak.ask_for({other: 1.0})
            served = other
        elif kind == "kill":
            now = read_actual(soak.folder)
            victims = [pid for pid in (now.workers if now else []) if pid != kept]
            if victims:
                os.kill(victims[0], signal.SIGKILL)
        elif kind == "rollout":
            for share in (0.1, 0.5):
                soak.ask_for({served: 1 - share, other: share})
                time.sleep(period_s / 4)
            soak.ask_for({other: 1.0})
            served = other
        elif kind == "break":
            soak.ask_for({"broken": 1.0}, fails=True)
        elif soak.process is not None:
            soak.process.send_signal(signal.SIGHUP)
        time.sleep(period_s)
        samples.append(held(kept))
    raise AssertionError("unreachable")


def soaked(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what came of one endpoint."""
    bundles, expected = {}, {}
    rows: list[dict[str, Any]] = []
    for version, rounds in (("a", 60), ("b", 90)):
        data, rows = packed(name, rounds)
        bundles[version] = folder / f"{version}.tar.gz"
        bundles[version].write_bytes(data)
        answers = open_bundle(data).predict(rows)
        expected[version] = [each.get("probability", each["prediction"]) for each in answers]
    bundles["broken"] = folder / "broken.tar.gz"
    bundles["broken"].write_bytes(bundles["a"].read_bytes()[:-1000])
    soak = Soak(
        folder=folder,
        rows=rows,
        bundles=bundles,
        expected=expected,
        n_workers=arguments.workers,
    )
    callers = []
    pause_s = arguments.callers / arguments.rate if arguments.rate else 0.0
    try:
        soak.ask_for({"a": 1.0})
        callers = [
            threading.Thread(target=soak.call, args=(seed, pause_s))
            for seed in range(arguments.callers)
        ]
        for caller in callers:
            caller.start()
        until = time.monotonic() + 60 * arguments.minutes
        samples, done = disturb(soak, until, arguments.period)
    finally:
        soak.is_over.set()
        for caller in callers:
            caller.join(30)
        if soak.process is not None:
            soak.process.terminate()
            soak.process.wait(30)
    return report(name, soak, samples, done, n_callers=arguments.callers)


def report(
    name: str,
    soak: Soak,
    samples: list[tuple[float, int]],
    done: Counter[str],
    *,
    n_callers: int,
) -> dict[str, Any]:
    """Return the figures of one endpoint, and whether all is well."""
    third = max(1, len(samples) // 3)
    # the first model exchanges make room that is used again
    early, late = samples[third : 2 * third] or samples, samples[-third:]
    mib = [statistics.median(each[0] for each in part) for part in (early, late)]
    fds = [statistics.median(each[1] for each in part) for part in (early, late)]
    took = sorted(soak.seconds)
    figures: dict[str, Any] = {
        "endpoint": name,
        **{key: soak.counts[key] for key in ("answered", "failed", "wrong", "of a wrong version")},
        "asked again after a cut line": soak.counts["asked again after a cut line"],
        "refused by policy": soak.counts["refused by policy"],
        "by version": {key[3:]: n for key, n in soak.counts.items() if key.startswith("by ")},
        "done to it": dict(done),
        "p50 ms": round(1000 * took[len(took) // 2], 2) if took else None,
        "p99 ms": round(1000 * took[len(took) * 99 // 100], 2) if took else None,
        "MiB, middle and last third": [round(each, 1) for each in mib],
        "descriptors, middle and last third": fds,
        "examples of what went wrong": soak.examples[:5],
    }
    # every kill cuts what its worker was answering, which is asked again
    bad = ("failed", "wrong", "of a wrong version")
    figures["ok"] = (
        soak.counts["answered"] > 0
        and not any(soak.counts[key] for key in bad)
        and mib[1] <= 1.1 * mib[0] + 8
        # a caller's connection may be this worker's or another's
        and fds[1] <= fds[0] + n_callers
    )
    return figures


def main() -> int:
    """Soak and print; return 1 if something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for each endpoint")
    parser.add_argument("--endpoint", choices=[*TABLES, "both"], default="both")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--callers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0, help="requests a second; 0: no pause")
    parser.add_argument(
        "--period", type=float, default=2.0, help="seconds between two disturbances"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    names = list(TABLES) if arguments.endpoint == "both" else [arguments.endpoint]
    is_ok = True
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            figures = soaked(name, Path(folder), arguments)
        is_ok = is_ok and figures["ok"]
        if arguments.json:
            print(json.dumps(figures))
        else:
            print("\n".join(f"{key:<36} {value}" for key, value in figures.items()), end="\n\n")
    return 0 if is_ok else 1


if __name__ == "__main__":
    sys.exit(main())
