"""The monitor's false alarms and delays beside Evidently, NannyML and a SageMaker-like rule; its cost.

    python benchmarks/bench_monitor.py --peers PEERS/bin/python --null 100 --year

prints, for real rows without any change, the share of windows with an alarm, and for changes of
several sizes the windows until the first one; then the CPU seconds of looking at a million rows of
30 columns, and the bytes that a window's state takes. `--peers` is a Python with `evidently` and
`nannyml` (and `statsmodels`, `pandas<3`, which they need); without it loopwright and the rule run
alone. `--year` watches 8,766 windows without change; `--order` the flights of a year as they flew.

The tables are looked for in `LOOPWRIGHT_DATASETS`, by default in `shared/datasets` beside this
repository.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from monitor_table import (
    DATASETS,
    TABLES,
    Stream,
    flights_in_order,
    null_rows,
    stream,
    tilted_rows,
    turned_rows,
)

from loopwright.monitor import (
    MonitorPlan,
    Reference,
    Timing,
    WatchState,
    acknowledge,
    build_reference,
    start_watch,
    watch,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = 250
_IN_ORDER = (
    "sched_dep_time",
    "dep_delay",
    "sched_arr_time",
    "carrier",
    "origin",
    "dest",
    "air_time",
    "distance",
    "hour",
    "minute",
)
_MOST_FOR_EVIDENTLY = 200_000  # rows; a million take it minutes
_MOST = 40  # windows after a change; later counts as missed
Flags = dict[str, list[bool]]


def main() -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--peers", default="", help="the Python of Evidently and NannyML")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--null", type=int, default=20, help="unchanged windows for all tools")
    parser.add_argument("--ks", type=float, nargs="*", default=[0.05, 0.1, 0.2])
    parser.add_argument("--turned", type=float, nargs="*", default=[0.05, 0.1])
    parser.add_argument("--tail", type=int, default=10, help="changed windows for the peers")
    parser.add_argument("--year", action="store_true", help="8,766 unchanged windows")
    parser.add_argument("--order", action="store_true", help="flights in the order of time")
    parser.add_argument("--cost", type=int, default=0, metavar="ROWS", help="CPU of so many rows")
    options = parser.parse_args()
    if not DATASETS.is_dir():
        print("The real tables are not here; nothing is measured.")
        return
    for name in options.tables:
        for seed in options.seeds:
            table = stream(name, seed)
            if options.null:
                alarms_and_delays(table, options, np.random.default_rng([seed, 1]))
            if options.year:
                a_year(table, np.random.default_rng([seed, 2]))
    if options.order:
        in_order()
    if options.cost:
        cost(options.cost, options.peers)


def alarms_and_delays(table: Stream, options: Any, rng: np.random.Generator) -> None:
    """Print false alarms and delays of every tool on the same windows."""
    unchanged = null_rows(table, options.null * WINDOW, rng)
    changed = {f"KS {ks}": tilted_rows(table, _MOST * WINDOW, ks, rng) for ks in options.ks}
    changed |= {
        f"{s:.0%} turned": turned_rows(table, _MOST * WINDOW, s, rng) for s in options.turned
    }
    print(f"\n{table.name}, {len(table.inputs)} columns and the score, windows of {WINDOW} rows")
    began = time.process_time()
    reference = reference_of(table)
    print(f"  reference built in {time.process_time() - began:.2f} CPU s")
    state = started(reference)
    n_false, state, _ = watched(reference, state, unchanged)
    ours = {label: delay_of(reference, state, rows) for label, rows in changed.items()}
    _row("loopwright", n_false / options.null, ours)
    of_rules = {label: _rule(table, rows) for label, rows in changed.items()}
    for rule, flags in _rule(table, unchanged).items():
        _row(rule, np.mean(flags), {k: _first(f[rule]) for k, f in of_rules.items()})
    if options.peers:
        _peers(table, options, unchanged, changed)


def reference_of(table: Stream, **more: Any) -> Reference:
    """Return the monitor's reference of a table, with its losses."""
    return build_reference(
        table.reference.select(table.inputs),
        table.reference["score"].to_numpy(),
        losses(table.reference),
        table.kinds(),
        **more,
    )


def losses(rows: pl.DataFrame) -> npt.NDArray[np.float64]:
    """Return the Brier loss of each row."""
    return np.asarray(((rows["score"] - rows["truth"]) ** 2).to_numpy(), dtype=np.float64)


def started(reference: Reference) -> WatchState:
    """Return the monitor as it starts by default."""
    return start_watch(reference, MonitorPlan(), version="1")


