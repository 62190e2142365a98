"""What `bench_auto.py` found, as tables of text: every cell, ranks, wins and losses, time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from automl_table import METRIC, TABLES

OURS, PLAIN = "loopwright", "lightgbm"
_N_RESAMPLES, _CHUNK = 1_000, 20
_SEED = 7

Results = Sequence[dict[str, Any]]


def report(results: Results, answers: Path, *, tools: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the report: a part for each budget, and quality against time."""
    good = [each for each in results if "error" in each]
    budgets = sorted({each["budget"] for each in good if each["tool"] != PLAIN})
    for budget in budgets:
        cells = [e for e in good if e["budget"] == budget or e["tool"] == PLAIN]
        known = [tool for tool in tools if any(e["tool"] == tool for e in cells)]
        yield from _errors(cells, known, budget)
        yield from _against(cells, known, answers)
        yield from _times(cells, known, budget)
    if budgets:
        yield from _over_time(good, tools, budgets)
    yield from _failures(results)


def _mean_errors(cells: Results) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in cells:
        found[each["table"]][each["tool"]].append(each["error"])
    return {
        table: {tool: fmean(errors) for tool, errors in found[table].items()}
        for table in TABLES
        if table in found
    }


def ranks_of(cells: Results, tools: Sequence[str]) -> dict[str, float]:
    """Return each tool's mean rank over tables and seeds that all of them did; ties share theirs."""
    pairs: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for each in cells:
        pairs[each["table"], each["seed"]][each["tool"]] = each["error"]
    ranks: dict[str, list[float]] = defaultdict(list)
    for errors in pairs.values():
        if not all(tool in errors for tool in tools):
            continue
        for tool in tools:
            below = sum(errors[other] < errors[tool] for other in tools)
            same = sum(errors[other] == errors[tool] for other in tools)
            ranks[tool].append(below + (same + 1) / 2)
    return {tool: fmean(found) for tool, found in ranks.items()}


def _errors(cells: Results, tools: Sequence[str], budget: float) -> Iterator[str]:
    by_table = _mean_errors(cells)
    seeds = sorted({each["seed"] for each in cells})
    yield f"\n{budget:g} seconds: error on rows held out, mean over {len(seeds)} seed(s); less is better"
    yield "(regression: RMSE by the spread of the target; binary: 1 - AUC; multiclass: log loss)"
    yield _line("", ["rows", *tools])
    sizes = {each["table"]: each["n_rows"] for each in cells}
    for table, errors in by_table.items():
        best = min(errors.values())
        told = [
            f"{errors[t]:.5f}{'*' if errors[t] == best else ' '}" if t in errors else "- "
            for t in tools
        ]
        yield _line(table, [f"{sizes[table]:,}", *told])
    ranks = ranks_of(cells, tools)
    yield _line("mean rank", ["", *(f"{ranks[t]:.2f} " if t in ranks else "- " for t in tools)])


def _against(cells: Results, tools: Sequence[str], answers: Path) -> Iterator[str]:
    """Yield wins and losses against each other tool, by figures and beyond doubt."""
    if OURS not in tools:
        return
    yield f"\n{OURS} against      better  worse   beyond doubt: better  worse  (worse on)"
    for other in tools:
        if other == OURS:
            continue
        bounds = {
            table: found
            for table in TABLES
            if (found := difference_of(cells, answers, table, OURS, other)) is not None
        }
        wins = sum(mean < 0 for mean, _, _ in bounds.values())
        losses = sum(mean > 0 for mean, _, _ in bounds.values())
        clear = sum(high < 0 for _, _, high in bounds.values())
        worse = [table for table, (_, low, _) in bounds.items() if low > 0]
        told = ", ".join(worse) or "none"
        yield f"{other:22s}{wins:7d}{losses:7d}{clear:22d}{len(worse):7d}  ({told})"
    yield "(beyond doubt: 95% of 1,000 paired resamples of the rows held out)"


