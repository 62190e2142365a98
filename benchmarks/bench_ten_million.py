"""Ten million rows by 30 columns through recipe and LightGBM: time, and the memory of all processes.

`python benchmarks/bench_ten_million.py [--rows 10_000_000] [--limit 14GiB] [--rounds 100] [--folder DIR]`

A table of numbers, counts, categories and a date, with gaps, is written as Parquet in parts. Then a
process of its own does what `lw.train` does with it: read, freeze, divide and profile the rows, and
train LightGBM in a job with a recipe of its own. Fifty times a second the private and shared memory of
that process and of all it started is added up (not pages of files, which the kernel drops when memory
is short); beyond `--limit` all of them are ended. Everything is deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
CHUNK_ROWS = 500_000
LOOP_FILE = """\
name: ten-million
problem: {target: y, task: regression, criteria: [{metric: rmse, at_most: 10}]}
data: {source: {kind: file, path: "source/*.parquet"}}
"""


def make_table(folder: Path, n_rows: int) -> int:
    """Write parts of half a million rows; return the bytes they would take in memory together."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(7)
    towns = [pl.Series(f"t{k}", [f"town{i}" for i in range(10 ** (k + 1))]) for k in range(3)]
    held = 0
    for part, start in enumerate(range(0, n_rows, CHUNK_ROWS)):
        n = min(CHUNK_ROWS, n_rows - start)
        numbers = rng.normal(size=(18, n))
        numbers[12:] = np.exp(numbers[12:])
        columns: dict[str, Any] = {f"number{i:02}": numbers[i] for i in range(18)}
        columns |= {f"count{i}": rng.poisson(3 + 5 * i, n) for i in range(4)}
        columns |= {f"flag{i}": rng.random(n) < 0.2 for i in range(2)}
        codes = [rng.integers(0, 10 ** (k + 1), n) for k in range(3)]
        columns |= {f"town{k}": towns[k][codes[k]] for k in range(3)}
        columns |= {"grade": rng.integers(1, 11, n)}
        columns |= {"at": np.datetime64("2020-01-01") + rng.integers(0, 1800, n).astype("m8[D]")}
        frame = pl.DataFrame(columns)
        gone = pl.Series(rng.random(n) < 0.05)
        y = numbers[0] + np.sin(3 * numbers[1]) + (numbers[2] > 0.5) * columns["grade"] / 5
        y += 0.3 * np.log(numbers[12]) + codes[1] / 100 + rng.normal(0, 0.5, n)
        frame = frame.with_columns(
            *(pl.when(~gone).then(pl.col(f"number0{i}")).alias(f"number0{i}") for i in (3, 4)),
            pl.Series("y", y),
        )
        held += int(frame.estimated_size())
        path = folder / f"part-{part:04}.parquet"
        frame.write_parquet(path, compression="zstd", compression_level=1)
    return held


def train_here(folder: Path, *, rounds: int, memory: str) -> dict[str, Any]:
    """Do what a user does, telling how long every step took."""
    import loopwright as lw
    from loopwright.train import read_result

    began = time.monotonic()
    steps: list[tuple[str, float]] = []

    def tell(news: Any) -> None:
        if news.state != "done":
            return
        steps.append((news.stage, time.monotonic() - began))
        print(f"  {steps[-1][1]:7.1f} s  {news.stage}: {news.summary}", flush=True)

    job = lw.train(
        folder / "loop.yaml",
        algorithm="lightgbm",
        hyperparameters={"rounds": rounds},
        cpus=float(os.cpu_count() or 1),
        memory=memory,
        time_limit="1 hour",
        home=folder / "home",
        on_news=tell,
    )
    result = read_result(job.job.folder)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "state": job.state,
        "rmse": job.figures["rmse"]["value"],
        "n_train": result.n_train,
        "n_features": result.n_features,
        "read_s": result.read_s,
        "recipe_s": result.recipe_s,
        "fit_s": result.fit_s,
        "export_s": result.export_s,
        "job_peak_mib": job.job.peak_memory_mib,
        "job_cpu_s": job.job.cpu_s,
        "client_cpu_s": usage.ru_utime + usage.ru_stime,
    }


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def used_bytes(pids: list[int]) -> int:
    """Return the anonymous and shared memory that processes hold together."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        held = [line.split()[1] for line in lines if line.startswith(("RssAnon", "RssShmem"))]
        total += sum(int(each) * 1024 for each in held)
    return total


def watched(command: list[str], limit: int, out: Path) -> tuple[dict[str, Any], int, bool]:
    """Run a command under a limit of its tree; return what it told, the peak, whether it was ended."""
    peak, shown, was_ended = 0, 0, False
    with out.open("w") as sink:
        process = subprocess.Popen(command, stdout=sink)
        while process.poll() is None:
            pids = tree(process.pid)
            used = used_bytes(pids)
            peak = max(peak, used)
            if used > limit:
                was_ended = True
                for pid in reversed(pids):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            lines = out.read_text().splitlines(keepends=True)
            for line in lines[shown:]:
                if line.startswith(" ") and line.endswith("\n"):
                    shown += 1
                    print(f"{line[:-1]}  [peak so far {peak / 2**30:.2f} GiB]", flush=True)
            time.sleep(0.02)
    said = out.read_text().splitlines()
    told = json.loads(said[-1]) if process.returncode == 0 else {}
    return told, peak, was_ended


def size_of(text: str) -> int:
    """Return bytes of text such as `14GiB`."""
    for unit, n_bytes in UNITS.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * n_bytes)
    raise argparse.ArgumentTypeError(f"{text!r} is no size; write 14GiB or 512MiB")


def main() -> int:
    """Make the table, train on it, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--limit", type=size_of, default=14 * 2**30)
    parser.add_argument("--folder", type=Path, help="where to put the table and the home")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        memory = f"{given.limit >> 20} MiB"
        print(json.dumps(train_here(given.folder, rounds=given.rounds, memory=memory)), flush=True)
        return 0
    folder = given.folder or Path(tempfile.mkdtemp(prefix="loopwright-ten-million-"))
    try:
        (folder / "source").mkdir(parents=True, exist_ok=True)
        (folder / "loop.yaml").write_text(LOOP_FILE)
        held = make_table(folder / "source", given.rows)
        print(
            f"{given.rows:,} rows x 30 columns, {held / 2**30:.2f} GiB in memory; limit "
            f"{given.limit / 2**30:.1f} GiB; {os.cpu_count()} cores",
            flush=True,
        )
        command = [sys.executable, __file__, "--here", "--folder", str(folder)]
        command += ["--rounds", str(given.rounds), "--limit", f"{given.limit / 2**20}MiB"]
        began = time.monotonic()
        told, peak, was_ended = watched(command, given.limit, folder / "said.txt")
        wall_s = time.monotonic() - began
        outcome = "beyond its limit" if was_ended else told.get("state", "failed")
        print(f"{outcome}: {wall_s:.1f} s, peak of all processes {peak / 2**30:.2f} GiB")
        for name, value in told.items():
            print(
                f"  {name:<14} {value:,.4g}"
                if isinstance(value, float)
                else f"  {name:<14} {value}"
            )
        return 0 if told.get("state") == "succeeded" else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
