"""Jobs side by side on one page that needs no network, and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loopwright.explore.page import short
from loopwright.loop.comparison_chart import (
    HEIGHT,
    TALL,
    WIDE,
    WIDTH,
    bars,
    curves,
    parallel,
    scatter,
)
from loopwright.loop.experiment import Experiment
from loopwright.monitor.sheet import page_template, whole_page
from loopwright.tune.comparison import NONE, Change, JobComparison, shown
from loopwright.tune.entry import Entry

_MOST_COLUMNS = 14
_MOST_DETAILS = 60
_N_QUANTILES = 5
_N_BARS = 24


def comparison_page(
    comparison: JobComparison,
    *,
    title: str = "Jobs compared",
    experiments: Sequence[Experiment] = (),
) -> str:
    """Return one self-contained HTML page: table, front, coordinates, curves, importance.

    Everything that comes from jobs, data or people is escaped; the script in it sorts the table
    and picks out a job, and holds no data.

    Parameters
    ----------
    experiments
        What the jobs were run for; their hypotheses and conclusions stand above the table.
    """
    names = comparison.varying[:_MOST_COLUMNS]
    part = page_template("loopwright.loop", "comparison.html.j2").render(
        title=title,
        comparison=comparison,
        experiments=experiments,
        names=names,
        n_more_names=len(comparison.varying) - len(names),
        rows=[_row(comparison, n, entry, names) for n, entry in enumerate(comparison.entries)],
        scatter=scatter(comparison),
        parallel=parallel(comparison),
        curves=curves(comparison),
        importances=[(each, bars(each.shares)) for each in comparison.importances],
        details=[_details(n, entry) for n, entry in enumerate(comparison.entries[:_MOST_DETAILS])],
        width=WIDTH,
        height=HEIGHT,
        wide=WIDE,
        tall=TALL,
        step=max(1, -(-len(comparison.entries) // _N_QUANTILES)),
        short=short,
    )
    return whole_page(title, part)


def _row(comparison: JobComparison, n: int, entry: Entry, names: Sequence[str]) -> dict[str, Any]:
    latency = comparison.latencies.get(entry.job)
    return {
        "n": n,
        "entry": entry,
        "value": comparison.value(entry),
        "latency": latency,
        "is_front": entry.job in comparison.front,
        "cells": [_cell(entry, name) for name in names],
    }


def _cell(entry: Entry, name: str) -> tuple[str, str]:
    """Return what a cell shows and what it is sorted by."""
    if name not in entry.parameters:
        return "", ""
    value = entry.parameters[name]
    return shown(value)[:60], shown(value)


def _details(n: int, entry: Entry) -> dict[str, Any]:
    facts = [
        ("job", entry.job),
        ("submitted", entry.submitted_at[:19].replace("T", " ")),
        ("code", shown(entry.code)),
        ("hardware", shown({k: v for k, v in entry.hardware.items() if v not in ([], "")})),
        ("given", shown(entry.resources)),
        ("seed", shown(entry.seed)),
        *((name, digest) for name, digest in entry.data.items()),
        *((f"label {name}", value) for name, value in entry.labels.items()),
        ("reason", entry.reason),
    ]
    return {
        "n": n,
        "entry": entry,
        "facts": [(name, value) for name, value in facts if value],
        "parameters": [(name, shown(value)) for name, value in entry.parameters.items()],
        "quality": [(name, short(value)) for name, value in entry.quality.items()],
        "importance": bars(entry.importance),
        "n_trials": len(entry.trials),
    }


def comparison_lines(comparison: JobComparison) -> list[str]:
    """Return what is beside the table in a terminal: front, importance, differences, warnings."""
    lines = [f"! {warning}" for warning in comparison.warnings]
    if comparison.front:
        front = [entry for entry in comparison.entries if entry.job in comparison.front]
        lines += ["", f"Best {comparison.metric} for its latency:"]
        front.sort(key=lambda entry: comparison.latencies[entry.job].median_us)
        lines += [
            f"  {comparison.latencies[entry.job].median_us:10,.0f} µs  "
            f"{comparison.value(entry):.6g}  {entry.name}"
            for entry in front
        ]
    for each in comparison.importances:
        lines += ["", f"What mattered ({each.about}, {each.n_jobs} jobs, {each.method}):"]
        lines += [
            f"  {name:<24.24} {'█' * round(share * _N_BARS):<{_N_BARS}} {share:4.0%}"
            for name, share in each.shares[:8]
        ]
    if comparison.differences:
        first, second = comparison.entries
        lines += [
            "",
            f"What differs, {first.name} ({first.job[-8:]}) → {second.name} ({second.job[-8:]}):",
        ]
        told = [line for s, c in comparison.differences.items() for line in _told(s, c)]
        lines += told or ["  nothing that is on record"]
    return lines


def _told(section: str, changes: Sequence[Change]) -> list[str]:
    """Return what differs; names that only one of the jobs has, of which there are many, together."""
    both = [each for each in changes if section != "parameters" or NONE not in each[1:]]
    lines = [f"  {section:<10}  {name}: {before} → {after}" for name, before, after in both]
    for place, which in ((2, "first"), (1, "second")):
        names = [each[0] for each in changes if each not in both and each[place] == NONE]
        lines += [f"  {section:<10}  only of the {which}: {', '.join(names)}"] if names else []
    return lines