def difference_of(
    cells: Results, answers: Path, table: str, tool: str, other: str
) -> tuple[float, float, float] | None:
    """Return how much greater the error of a tool is than another's, with its 95% bounds.

    The rows held out are resampled in pairs (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993), for each seed by itself; the figure is the mean over seeds.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {tool: {}, other: {}}
    for each in cells:
        if each["table"] == table and each["tool"] in found:
            found[each["tool"]][each["seed"]] = each
    seeds = sorted(set(found[tool]) & set(found[other]))
    draws = [
        _paired(answers / found[tool][seed]["answers"], answers / found[other][seed]["answers"])
        for seed in seeds
        if found[tool][seed]["rows_digest"] == found[other][seed]["rows_digest"]
    ]
    if not draws:
        return None
    mean = fmean(found[tool][seed]["error"] - found[other][seed]["error"] for seed in seeds)
    low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975])
    return mean, float(low), float(high)


def _paired(first: Path, second: Path) -> Any:
    """Return the difference of two errors on resamples of the rows that both answered."""
    return _resampled(first) - _resampled(second)


@cache
def _resampled(path: Path) -> Any:
    """Return the error on 1,000 resamples, which are the same for all that answered the rows."""
    from loopwright.problem import class_answers, metric_named, value_answers

    with np.load(path) as kept:
        y, raw, spread = kept["y"], kept["raw"], float(kept["spread"])
    task = "multiclass" if raw.ndim == 2 else "binary" if set(np.unique(y)) <= {0, 1} else ""
    metric = metric_named(METRIC[task or "regression"])
    said = class_answers(raw, threshold=0.5) if task else value_answers(raw)
    rng = np.random.default_rng(_SEED)
    shares = np.full(len(y), 1 / len(y))
    found = [
        metric.resampled(y, said, rng.multinomial(len(y), shares, size=_CHUNK).astype(float))
        for _ in range(_N_RESAMPLES // _CHUNK)
    ]
    values = np.concatenate(found)
    return 1 - values if task == "binary" else values / (1.0 if task else spread)


def _times(cells: Results, tools: Sequence[str], budget: float) -> Iterator[str]:
    yield "\n" + _line("medians over tables", tools)
    of = {tool: [each for each in cells if each["tool"] == tool] for tool in tools}
    for label, key, digits in (
        ("fit, seconds", "fit_s", 1),
        ("fit, CPU seconds", "cpu_s", 1),
        ("one row alone, us", "us_single", 0),
        ("a row of 1,000, us", "us_per_row", 1),
        ("peak memory, MiB", "peak_mib", 0),
    ):
        told = [f"{median(e[key] for e in of[t]):,.{digits}f}" for t in tools]
        yield _line(label, told)
    yield _line("longest fit, seconds", [f"{max(e['fit_s'] for e in of[t]):,.1f}" for t in tools])
    over = [str(sum(e["fit_s"] > budget for e in of[t])) for t in tools]
    yield _line("fits beyond the budget", over)


def _over_time(good: Results, tools: Sequence[str], budgets: Sequence[float]) -> Iterator[str]:
    """Yield each tool's error as a share of plain LightGBM's, by budget, over the same tables."""
    plain = {(e["table"], e["seed"]): e["error"] for e in good if e["tool"] == PLAIN}
    shares: dict[str, dict[float, dict[tuple[str, int], float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for each in good:
        cell = each["table"], each["seed"]
        if each["tool"] != PLAIN and cell in plain:
            shares[each["tool"]][each["budget"]][cell] = each["error"] / plain[cell]
    yield "\nquality against time: error as a share of plain LightGBM's, geometric mean"
    yield "(over the tables and seeds that a tool did in every one of its budgets)"
    yield _line("", [f"{budget:g} s" for budget in budgets])
    for tool in tools:
        by_budget = shares.get(tool)
        if not by_budget:
            continue
        shared = set.intersection(*(set(cells) for cells in by_budget.values()))
        told = [
            f"{np.exp(fmean(np.log(by_budget[b][cell]) for cell in shared)):.4f}"
            if b in by_budget and shared
            else "-"
            for b in budgets
        ]
        yield _line(f"{tool} ({len(shared)})", told)


def _failures(results: Results) -> Iterator[str]:
    failed = [each for each in results if "failed" in each]
    if failed:
        yield "\nfailed:"
    for each in failed:
        yield (
            f"  {each['tool']} on {each['table']}, seed {each['seed']}, {each['budget']:g} s: "
            f"{each['failed'].strip().splitlines()[-1][:160] if each['failed'].strip() else '?'}"
        )


def _line(label: str, cells: Sequence[str]) -> str:
    return f"{label:25.25s}" + "".join(f"{cell:>18s}" for cell in cells)
