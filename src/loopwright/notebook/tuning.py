"""`loopwright.tune`: the hyperparameters of one algorithm, searched by jobs."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.loop import StepNews
from loopwright.loop.recipe_choice import split_settings
from loopwright.loop.tuning import Tuning
from loopwright.notebook.session import Loop
from loopwright.notebook.training import DEFAULT_ALGORITHM, read_data, settings_of
from loopwright.tune import TrialRecord, TunePlan
from loopwright.tune.space import Values
from loopwright.wiring import compute_capacity, find_workspace, open_workspace

if TYPE_CHECKING:
    import polars as pl

OnTrial = Callable[[TrialRecord, TrialRecord | None], None]
_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TuningResult:
    """What a search over hyperparameters found; shows itself as a table in a notebook."""

    found: Tuning

    @property
    def name(self) -> str:
        """The name of the study among the experiments: `study/...`."""
        return f"study/{self.found.study}"

    @property
    def best(self) -> dict[str, Any]:
        """The best hyperparameters, as `train.hyperparameters` of a loop file takes them."""
        return split_settings(self.found.best.hyperparameters)[0]

    @property
    def recipe(self) -> dict[str, str]:
        """The best choices about the recipe, as `train.recipe` takes them; empty if none were tried."""
        return split_settings(self.found.best.hyperparameters)[1]

    @property
    def value(self) -> float:
        """The metric of the best trial on the validation rows."""
        value = self.found.best.value
        assert value is not None  # noqa: S101 a trial that is done has one
        return value

    @property
    def trials(self) -> pl.DataFrame:
        """One row a trial, in the order of their beginning."""
        import polars as pl

        rows = [
            {
                "trial": trial.number,
                "state": trial.state.value,
                self.found.metric: trial.value,
                **trial.hyperparameters,
                "seconds": trial.seconds,
                "origin": trial.origin,
                "job": trial.job,
                "reason": trial.reason,
            }
            for trial in self.found.trials
        ]
        return pl.DataFrame(rows, infer_schema_length=None)

    def ranked(self) -> list[TrialRecord]:
        """Return the trials that are done, the best first."""
        sign = -1.0 if self.found.higher_is_better else 1.0
        done = [trial for trial in self.found.trials if trial.value is not None]
        return sorted(done, key=lambda trial: (sign * (trial.value or 0.0), trial.number))

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON types."""
        return {
            "study": self.found.study,
            "algorithm": self.found.algorithm,
            "metric": self.found.metric,
            "value": self.value,
            "hyperparameters": self.best,
            "recipe": self.recipe,
            "job": self.found.best.job,
            "cost": self.found.cost,
            "trials": [trial.to_json() for trial in self.found.trials],
        }

    def __repr__(self) -> str:
        found = self.found
        settings = ", ".join(f"{name} {shown(value)}" for name, value in self.best.items())
        n_trials = len(found.trials)
        return (
            f"<{self.name}: {n_trials} {'trial' if n_trials == 1 else 'trials'} of "
            f"{found.algorithm}; best {found.metric} {shown(self.value)} with {settings}>"
        )

    def _repr_html_(self) -> str:
        names = list(self.found.best.hyperparameters)
        head = "".join(
            f"<th>{html.escape(name)}</th>"
            for name in ("trial", self.found.metric, *names, "origin")
        )
        body = "".join(
            "<tr>"
            + "".join(
                f"<td>{html.escape(shown(value))}</td>"
                for value in (
                    trial.number,
                    trial.value,
                    *(trial.hyperparameters.get(name) for name in names),
                    trial.origin,
                )
            )
            + "</tr>"
            for trial in self.ranked()[:_SHOWN]
        )
        n_trials = len(self.found.trials)
        caption = f"{html.escape(self.found.study)}: the best of {n_trials} trials"
        return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead>{body}</table>"


def shown(value: object) -> str:
    """Return a value of a trial as people read it."""
    return f"{value:.5g}" if isinstance(value, float) else "" if value is None else str(value)


def tune(
    data: Loop | str | Path | Any,
    *,
    algorithm: str = DEFAULT_ALGORITHM,
    target: str | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    money: float | None = None,
    parallel: int | None = None,
    sampler: str | None = None,
    prune: bool | None = None,
    recipe: bool | None = None,
    space: Mapping[str, Values | Sequence[Any]] | None = None,
    name: str | None = None,
    home: str | Path | None = None,
    on_trial: OnTrial | None = None,
    on_news: Callable[[StepNews], None] | None = None,
) -> TuningResult:
    """Search the hyperparameters of an algorithm; every trial is a job, judged on validation rows.

    The same search of the same rows goes on where it was ended, also after a kill. What is not
    given here is taken from the `tune:` block of the loop file.

    Parameters
    ----------
    data
        A loop, its file, or a Polars or pandas table.
    algorithm
        What is trained, such as `xgboost`.
    target
        The column to learn, when `data` is a table.
    trials, minutes, money, parallel, sampler, prune, recipe
        See `TunePlan`.
    space
        By hyperparameter: `[low, high]`, a list of values, or `Range(low=..., high=..., log=True)`.
    name
        Of the study; made of what is searched when absent.
    home
        The folder of the store; `LOOPWRIGHT_HOME`, else `.loopwright` in the working folder.
    on_trial
        Told about every trial that ended, and the best so far.
    on_news
        Told of every step before the first trial.

    Raises
    ------
    InvalidInputError
        If something given cannot be used; nothing was started.
    BackendError
        If every trial failed.

    Examples
    --------
    >>> import loopwright as lw
    >>> lw.tune("loop.yaml", algorithm="xgboost", trials=20).best  # doctest: +SKIP
    """
    from loopwright.loop.single import tune_single

    settings = settings_of(data, home)
    read = read_data(data, settings.home, target=target, name=None)
    plan = read.content.tune or TunePlan()
    given = {
        "trials": trials,
        "minutes": minutes,
        "money": money,
        "parallel": parallel,
        "sampler": sampler,
        "prune": prune,
        "recipe": recipe,
    }
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if space is not None:
        ranges = {key: list(v) if isinstance(v, tuple) else v for key, v in space.items()}
        changes["space"] = {**plan.space, algorithm: ranges}
    found = tune_single(
        read,
        algorithm=algorithm,
        plan=msgspec.convert(
            {**msgspec.to_builtins(plan), **msgspec.to_builtins(changes)}, type=TunePlan
        ),
        name=name,
        on_trial=on_trial,
        home=settings.home,
        find_workspace=lambda: find_workspace(settings),
        open_workspace=lambda: open_workspace(settings),
        capacity=compute_capacity(settings),
        on_news=on_news or _silent,
    )
    return TuningResult(found=found)


def _silent(news: StepNews) -> None:
    """Show nothing."""
