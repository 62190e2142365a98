"""What a profile costs: beside one bare scan, and beside other profilers where they are installed.

`python benchmarks/bench_explore.py [ROWS ...]` takes other numbers of rows; `--large` profiles a
Parquet file of about 2 GB, read in passes, and shows the peak of memory. `--python PATH` names another
interpreter to look for the other profilers in.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

N_REPEATS = 3
PYCACHE = str(Path(tempfile.gettempdir()) / "loopwright-bench-pycache")

PRELUDE = """
import json, resource, sys, time
path = sys.argv[1]
def told(**more):
    u = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu_s": u.ru_utime + u.ru_stime, "rss_mb": u.ru_maxrss / 1024, **more}))
"""
# every tool does its whole work in a process of its own: start, read, describe, write a page
TOOLS = {
    "scan": """
import polars as pl
import polars.selectors as cs
number = cs.numeric()
f = pl.read_parquet(path)
f.select(
    pl.all().null_count().name.suffix("|null"), pl.all().n_unique().name.suffix("|distinct"),
    number.mean().name.suffix("|mean"), number.std().name.suffix("|sd"),
    number.min().name.suffix("|min"), number.max().name.suffix("|max"),
    number.skew().name.suffix("|skew"), number.kurtosis().name.suffix("|kurtosis"),
)
told()
""",
    "loopwright": """
import polars as pl
from loopwright.explore import profile, profile_page
found = profile(pl.read_parquet(path), target="y")
page = profile_page(found)
told(findings=len(found.findings))
""",
    "loopwright, in passes": """
import polars as pl
from loopwright.explore import profile, profile_page
found = profile(pl.scan_parquet(path), target="y")
page = profile_page(found)
told(findings=len(found.findings))
""",
    "ydata-profiling minimal": """
import pandas as pd
from ydata_profiling import ProfileReport
report = ProfileReport(pd.read_parquet(path), minimal=True, progress_bar=False)
page = report.to_html()
told(findings=len(report.get_description().alerts))
""",
    "skrub TableReport": """
import polars as pl
from skrub import TableReport
page = TableReport(pl.read_parquet(path), verbose=0).html()
told()
""",
}
MODULES = {"ydata-profiling minimal": "ydata_profiling", "skrub TableReport": "skrub"}

TABLE = """
import sys
import numpy as np, polars as pl, pyarrow.parquet as pq
path, n_rows, size = sys.argv[1], int(sys.argv[2]), 1_000_000
rng, writer = np.random.default_rng(7), None
words = np.array([f"word{i}" for i in range(3_000)])
for first in range(0, n_rows, size):
    n = min(size, n_rows - first)
    t = first + np.arange(n)
    c = {f"real{i}": rng.lognormal(size=n) * 10**i for i in range(8)}
    c |= {f"money{i}": rng.gamma(2, 100, n).round(2) for i in range(4)}
    c |= {f"count{i}": rng.poisson(3 + 5 * i, n) for i in range(4)}
    c |= {f"flag{i}": rng.random(n) < 0.2 for i in range(2)}
    c |= {f"town{i}": rng.choice(words[: 10 ** (i + 1)], n) for i in range(3)}
    c |= {"grade": rng.integers(1, 11, n), "zipcode": rng.integers(10_000, 10_500, n)}
    c |= {"level": rng.choice(["low", "medium", "high"], n), "same": np.full(n, "x")}
    c |= {"id": t, "email": np.char.add(np.char.add("u", t.astype(str)), "@example.com")}
    c |= {"at": np.datetime64("2020-01-01") + (t * 1_500 // n_rows).astype("timedelta64[D]")}
    c |= {"seen": np.datetime64("2024-01-01T00:00:00", "us") + rng.integers(0, 10**14, n)}
    c |= {"y": c["real0"] + rng.normal(size=n)}
    f = pl.DataFrame(c)
    gone = pl.Series(rng.random(n) < 0.05)
    f = f.with_columns(
        pl.when(~gone).then(pl.col(name)).alias(name) for name in ("money1", "money2", "town1")
    )
    batch = f.to_arrow(compat_level=pl.CompatLevel.oldest())
    writer = writer or pq.ParquetWriter(path, batch.schema, compression="zstd")
    writer.write_table(batch, row_group_size=200_000)
writer.close()
"""


def measured(script: str, *arguments: str, python: str = sys.executable) -> dict[str, float]:
    """Run a script in a process of its own and return what it tells of itself."""
    command = [python, "-W", "ignore", "-c", PRELUDE + script, *arguments]
    # compiled modules are kept, as they are where a tool has run before
    kept = {"MPLBACKEND": "agg", "PYTHONPYCACHEPREFIX": PYCACHE}
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | kept
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    told: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def has(module: str, python: str) -> bool:
    """Tell whether an interpreter has a module."""
    look = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", look], check=False).returncode == 0


def compare(n_rows: int, folder: Path, python: str) -> None:
    """Measure every tool on one table, interleaved, and print medians and ratios."""
    path = folder / f"{n_rows}.parquet"
    subprocess.run([sys.executable, "-c", TABLE, str(path), str(n_rows)], check=True)
    seen: dict[str, list[dict[str, float]]] = {}
    for turn in range(N_REPEATS):
        for tool, script in TOOLS.items():
            module = MODULES.get(tool)
            if module and not has(module, python):
                if turn == 0:
                    print(f"{tool}: not installed", flush=True)
                continue
            if module and turn and n_rows > 200_000:
                continue  # one turn of these takes a minute
            of = python if module else sys.executable
            seen.setdefault(tool, []).append(measured(script, str(path), python=of))
    ours = statistics.median(run["cpu_s"] for run in seen["loopwright"])
    bare = statistics.median(run["cpu_s"] for run in seen["scan"])
    print(f"\n{n_rows:,} rows x 30 columns ({path.stat().st_size / 1e6:,.0f} MB of Parquet)")
    for tool, runs in seen.items():
        cpu = statistics.median(run["cpu_s"] for run in runs)
        rss = statistics.median(run["rss_mb"] for run in runs)
        findings = f", {runs[0]['findings']} findings" if "findings" in runs[0] else ""
        print(
            f"  {tool:<24} {cpu:7.2f} CPU s ({cpu / bare:5.2f} x scan, {cpu / ours:5.2f} x ours), "
            f"peak {rss:6,.0f} MB{findings}",
            flush=True,
        )


def large(folder: Path, n_rows: int) -> None:
    """Profile a large file in passes and print what it took."""
    path = folder / "large.parquet"
    subprocess.run([sys.executable, "-c", TABLE, str(path), str(n_rows)], check=True)
    found = measured(TOOLS["loopwright, in passes"], str(path))
    print(
        f"{n_rows:,} rows x 30 columns ({path.stat().st_size / 1e6:,.0f} MB of Parquet), in passes: "
        f"{found['cpu_s']:.1f} CPU s, peak {found['rss_mb']:,.0f} MB"
    )


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--large-rows", type=int, default=19_000_000)
    parser.add_argument("--python", default=sys.executable)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if given.large:
            large(Path(name), given.large_rows)
            return
        for n_rows in given.rows:
            compare(n_rows, Path(name), given.python)


if __name__ == "__main__":
    main()
