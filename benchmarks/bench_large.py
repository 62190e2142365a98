"""A table several times larger than memory: snapshot, profile, recipe, fit and transform under a limit.

`python benchmarks/bench_large.py [--limit 2GiB] [--times 4] [--kind parquet|csv] [--folder DIR]`

A mixed table of 30 columns that takes `--times` the limit in memory is written to the disk in chunks;
then every stage runs in a process of its own. A watchdog reads the resident memory of the stage
(anonymous and shared, not pages of files, which the kernel drops when memory is short) fifty times a
second and kills it above the limit. `--hard` has the kernel refuse more private memory than the limit
as well (RLIMIT_DATA), which also counts what allocators set aside and never touch, often as much again.
Printed are seconds, CPU seconds, rows per second and the peak. Everything is deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
STAGES = ("snapshot", "profile", "suggest", "fit", "transform")
CHUNK_ROWS = 500_000
SAMPLE_PLACES, SAMPLE_ROWS = 25, 2_000


def make_table(folder: Path, kind: str, n_bytes: int) -> dict[str, float]:
    """Write parts of half a million rows until they would take `n_bytes` in memory together."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(7)
    words = [pl.Series(f"w{k}", [f"word{i}" for i in range(10 ** (k + 1))]) for k in range(3)]
    heads = pl.Series("h", [f"The customer asked about order {i} and" for i in range(400)])
    tails = pl.Series("t", [f"was told that part {i} would be sent." for i in range(400)])
    n_rows, held, on_disk = 0, 0, 0
    for part in range(10_000):
        n, t = CHUNK_ROWS, n_rows + np.arange(CHUNK_ROWS)
        columns: dict[str, Any] = {f"real{i}": rng.lognormal(size=n) * 10**i for i in range(6)}
        columns |= {f"money{i}": rng.gamma(2, 100, n).round(2) for i in range(4)}
        columns |= {f"count{i}": rng.poisson(3 + 5 * i, n) for i in range(3)}
        columns |= {f"flag{i}": rng.random(n) < 0.2 for i in range(2)}
        columns |= {f"town{k}": words[k][rng.integers(0, 10 ** (k + 1), n)] for k in range(3)}
        columns |= {"grade": rng.integers(1, 11, n), "zipcode": rng.integers(10_000, 10_500, n)}
        columns |= {"level": pl.Series(["low", "medium", "high"])[rng.integers(0, 3, n)]}
        columns |= {"same": pl.repeat("x", n, eager=True), "id": t}
        columns |= {"at": np.datetime64("2020-01-01") + (t // 40_000).astype("timedelta64[D]")}
        columns |= {"seen": np.datetime64("2024-01-01T00:00:00", "us") + rng.integers(0, 10**14, n)}
        frame = pl.DataFrame(columns).with_columns(
            pl.format("u{}@example.com", "id").alias("email"),
            pl.Series("remark", heads[rng.integers(0, 400, n)])
            + " "
            + pl.Series("x", tails[rng.integers(0, 400, n)]),
            pl.format("DE{}", pl.col("id") % 50_000 + 10**15).alias("account"),
            (pl.col("real0") * 2).alias("twice"),
            (pl.col("real0") + rng.normal(size=n)).alias("y"),
        )
        gone = pl.Series(rng.random(n) < 0.05)
        frame = frame.with_columns(
            pl.when(~gone).then(pl.col(name)).alias(name) for name in ("money1", "money2", "town1")
        )
        path = folder / f"part-{part:04}.{kind}"
        if kind == "csv":
            frame.write_csv(path)
        else:
            frame.write_parquet(path, compression="zstd", compression_level=1)
        n_rows, held = n_rows + n, held + int(frame.estimated_size())
        on_disk += path.stat().st_size
        if held >= n_bytes:
            break
    return {"n_rows": n_rows, "n_columns": frame.width, "held": held, "on_disk": on_disk}


def run_stage(stage: str, folder: Path, kind: str) -> dict[str, Any]:
    """Do one stage in this process, reading what the stage before left in the folder."""
    import polars as pl

    from loopwright.store.objects import ObjectArtifactStore

    artifacts = ObjectArtifactStore(folder / "store", cache=folder / "cache")
    record = folder / "snapshot.json"
    if stage == "snapshot":
        from loopwright.core.clock import SystemClock
        from loopwright.data import FileSource, open_source, take_snapshot

        source = open_source(FileSource(path=f"source/*.{kind}"), folder)
        taken = take_snapshot(source, artifacts=artifacts, clock=SystemClock(), folder=folder)
        record.write_text(json.dumps(taken.to_json()))
        return {"n_rows": taken.n_rows, "columns": len(taken.columns)}
    path = artifacts.local_path(json.loads(record.read_text())["digest"])
    if stage == "profile":
        from loopwright.explore import profile, profile_page

        found = profile(pl.scan_parquet(path), target="y")
        (folder / "profile.json").write_text(json.dumps(found.to_json()))
        (folder / "profile.html").write_text(profile_page(found), encoding="utf-8")
        return {"findings": len(found.findings), "duplicates": found.n_duplicate_rows}
    if stage == "suggest":
        from loopwright.prepare import suggest

        columns = json.loads((folder / "profile.json").read_text())["columns"]
        kinds = {column["name"]: column["kind"] for column in columns}
        n_rows = int(pl.scan_parquet(path).select(pl.len()).collect().item())
        starts = range(0, n_rows, max(1, n_rows // SAMPLE_PLACES))
        parts = (pl.scan_parquet(path).slice(start, SAMPLE_ROWS).collect() for start in starts)
        sample = pl.concat(parts)
        recipe = suggest(sample, "y", "regression", family="scaled", kinds=kinds)
        (folder / "recipe.json").write_text(recipe.to_json())
        return {"steps": len(recipe.steps)}
    if stage == "fit":
        from loopwright.prepare import Recipe, fit_recipe_lazily

        recipe = Recipe.from_json((folder / "recipe.json").read_text())
        features = folder / "training.parquet"
        fitted = fit_recipe_lazily(recipe, path, "y", seed=7, features=features)
        (folder / "fitted.json").write_text(fitted.to_json())
        return {"features": len(fitted.feature_names)}
    from loopwright.prepare import FittedRecipe

    fitted = FittedRecipe.from_json((folder / "fitted.json").read_text())
    return {"n_rows": fitted.transform_file(path, folder / "features.parquet")}


def used_bytes(pid: int) -> int:
    """Return the anonymous and shared memory a process holds; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in lines if line.startswith(("RssAnon", "RssShmem")))
    return sum(int(value.split()[0]) * 1024 for value in fields.values())


def watched(stage: str, folder: Path, kind: str, limit: int, *, hard: bool) -> dict[str, Any]:
    """Run a stage in a process of its own under the limit and return what it took."""
    out = folder / f"{stage}.out"
    command = [sys.executable, __file__, "--here", stage, "--folder", str(folder)]
    command += ["--kind", kind]
    began = time.monotonic()

    def limited() -> None:
        if hard:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    with out.open("w") as sink:
        process = subprocess.Popen(command, stdout=sink, preexec_fn=limited)
        peak, killed = 0, False
        while process.poll() is None:
            peak = max(peak, used_bytes(process.pid))
            if peak > limit:
                process.kill()
                killed = True
            time.sleep(0.02)
    told = {"stage": stage, "seconds": time.monotonic() - began, "peak": peak, "killed": killed}
    text = out.read_text().strip()
    if process.returncode == 0 and text:
        told |= json.loads(text.splitlines()[-1])
    return told | {"ok": process.returncode == 0}


def size_of(text: str) -> int:
    """Return bytes of text such as `2GiB`."""
    for unit, n_bytes in UNITS.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * n_bytes)
    raise argparse.ArgumentTypeError(f"{text!r} is no size; write 2GiB or 512MiB")


def main() -> int:
    """Read the arguments, make the table, and run one stage after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=size_of, default=2 * 2**30)
    parser.add_argument("--times", type=float, default=4.0)
    parser.add_argument("--kind", choices=("parquet", "csv"), default="parquet")
    parser.add_argument("--folder", type=Path, help="where to put the table and what becomes of it")
    parser.add_argument("--keep", action="store_true", help="leave the folder, and use it again")
    parser.add_argument("--hard", action="store_true", help="RLIMIT_DATA besides the watchdog")
    parser.add_argument("--stage", choices=STAGES, action="append", help="run only these")
    parser.add_argument("--here", choices=STAGES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        told = run_stage(given.here, given.folder, given.kind)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        told |= {"cpu_s": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss * 1024}
        print(json.dumps(told))
        return 0
    folder = given.folder or Path(tempfile.mkdtemp(prefix="loopwright-large-"))
    try:
        return measured(given, folder)
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)


def measured(given: argparse.Namespace, folder: Path) -> int:
    """Make the table unless it is there, run the stages, print a line for each."""
    size = int(given.limit * given.times)
    (folder / "source").mkdir(parents=True, exist_ok=True)
    facts = folder / "table.json"
    if not facts.exists():
        free = shutil.disk_usage(folder).free
        if free < 4 * size:
            print(f"{folder} has {free >> 30} GiB free; {4 * size >> 30} GiB are wanted.")
            return 2
        facts.write_text(json.dumps(make_table(folder / "source", given.kind, size)))
    table = json.loads(facts.read_text())
    print(
        f"{table['n_rows']:,} rows x {table['n_columns']} columns: {table['held'] / 2**30:.2f} GiB in "
        f"memory, {table['on_disk'] / 2**30:.2f} GiB of {given.kind}; limit {given.limit / 2**30:.2f} "
        f"GiB, {'RLIMIT_DATA and watchdog' if given.hard else 'watchdog'}; {os.cpu_count()} cores",
        flush=True,
    )
    status = 0
    for stage in given.stage or STAGES:
        told = watched(stage, folder, given.kind, given.limit, hard=given.hard)
        more = {
            key: value
            for key, value in told.items()
            if key not in ("stage", "seconds", "peak", "killed", "ok", "cpu_s", "rss")
        }
        print(
            f"  {stage:<10} {'ok' if told['ok'] else 'KILLED' if told['killed'] else 'FAILED':<7}"
            f"{told['seconds']:8.1f} s {told.get('cpu_s', 0):8.1f} CPU s "
            f"{table['n_rows'] / told['seconds']:12,.0f} rows/s   peak {told['peak'] / 2**20:6,.0f} MiB"
            f" ({told.get('rss', 0) / 2**20:,.0f} with pages of files)  {more}",
            flush=True,
        )
        if not told["ok"]:
            status = 1
            break
    return status


if __name__ == "__main__":
    sys.exit(main())