def watched(
    reference: Reference, state: WatchState, rows: pl.DataFrame, *, from_hour: int = 0
) -> tuple[int, WatchState, Any]:
    """Show the monitor some rows, a window an hour; return how often it was wrong, and its state."""
    n_before = state.data.detector.n_episodes + state.error.detector.n_episodes
    at = pl.datetime_range(
        START + timedelta(hours=from_hour),
        START + timedelta(hours=from_hour + rows.height / WINDOW),
        interval=timedelta(hours=1) / WINDOW,
        closed="left",
        eager=True,
    )
    predictions = _predictions(rows, at, rows["score"])
    state, report = watch(
        reference,
        state,
        predictions,
        inputs=rows.drop("score", "truth"),
        losses=predictions.select("at", loss=pl.Series(losses(rows))),
    )
    n_after = state.data.detector.n_episodes + state.error.detector.n_episodes
    return n_after - n_before, state, report


def delay_of(reference: Reference, state: WatchState, rows: pl.DataFrame) -> int | None:
    """Return the windows until the first alarm after a change; None if none of `_MOST` does."""
    for number in range(_MOST):
        part = rows[number * WINDOW : (number + 1) * WINDOW]
        alarms, state, _ = watched(reference, state, part, from_hour=100_000 + number)
        if alarms:
            return number + 1
    return None


def a_year(table: Stream, rng: np.random.Generator) -> None:
    """Print the false alarms of a year of unchanged windows, one an hour."""
    reference, n = reference_of(table), 8_766
    state, alarms, faults = started(reference), 0, 0
    for first in range(0, n, 100):
        some = min(100, n - first)
        rows = null_rows(table, some * WINDOW, rng)
        n_false, state, report = watched(reference, state, rows, from_hour=first)
        alarms, faults = alarms + n_false, faults + bool(report.findings)
    print(
        f"{table.name}, a year: {alarms} alarms in {n:,} unchanged windows "
        f"({100 * alarms / n:.3f} per 100), {faults} looks of {n // 100 + 1} with a fault"
    )


def in_order() -> None:
    """Print the alarms on flights as they flew, with the first 60 days as the reference.

    A change that stays for 28 days counts as the new normal.
    """
    frame = flights_in_order().with_columns(pl.col("truth").cast(pl.Float64))
    day = frame["at"].dt.ordinal_day()
    before, after = frame.filter(day <= 60), frame.filter(day > 60)
    kinds = {c: "number" if before.schema[c].is_numeric() else "category" for c in _IN_ORDER}
    for season in ("none", "auto"):
        times = Timing(at=before["at"], answers_at=before["at"]) if season == "auto" else None
        reference = build_reference(
            before.select(_IN_ORDER), before["dep_delay"].to_numpy(), None, kinds, times=times
        )
        state, alarms, open_days = started(reference), [], 0
        for (date,), rows in after.group_by(after["at"].dt.date().alias("d"), maintain_order=True):
            n_before = state.data.detector.n_episodes
            predictions = _predictions(rows, rows["at"], rows["dep_delay"])
            state, _ = watch(reference, state, predictions, inputs=rows.select(_IN_ORDER))
            open_days = open_days + 1 if state.data.alarm else 0
            if state.data.detector.n_episodes > n_before and state.data.alarm:
                alarms.append(f"{date:%m-%d} {state.data.alarm.stream} {state.data.alarm.movement}")
            if open_days == 28:
                state, open_days = acknowledge(reference, state, "data", new_normal=True), 0
        chosen = reference.season.kind if reference.season else "none"
        print(f"flights in order, season {season} ({chosen}): {len(alarms)} alarms in 305 days")
        print("  " + ", ".join(alarms))


def _predictions(rows: pl.DataFrame, at: pl.Series, values: pl.Series) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "inference_id": pl.int_range(rows.height, eager=True).cast(pl.String),
            "at": at.cast(pl.Datetime("us", "UTC")),
            "version": pl.repeat("1", rows.height, eager=True),
            "prediction": values,
        }
    )


