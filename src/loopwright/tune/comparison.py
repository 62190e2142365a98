"""Jobs side by side: their metric, their latency, what differs, and what made the difference."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.problem import METRICS
from loopwright.problem.metric import DEFAULT_METRIC
from loopwright.tune.entry import Entry
from loopwright.tune.importance import Importance, importances
from loopwright.tune.latency import Latency

MOST_JOBS = 500
NONE = "–"
"""Stands for what one of two jobs does not have."""
_LOSS = re.compile(r"(?i)loss|error|rmse|mae|mse|mape|perplexity|deviance|brier|logloss")
_GAIN = re.compile(r"(?i)acc|auc|f1|precision|recall|r2|score|reward|map\b|ndcg")

Change = tuple[str, str, str]
"""What differs: its name, how it is in the first, how in the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobComparison:
    """Jobs side by side.

    Parameters
    ----------
    entries
        The jobs, the best first; those without the metric last.
    metric
        What they are ranked by, on validation rows.
    higher_is_better
        Which way is better.
    latencies
        Of those jobs whose model was measured, by the job's id.
    front
        Jobs that no other beats in both quality and latency.
    importances
        What mattered, where there are enough jobs to tell.
    differences
        For two jobs: what differs from the first to the second of `entries`, by section.
    warnings
        Why the figures may not compare.
    """

    entries: tuple[Entry, ...]
    metric: str
    higher_is_better: bool
    latencies: Mapping[str, Latency]
    front: frozenset[str]
    importances: tuple[Importance, ...]
    differences: Mapping[str, tuple[Change, ...]]
    warnings: tuple[str, ...]

    def value(self, entry: Entry) -> float | None:
        """Return the metric of a job, or None."""
        return value_of(entry, self.metric)

    @property
    def varying(self) -> tuple[str, ...]:
        """The parameters that differ, those that do within an algorithm first."""
        return varying_parameters(self.entries)

    def rows(self) -> list[dict[str, Any]]:
        """Return one line a job, as JSON types: what is shown in tables."""
        return [
            {
                "job": entry.job,
                "name": entry.name,
                "algorithm": entry.algorithm,
                "state": entry.state,
                self.metric: self.value(entry),
                "latency_us": self._median_us(entry),
                "on_front": entry.job in self.front,
                "seconds": entry.seconds,
                "fit_s": entry.fit_s,
                "peak_memory_mib": entry.peak_memory_mib,
                **{
                    f"param.{name}": shown(entry.parameters[name])
                    for name in self.varying
                    if name in entry.parameters
                },
            }
            for entry in self.entries
        ]

    def _median_us(self, entry: Entry) -> float | None:
        found = self.latencies.get(entry.job)
        return found.median_us if found else None

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON types."""
        return {
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "jobs": self.rows(),
            "front": sorted(self.front),
            "importance": [
                {
                    "about": each.about,
                    "n_jobs": each.n_jobs,
                    "method": each.method,
                    "shares": dict(each.shares),
                }
                for each in self.importances
            ],
            "differences": {
                section: [list(change) for change in changes]
                for section, changes in self.differences.items()
            },
            "warnings": list(self.warnings),
        }


def compared_jobs(
    entries: Sequence[Entry],
    *,
    metric: str | None = None,
    latencies: Mapping[str, Latency] | None = None,
) -> JobComparison:
    """Return jobs side by side.

    Parameters
    ----------
    entries
        At least one and at most 500, each job once.
    metric
        What they are ranked by; by default the usual one of their task, else the first that most
        of them have.
    latencies
        By the job's id; see `loopwright.tune.latency.latencies`.

    Raises
    ------
    InvalidInputError
        If there are none or too many, or no job has the metric.
    """
    if not 1 <= len(entries) <= MOST_JOBS:
        raise InvalidInputError(
            f"{len(entries)} jobs cannot be compared.",
            hint=f"Name 1 to {MOST_JOBS} jobs, experiments or studies.",
            field="jobs",
            value=len(entries),
        )
    name = _metric(entries, metric)
    higher = _higher_is_better(name)
    measured = dict(latencies or {})
    ranked = sorted(entries, key=lambda entry: _rank(value_of(entry, name), higher))
    return JobComparison(
        entries=tuple(ranked),
        metric=name,
        higher_is_better=higher,
        latencies=measured,
        front=_front(ranked, name, higher, measured),
        importances=importances(
            [
                (entry.algorithm, entry.parameters, value)
                for entry in entries
                if (value := value_of(entry, name)) is not None
            ],
            higher_is_better=higher,
        ),
        differences=differences(*ranked) if len(ranked) == 2 else {},
        warnings=tuple(_warnings(entries, name, measured)),
    )


def value_of(entry: Entry, metric: str) -> float | None:
    """Return a metric of a job: on validation rows, else the last value that it told."""
    if metric in entry.quality:
        return entry.quality[metric]
    value = entry.metrics.get(metric, entry.metrics.get(f"validation:{metric}"))
    return value if value is not None and value == value else None


def _rank(value: float | None, higher: bool) -> tuple[bool, float]:
    return value is None, 0.0 if value is None else (-value if higher else value)


def _metric(entries: Sequence[Entry], given: str | None) -> str:
    counts: dict[str, int] = {}
    for entry in entries:
        for name in (*entry.quality, *entry.metrics):
            counts[name] = counts.get(name, 0) + 1
    if given is not None:
        if not any(value_of(entry, given) is not None for entry in entries):
            raise InvalidInputError(
                f"None of the {len(entries)} jobs has the metric {given!r}.",
                hint=did_you_mean(given, counts),
                field="metric",
                value=given,
            )
        return given
    usual = [DEFAULT_METRIC[entry.task] for entry in entries if entry.quality]
    if usual:
        return max(dict.fromkeys(usual), key=usual.count)
    if not counts:
        raise InvalidInputError(
            "None of the jobs has a metric yet.",
            hint="Wait for them, or compare others; `loopwright jobs` lists them.",
            field="jobs",
            value=[entry.job for entry in entries][:5],
        )
    return max(counts, key=lambda name: counts[name])


def _higher_is_better(metric: str) -> bool:
    name = metric.rpartition(":")[2]
    if name in METRICS:
        return METRICS[name].higher_is_better
    return _GAIN.search(name) is not None and _LOSS.search(name) is None


def _front(
    entries: Iterable[Entry], metric: str, higher: bool, latencies: Mapping[str, Latency]
) -> frozenset[str]:
    """Return the jobs that no other beats: none is as good in both and better in one."""
    known = [
        (entry.job, _rank(value, higher)[1], latencies[entry.job].median_us)
        for entry in entries
        if entry.job in latencies and (value := value_of(entry, metric)) is not None
    ]
    return frozenset(
        job
        for job, loss, time in known
        if not any(a <= loss and b <= time and (a < loss or b < time) for _, a, b in known)
    )


def _warnings(
    entries: Sequence[Entry], metric: str, latencies: Mapping[str, Latency]
) -> Iterable[str]:
    judged = [entry for entry in entries if value_of(entry, metric) is not None]
    rows = {entry.data.get("validation rows", "") for entry in judged} - {""}
    if len(rows) > 1:
        yield (
            f"The jobs were judged on {len(rows)} different sets of validation rows: their "
            f"{metric} does not compare."
        )
    if len({entry.target for entry in judged if entry.target}) > 1:
        yield "The jobs learnt different targets."
    known = metric.rpartition(":")[2]
    if known not in METRICS and not (_GAIN.search(known) or _LOSS.search(known)):
        yield f"It is not known whether more or less {metric} is better; less is taken as better."
    if len({each.cpu for each in latencies.values()}) > 1:
        yield "The latencies were measured on different processors."


def varying_parameters(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Return the parameters that differ between jobs, those that differ within an algorithm first."""
    groups: dict[str, dict[str, set[str]]] = {}
    together: dict[str, set[str]] = {}
    for entry in entries:
        for name, value in entry.parameters.items():
            groups.setdefault(name, {}).setdefault(entry.algorithm, set()).add(repr(value))
            together.setdefault(name, set()).add(repr(value))
    within = [n for n, group in groups.items() if any(len(each) > 1 for each in group.values())]
    between = [name for name, values in together.items() if len(values) > 1]
    return tuple(dict.fromkeys([*within, *between]))


