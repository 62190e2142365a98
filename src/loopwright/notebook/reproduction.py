"""`loopwright.reproduce`: old results done again from their records, and whether the same came out."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.compute import Job
from loopwright.core.errors import LoopwrightError, NotFoundError
from loopwright.core.lazy import LazyModule
from loopwright.loop import Workspace
from loopwright.loop.experiment import jobs_named
from loopwright.notebook.comparison import ComparedWhat, existing, main_metric, names_of
from loopwright.notebook.job_keeping import rerun
from loopwright.tune.comparison import value_of
from loopwright.tune.entry import Entry, entries_of, find_entry

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_ANSWERS_FILE = "validation.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduced:
    """A result that was done again.

    Parameters
    ----------
    job, name
        Of the first time.
    again
        The job of the second time; empty if it could not be done again.
    is_same
        Whether the models and their answers are equal, bit for bit.
    largest_difference
        Between the answers to the validation rows; none where they cannot be compared.
    metric, before, now
        The usual metric of the task, then and now.
    reason
        The first difference, or why it could not be done again.
    changed
        Code, packages and hardware that are not as they were.
    """

    job: str
    name: str
    again: str = ""
    is_same: bool = False
    largest_difference: float | None = None
    metric: str | None = None
    before: float | None = None
    now: float | None = None
    reason: str = ""
    changed: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON types."""
        return {
            name: list(value) if isinstance(value := getattr(self, name), tuple) else value
            for name in self.__slots__
        }


class Reproduction:
    """Results that were done again, with a display for notebooks; `results` holds the values."""

    def __init__(self, results: Iterable[Reproduced]) -> None:
        self.results = tuple(results)

    @property
    def is_same(self) -> bool:
        """Whether every one of them came out the same, bit for bit."""
        return all(each.is_same for each in self.results)

    @property
    def frame(self) -> pl.DataFrame:
        """One line a job."""
        rows = [{**each.to_json(), "changed": "; ".join(each.changed)} for each in self.results]
        return pl.DataFrame(rows, infer_schema_length=None)

    def lines(self) -> list[str]:
        """Return what came out, in words."""
        return [told(each) for each in self.results]

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in self.lines()) + "</ul>"


def reproduce(
    what: ComparedWhat,
    *,
    best_only: bool = False,
    home: str | Path | None = None,
    on_change: Callable[[Job], None] | None = None,
) -> Reproduction:
    """Do old results again from their records, and tell whether the same came out.

    Every job that succeeded is run once more, from the same files, settings and seed. Of an `auto`
    job, whose search depends on the time, exactly that is fitted again which its model is made of.

    Parameters
    ----------
    what
        Jobs, experiments, studies (`study/NAME`) and rounds (`house-prices/3`), one or several.
    best_only
        Only the best of them, by the usual metric of its task.
    on_change
        Told when a job changes its state.

    Raises
    ------
    NotFoundError
        If a name stands for nothing, or for no job that succeeded.

    Examples
    --------
    >>> import loopwright as lw
    >>> lw.reproduce("study/houses-lightgbm-1f2e3d4c", best_only=True)  # doctest: +SKIP
    """
    workspace = existing(home)
    entries = list(_succeeded(workspace, names_of(what)))
    if best_only:
        from loopwright.tune.comparison import compared_jobs

        entries = list(compared_jobs(entries).entries[:1])
    return Reproduction([_reproduced(workspace, each, on_change) for each in entries])


def _succeeded(workspace: Workspace, names: Iterable[str]) -> Iterator[Entry]:
    jobs = [job for name in names for job in jobs_named(workspace, name)]
    found = [
        each
        for each in entries_of(workspace.metadata, workspace.compute, jobs)
        if each.state == "succeeded"
    ]
    if not found:
        raise NotFoundError(
            f"None of the {len(jobs)} jobs succeeded, so there is nothing to do again.",
            hint="`loopwright jobs` lists the jobs and their states.",
            kind="job",
            name=", ".join(names),
        )
    yield from found


def _reproduced(
    workspace: Workspace, entry: Entry, on_change: Callable[[Job], None] | None
) -> Reproduced:
    metric, before = main_metric(entry)
    try:
        again = rerun(workspace, entry.job, on_change=on_change)
    except LoopwrightError as error:
        # one that cannot be done again says so, and the others are
        return Reproduced(
            job=entry.job, name=entry.name, metric=metric, before=before, reason=str(error)
        )
    now = find_entry(workspace.metadata, workspace.compute, again.second.id)
    return Reproduced(
        job=entry.job,
        name=entry.name,
        again=again.second.id,
        is_same=again.comparison.is_same,
        largest_difference=largest_difference(again.first.out, again.second.out),
        metric=metric,
        before=before,
        now=value_of(now, metric) if metric else None,
        reason=again.comparison.difference,
        changed=again.changed,
    )


def largest_difference(first: Path, second: Path) -> float | None:
    """Return by how much two jobs differ at most in a number they answered, or None."""
    try:
        one, other = (pl.read_parquet(folder / _ANSWERS_FILE) for folder in (first, second))
    except (OSError, pl.exceptions.PolarsError):
        return None
    if one.shape != other.shape or one.schema != other.schema:
        return None
    found = [0.0]
    for name, kind in one.schema.items():
        columns = [each[name] for each in (one, other)]
        if isinstance(kind, pl.List | pl.Array):
            columns = [column.explode() for column in columns]
        if columns[0].dtype.is_float() and len(columns[0]) == len(columns[1]):
            found.append(float((columns[0] - columns[1]).abs().max() or 0.0))  # type: ignore[arg-type]
    return max(found)


def told(each: Reproduced) -> str:
    """Return one line about a result that was done again."""
    if not each.again:
        return f"{each.name} ({each.job}): cannot be done again. {each.reason}"
    figure = ""
    if each.metric and each.before is not None and each.now is not None:
        figure = f"; {each.metric} {each.before:.6g} then, {each.now:.6g} now"
    if each.is_same:
        return f"{each.name} ({each.job}): the same, bit for bit{figure}"
    off = each.largest_difference
    answers = "" if off is None else f"; answers differ by at most {off:.3g}"
    why = f" (changed since: {', '.join(each.changed)})" if each.changed else ""
    return f"{each.name} ({each.job}): not the same: {each.reason}{answers}{figure}{why}"
