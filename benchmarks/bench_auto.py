"""`auto` beside AutoGluon, FLAML and plain LightGBM: quality on real tables in the same seconds.

    python benchmarks/bench_auto.py --peers PEERS/bin/python --budgets 60 300 --seeds 0 1 2 3 4

Every tool gets the same rows, processors and seconds, in a process of its own, one after the other,
table by table. `--peers` is a Python with `autogluon.tabular[lightgbm,xgboost,catboost]` and
`flaml[automl]`; without it, loopwright and LightGBM run alone. What came of a tool on a table is a
line in `--out`, written at once, and its answers lie in a folder beside; the same command goes on
where it was ended, and prints the tables of all that is there.

The tables are looked for in `LOOPWRIGHT_DATASETS`, by default in `shared/datasets` beside this
repository. Plain LightGBM takes the time it takes, once a seed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from automl_report import PLAIN, report
from automl_table import DATASETS, TABLES

TOOLS = ("lightgbm", "loopwright", "flaml", "autogluon-medium", "autogluon-good")
OF_PEERS = ("flaml", "autogluon-medium", "autogluon-good")
# more than this beyond its budget, and a tool is ended
_MOST_BUDGETS, _GRACE_S = 3, 180

Cell = tuple[str, str, int, float]
"""Tool, table, seed and seconds."""


def main() -> None:
    """Run what is asked for and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--peers", default="", help="the Python of the other tools")
    parser.add_argument("--budgets", type=float, nargs="+", default=[60.0], metavar="SECONDS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=TOOLS)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--out", default=str(Path(tempfile.gettempdir()) / "bench_auto.jsonl"))
    parser.add_argument("--again", action="store_true", help="also repeat what failed")
    parser.add_argument("--report", action="store_true", help="only print what is there")
    options = parser.parse_args()
    if not DATASETS.is_dir():
        print("The real tables are not here; nothing is measured.")
        return
    out = Path(options.out)
    answers = out.with_suffix(".answers")
    answers.mkdir(parents=True, exist_ok=True)
    results = known_results(out, again=options.again)
    if not options.report:
        run_missing(options, results, out, answers)
    wanted = [r for r in results if r["table"] in options.tables and r["tool"] in options.tools]
    print("\n".join(report(wanted, answers, tools=options.tools)))


def known_results(out: Path, *, again: bool) -> list[dict[str, Any]]:
    """Return what was measured before; a line that a kill cut short is left out."""
    found = []
    for line in out.read_text().splitlines() if out.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [each for each in found if not (again and "failed" in each)]


def run_missing(
    options: argparse.Namespace, results: list[dict[str, Any]], out: Path, answers: Path
) -> None:
    """Measure what is asked for and not there, and write each line at once."""
    done = {(r["tool"], r["table"], r["seed"], r["budget"]) for r in results}
    missing = [cell for cell in cells(options) if cell not in done]
    seconds = sum(cell[3] for cell in missing)
    print(f"{len(missing)} cells to do, {seconds / 60:.0f} minutes of budgets", flush=True)
    for n, cell in enumerate(missing, start=1):
        result = in_child(options.peers, cell, options.cores, answers)
        results.append(result)
        with out.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"[{n}/{len(missing)}] {told(result)}", flush=True)


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """Yield what to measure, the tools of one table one after the other."""
    tools = [tool for tool in options.tools if options.peers or tool not in OF_PEERS]
    for seed in options.seeds:
        for budget in options.budgets:
            for table in options.tables:
                for tool in tools:
                    if tool == PLAIN and budget != options.budgets[0]:
                        continue
                    yield tool, table, seed, 0.0 if tool == PLAIN else budget


def in_child(peers: str, cell: Cell, cores: int, answers: Path) -> dict[str, Any]:
    """Run one tool on one table in a process of its own, bound to so many processors."""
    tool, table, seed, budget = cell
    file = f"{tool}-{table}-{seed}-{budget:g}.npz"
    python = peers if tool in OF_PEERS else sys.executable
    script = Path(__file__).with_name("automl_tool.py")
    command = [python, str(script), tool, table, str(seed), str(budget), str(cores)]
    env = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "POLARS_MAX_THREADS": str(cores)}
    if tool == "loopwright":
        # as its jobs are started; see `threads_env`
        env |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    about = {"tool": tool, "table": table, "seed": seed, "budget": budget, "answers": file}
    clock = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        child = subprocess.Popen(
            [*command, str(answers / file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # what a tool writes goes with the folder
            env={**env, "TMPDIR": folder},
            start_new_session=True,
            preexec_fn=lambda: _bind(cores),
        )
        try:
            said, wrong = child.communicate(timeout=_MOST_BUDGETS * budget + _GRACE_S)
            found = json.loads(said.splitlines()[-1]) if child.returncode == 0 else None
        except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
            found, wrong = None, str(error)
        finally:
            _end_group(child)
    wall_s = time.perf_counter() - clock
    if found is None:
        return {
            **about,
            "failed": f"exit code {child.returncode}: {wrong[-400:]}",
            "wall_s": wall_s,
        }
    return {**about, **found, "wall_s": wall_s}


def _bind(cores: int) -> None:
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, usable[:cores])


def _end_group(child: subprocess.Popen[str]) -> None:
    """End what a tool may have left running: its own session, nothing else."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def told(result: dict[str, Any]) -> str:
    """Return one line about a result."""
    cell = f"{result['table']} seed {result['seed']} {result['budget']:g} s {result['tool']}"
    if "failed" in result:
        return f"{cell}: failed after {result['wall_s']:.0f} s: {result['failed'][-160:]!r}"
    return (
        f"{cell}: error {result['error']:.5f}, fit {result['fit_s']:.1f} s, "
        f"{result['us_single']:,.0f} us for one row, {result['us_per_row']:.1f} us for one of many"
    )


if __name__ == "__main__":
    main()