def differences(first: Entry, second: Entry) -> dict[str, tuple[Change, ...]]:
    """Return what differs between two jobs, by section; sections without a difference are empty."""
    about = {
        "algorithm": (first.algorithm, second.algorithm),
        "target": (first.target, second.target),
        "seed": (first.seed, second.seed),
    }
    return {
        "job": tuple((name, shown(a), shown(b)) for name, (a, b) in about.items() if a != b),
        "parameters": changes(first.parameters, second.parameters),
        "recipe": changes(_steps(first), _steps(second)),
        "data": changes(first.data, second.data),
        "code": changes(first.code, second.code),
        "packages": changes(first.packages, second.packages),
        "resources": changes(first.resources, second.resources),
        "hardware": changes(first.hardware, second.hardware),
    }


def changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the names whose values differ, with both; `–` where one has none."""
    return tuple(
        (name, _or_none(first, name), _or_none(second, name))
        for name in sorted({*first, *second})
        if name not in first or name not in second or first[name] != second[name]
    )


def _or_none(values: Mapping[str, Any], name: str) -> str:
    return shown(values[name]) if name in values else NONE


def _steps(entry: Entry) -> dict[str, str]:
    """Return the steps of a recipe by name, numbered where a name comes again."""
    found: dict[str, str] = {}
    for name, columns, _ in entry.recipe:
        key, again = name, 2
        while key in found:
            key, again = f"{name} ({again})", again + 1
        # a step without columns takes whatever it is for
        found[key] = ", ".join(columns) or "all"
    return found


def shown(value: Any) -> str:
    """Return a value in few characters.

    Examples
    --------
    >>> [shown(x) for x in (0.1234567, 3, "deep", None, [1, 2], True)]
    ['0.123457', '3', 'deep', 'none', '1, 2', 'yes']
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(shown(each) for each in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown(each)}" for name, each in value.items())
    return str(value)
