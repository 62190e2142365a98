"""The tables of the serving benchmark: medians over the rounds that were measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from serving_peer import BODIES

Rows = Sequence[dict[str, Any]]
_OWN, _ECHO = "loopwright", "echo"


def print_tables(rows: Rows, *, rate: float) -> None:
    """Print every table that something was measured for."""
    _print_load(_medians([row for row in rows if row["table"] == "load"]))
    title = f"One row at {rate:,.0f} requests a second; milliseconds from when each was due"
    _print_rate(_medians([row for row in rows if row["table"] == "rate"]), title)
    _print_start(_medians([row for row in rows if row["table"] == "start"]))
    _print_ways(_medians([row for row in rows if row["table"] == "ways"]))
    steps = _medians([row for row in rows if row["table"] == "steps"])
    cells = [[row["model"], row["step"], f"{row['own_us']:.1f}"] for row in steps]
    _print("A row in the process, without HTTP", ["model", "step", "CPU us"], cells)


def _medians(rows: Rows) -> list[dict[str, Any]]:
    """Return one row for each cell: texts and counts as they are, medians of the rest."""
    keys = ("server", "model", "size", "connections", "step")
    cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    found = []
    for cell, several in cells.items():
        told: dict[str, Any] = dict(zip(keys, cell, strict=True))
        good = [row for row in several if "failed" not in row]
        for name in {name for row in good for name in row} - {*keys, "table", "round"}:
            values = [row[name] for row in good if row.get(name) is not None]
            told[name] = statistics.median(values) if values else None
        told["failed"] = None if good else several[0]["failed"]
        found.append(told)
    return found


def _print_load(rows: Rows) -> None:
    heads = [*("model", "request", "connections", "server", "requests/s", "p50 ms", "p99 ms")]
    heads += ["CPU us own", "system's", "times the best peer", "of the echo"]
    cells = []
    order = {name: at for at, name in enumerate(dict.fromkeys(row["server"] for row in rows))}
    models = list(dict.fromkeys(row["model"] for row in rows))

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        return (models.index(row["model"]), row["size"], row["connections"], order[row["server"]])

    for row in sorted(rows, key=place):
        same = [each for each in rows if place(each)[:3] == place(row)[:3]]
        about = [row["model"], row["size"], str(row["connections"]), row["server"]]
        if row["failed"]:
            cells.append([*about, _failure(row)])
            continue
        best = max((each["rate"] for each in same if _is_peer(each)), default=None)
        bare = next((each["rate"] for each in same if each["server"] == _ECHO), None)
        is_own = row["server"].startswith(_OWN)
        cells.append(
            [
                *about,
                f"{row['rate']:,.0f}",
                f"{row['p50_ms']:.2f}",
                f"{row['p99_ms']:.2f}",
                f"{row['own_us']:,.0f}",
                f"{row['system_us']:,.0f}",
                f"{row['rate'] / best:,.0f}" if best and is_own else "",
                f"{row['rate'] / bare:.2f}" if bare and is_own else "",
            ]
        )
    _print("As fast as answers come", heads, cells)


def _failure(row: dict[str, Any]) -> str:
    return f"failed: {' '.join(row['failed'].split())[:40]}"


def _is_peer(row: dict[str, Any]) -> bool:
    return row["server"] in BODIES and not row["failed"]


def _print_rate(rows: Rows, title: str) -> None:
    heads = ["model", "server", "answered/s", "p50 ms", "p99 ms", "of the echo's p99"]
    heads += ["CPU us own", "system's", "p99 sent late ms"]
    cells = []
    for row in rows:
        if row["failed"]:
            cells.append([row["model"], row["server"], _failure(row)])
            continue
        bare = [each for each in rows if each["server"] == _ECHO and not each["failed"]]
        same = next((each["p99_ms"] for each in bare if each["model"] == row["model"]), None)
        cells.append(
            [
                row["model"],
                row["server"],
                f"{row['rate']:,.0f}",
                f"{row['p50_ms']:.2f}",
                f"{row['p99_ms']:.2f}",
                f"{row['p99_ms'] / same:.2f}" if same else "",
                f"{row['own_us']:,.0f}",
                f"{row['system_us']:,.0f}",
                f"{row['lag_ms']:.2f}",
            ]
        )
    _print(title, heads, cells)


def _print_start(rows: Rows) -> None:
    heads = ["model", "server", "first answer s", "largest process MiB", "together MiB (PSS)"]
    heads += ["processes", "killed worker replaced s"]
    cells = [
        [
            row["model"],
            row["server"],
            f"{row['ready_s']:.2f}",
            f"{row['largest_mib']:.0f}",
            f"{row['together_mib']:.0f}",
            f"{row['n_processes']:.0f}",
            f"{row['again_s']:.2f}" if row.get("again_s") is not None else "",
        ]
        for row in rows
    ]
    _print("Start and memory", heads, cells)


def _print_ways(rows: Rows) -> None:
    heads = ["model", "way", "requests/s", "CPU us own", "system's", "CPU against `no capture`"]
    cells = []
    for row in rows:
        if row["failed"]:
            continue
        base = [each for each in rows if each["server"] == "no capture" and not each["failed"]]
        same = next((_cpu(each) for each in base if each["model"] == row["model"]), None)
        cells.append(
            [
                row["model"],
                row["server"],
                f"{row['rate']:,.0f}",
                f"{row['own_us']:,.0f}",
                f"{row['system_us']:,.0f}",
                f"{_cpu(row) / same:.2f}" if same else "",
            ]
        )
    _print("What it costs: one row, 16 connections", heads, cells)


def _cpu(row: dict[str, Any]) -> float:
    return float(row["own_us"] + row["system_us"])


def _print(title: str, heads: Sequence[str], cells: Iterable[Sequence[str]]) -> None:
    rows = [list(heads), *([*row, *[""] * (len(heads) - len(row))] for row in cells)]
    if len(rows) == 1:
        return
    widths = [max(len(row[at]) for row in rows) for at in range(len(heads))]
    print(f"\n## {title}\n")
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |")
        if not number:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