def cost(n: int, peers: str) -> None:
    """Print the CPU seconds of drift over so many rows by 30 columns, and the size of the state."""
    rng = np.random.default_rng(0)
    columns = {f"n{k}": rng.lognormal(size=2 * n) for k in range(24)}
    columns |= {f"c{k}": rng.geometric(0.03 * (k + 1), 2 * n).clip(1, 200) for k in range(6)}
    frame = pl.DataFrame(columns).with_columns(pl.col("^c.*$").cast(pl.String))
    frame = frame.with_columns(score=pl.Series(rng.random(2 * n)), truth=pl.lit(0))
    table = Stream(name="made", reference=frame[:n], rows=frame[n:], tilted="n0")
    began = time.process_time()
    reference = reference_of(table)
    built = time.process_time()
    _, state, _ = watched(reference, started(reference), table.rows)
    ended = time.process_time()
    size = len(json.dumps(state.data.detector.to_json(), separators=(",", ":")))
    both, look = ended - began, ended - built
    print(
        f"\n{n:,} rows x 30 columns: reference {built - began:.2f}, look {ended - built:.2f} CPU s"
    )
    print(f"  state {size:,} bytes, reference {len(json.dumps(reference.to_json())):,} bytes")
    tools = ("evidently", "nannyml") if n <= _MOST_FOR_EVIDENTLY else ("nannyml",)
    for tool in tools if peers else ():
        one = table.rows.with_columns(window=pl.int_range(pl.len()) // (n // 10))
        if tool == "evidently":
            one = one.with_columns(window=0)
        found = _in_peer(peers, tool, table.reference, one.drop("truth"))
        print(
            f"  {tool}: {found['cpu_s']:.1f} CPU s, {found['cpu_s'] / look:.0f} times a look and "
            f"{found['cpu_s'] / both:.0f} times reference and look"
        )


def _peers(
    table: Stream, options: Any, unchanged: pl.DataFrame, changed: dict[str, pl.DataFrame]
) -> None:
    frames = {"": unchanged, **changed}
    parts, places, first = [], {}, 0
    for label, rows in frames.items():
        n = options.null if not label else options.tail
        number = pl.int_range(n * WINDOW, eager=True) // WINDOW + first
        parts.append(rows[: n * WINDOW].with_columns(window=number))
        places[label] = slice(first, first + n)
        first += n
    for tool in ("evidently", "nannyml"):
        found = _in_peer(options.peers, tool, table.reference, pl.concat(parts))
        for rule, flags in found["flags"].items():
            delays = {label: _first(flags[places[label]]) for label in changed}
            _row(f"{tool}: {rule}", np.mean(flags[places[""]]), delays)


def _in_peer(peers: str, tool: str, before: pl.DataFrame, windows: pl.DataFrame) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        before.write_parquet(Path(folder) / "reference.parquet")
        windows.write_parquet(Path(folder) / "windows.parquet")
        script = str(Path(__file__).with_name("monitor_peer.py"))
        done = subprocess.run([peers, script, tool, folder], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tool} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _rule(table: Stream, rows: pl.DataFrame) -> Flags:
    """SageMaker's rules: Deequ's L-infinity distances at 0.1, and accuracy below the baseline's."""
    simple, robust, quality = [], [], []
    usual = _accuracy(table.reference)
    n, m = WINDOW, table.reference.height
    excess = 1.8 * np.sqrt((n + m) / (n * m))
    watched_columns = [*table.inputs, "score"]
    before = {c: table.reference[c].drop_nulls() for c in watched_columns}
    sorted_before = {c: np.sort(v.to_numpy()) for c, v in before.items() if v.dtype.is_numeric()}
    for first in range(0, rows.height - WINDOW + 1, WINDOW):
        part = rows[first : first + WINDOW]
        far = max(_linf(before[c], sorted_before.get(c), part[c]) for c in watched_columns)
        simple.append(far > 0.1)
        robust.append(far - excess > 0.1)
        quality.append(_accuracy(part) < usual)
    return {
        "SageMaker rule, Simple 0.1": simple,
        "SageMaker rule, Robust 0.1": robust,
        "SageMaker rule, accuracy below the baseline": quality,
    }


def _linf(before: pl.Series, in_order: Any, now: pl.Series) -> float:
    now = now.drop_nulls()
    if not len(now) or not len(before):
        return 0.0
    if in_order is not None:
        live = np.sort(now.to_numpy())
        points = np.concatenate([live, in_order[:: max(len(in_order) // 1_000, 1)]])
        f = np.searchsorted(in_order, points, side="right") / len(in_order)
        g = np.searchsorted(live, points, side="right") / len(live)
        return float(np.abs(f - g).max())
    shares = [dict(zip(*s.value_counts(normalize=True), strict=True)) for s in (before, now)]
    return max(abs(shares[0].get(k, 0) - shares[1].get(k, 0)) for k in shares[0] | shares[1])


def _accuracy(rows: pl.DataFrame) -> float:
    return float(((rows["score"] > 0.5).cast(pl.Int64) == rows["truth"]).mean() or 0)


def _first(flags: list[bool]) -> int | None:
    return next((number + 1 for number, flag in enumerate(flags) if flag), None)


def _row(tool: str, share: Any, delays: dict[str, int | None]) -> None:
    told = "  ".join(f"{label}: {n or 'missed'}" for label, n in delays.items())
    print(f"  {tool:46} {100 * float(share):6.2f} per 100   {told}", flush=True)


if __name__ == "__main__":
    main()
