"""The process of an `auto` job: searches within its time, and leaves the best model in `out/`.

`python -m loopwright.tune.worker`, started in the folder that `auto_job` describes. When it is told
to end (SIGTERM) it stops trying, writes the best model so far, and ends with 0.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

import msgspec

from loopwright.compute.workspace import CHECKPOINT_DIR
from loopwright.core.digest import digest_value
from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare import Recipe
from loopwright.problem import metric_named
from loopwright.train import TrainingResult
from loopwright.train.algorithm import TargetTransform
from loopwright.train.job import METRICS_FILE, OUT_FOLDER, TRAIN_FILE, VALIDATION_FILE
from loopwright.train.job_folder import Part, digests, import_libraries, read_part
from loopwright.train.worker import run_in
from loopwright.tune.auto import AutoModel, fit_auto
from loopwright.tune.background import Background
from loopwright.tune.ending import Ending
from loopwright.tune.fold import Fold, group_folds, n_folds_for, random_folds, time_folds
from loopwright.tune.job import AUTO_FILE, AutoSpec, open_recipes, recipe_file
from loopwright.tune.kept_fit import KeptFits
from loopwright.tune.prepared import Table
from loopwright.tune.quick_model import constant_model, sampled_model
from loopwright.tune.replay import replayed
from loopwright.tune.single_model import single_model
from loopwright.tune.standby import Standby
from loopwright.tune.tried import Trial

if TYPE_CHECKING:
    import psutil
else:
    psutil = LazyModule("psutil")

# of the memory of the job, what prepared rows may take; the models and the libraries take the rest
_SHARE_OF_PREPARED = 0.35
_MIB = 1 << 20
# a search without any time left still gets so much
_LEAST_S = 0.5
# of the budget, what one model may take to learn from the blend
_DISTILL_SHARE, _MOST_DISTILL_S = 0.25, 120.0
_FEW_LESSONS_S, _LEAST_LESSON_S = 5.0, 0.5
# comparing two models and measuring how fast they answer
_COMPARING_S = 1.0
# renaming the files of a model that is finished, and ending
_DELIVERY_S, _MOST_LATE_S = 0.2, 1.0
# of what a job has to end after it was told to (`JobBackend.stop`), in which it still finishes a model
_GRACE_S = 7.0
# of the memory of the job, beyond which it ends before somebody ends it
_MOST_MEMORY = 0.95
_POLL_S, _LEAST_POLL_S = 0.2, 0.02
_OLDEST_START_S = 30.0
# the place of the start of the process among the fields after its name, see proc(5)
_STARTTIME = 19


def main(folder: Path | None = None) -> int:
    """Do the job in a folder, by default the present one, and return the exit code."""
    return run_in(folder or Path.cwd(), do_auto_job)


def do_auto_job(folder: Path) -> TrainingResult:
    """Search as `auto.json` in the folder says, and leave the model in `out/`.

    The search runs in a thread; this one watches the clock and the memory, and delivers the best
    finished model when either is used up.

    Raises
    ------
    InvalidInputError
        If the order or the rows cannot be used.
    BackendError
        If no model could be trained.
    """
    # starting Python is part of the budget too
    started = time.perf_counter() - _age_s()
    stopping: list[float] = []
    # the model so far is worth more than a quick end
    before = signal.signal(signal.SIGTERM, lambda *_: stopping.append(time.perf_counter()))
    try:
        spec = _order(folder)
        recipes = open_recipes(folder)
        (folder / OUT_FOLDER).mkdir(exist_ok=True)
        names = (AUTO_FILE, TRAIN_FILE, VALIDATION_FILE, *map(recipe_file, recipes))
        standby = Standby(folder=folder, started=started, names=names)
        work = _Work(
            spec=spec,
            folder=folder,
            recipes=recipes,
            standby=standby,
            started=started,
            stop=stopping,
        )
        future = Background().begin(work.do)
        why = _watched(future, work) if spec.replay is None else ""
        if not why:
            try:
                future.result()
            except Exception as error:
                # what the search has finished is worth more than what went wrong after it
                if not standby.has_searched:
                    raise
                why = (
                    f"the search ended with {type(error).__name__}: {error}; the best so far stays"
                )
        return standby.deliver(why=why)
    finally:
        # whoever still works for nobody is to end
        stopping.append(time.perf_counter())
        signal.signal(signal.SIGTERM, before)


def _watched(future: Future[None], work: _Work) -> str:
    """Wait for the search to end, and return why it had to be left if it did not."""
    late_s = 0.0
    while not future.done():
        now = time.perf_counter()
        # a busy machine wakes processes late, and so it will when the model is delivered
        end = work.end - _DELIVERY_S - min(_MOST_LATE_S, 2 * (late_s + work.standby.writing_s))
        why = "the time was up"
        if work.stop and work.stop[0] + _GRACE_S < end:
            end, why = work.stop[0] + _GRACE_S, "it was told to end"
        if work.standby.has_model:
            if now >= end:
                return f"{why} before a better model was finished"
            if _is_too_large(work.spec):
                return "the memory was used up before a better model was finished"
        pause = max(_LEAST_POLL_S, min(_POLL_S, end - now))
        _, going_on = wait([future], timeout=pause)
        if going_on:
            late_s = max(late_s, time.perf_counter() - now - pause)
    return ""


def _is_too_large(spec: AutoSpec) -> bool:
    """Return whether this process is about to be ended for its memory."""
    resident: int = psutil.Process().memory_info().rss
    return resident > _MOST_MEMORY * spec.memory_mib * _MIB


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Work:
    """The work of the job: reads, searches, and offers every model that is finished.

    Parameters
    ----------
    spec, folder, recipes
        The order.
    standby
        Where models are offered.
    started
        When the process began, on the clock of `time.perf_counter`.
    stop
        When the job was told to end; empty if it was not.
    """

    spec: AutoSpec
    folder: Path
    recipes: dict[str, Recipe]
    standby: Standby
    started: float
    stop: list[float]

    @property
    def end(self) -> float:
        """When the budget is used up, on the clock of `time.perf_counter`."""
        return self.started + self.spec.budget_s

    def do(self) -> None:
        """Do all of it."""
        spec, folder, standby = self.spec, self.folder, self.standby
        began = time.perf_counter()
        import_libraries("lightgbm")
        import_s = time.perf_counter() - began
        train = read_part(folder / TRAIN_FILE, spec.training)
        validation = read_part(folder / VALIDATION_FILE, spec.training)
        read_s = time.perf_counter() - began - import_s
        table = _table(spec, train, self.recipes)
        ending = Ending(
            spec=spec,
            train=train,
            validation=validation,
            target_transform=table.target_transform,
            searched_since=time.perf_counter(),
            import_s=import_s,
            read_s=read_s,
        )
        if spec.replay is None:
            self._offer_quick(table, ending)
        standby.read_inputs()
        with (folder / OUT_FOLDER / METRICS_FILE).open("w", buffering=1) as curve:
            model = self._searched(
                table,
                curve=curve,
                n_answers=len(validation.y),
                on_standby=lambda model: standby.offer(partial(ending.write_blend, model)),
            )
        began = time.perf_counter()
        standby.offer(partial(ending.write_blend, model))
        if spec.distill != "never":
            self._distil(model, ending, writing_s=time.perf_counter() - began)

    def _offer_quick(self, table: Table, ending: Ending) -> None:
        """Offer what takes no time: a constant, and a model of few rows."""
        remark = (
            f"the {self.spec.budget_s:g} s were over before the first fit of the search ended, "
            "so the model is only {}; give more time"
        )
        constant = constant_model(table)
        self.standby.offer(
            partial(ending.write_quick, constant),
            remark=remark.format("a constant, the same answer for every row"),
            is_quick=True,
        )
        sampled = sampled_model(table, self.spec.algorithms)
        if sampled is not None:
            self.standby.offer(
                partial(ending.write_quick, sampled),
                remark=remark.format(sampled.name),
                is_quick=True,
            )

    def _distil(self, model: AutoModel, ending: Ending, *, writing_s: float) -> None:
        """Let one model learn from the blend, if there is time to write it and compare both."""
        answers = ending.answers(model)
        left = self.end - _DELIVERY_S - time.perf_counter() - 1.5 * writing_s - _COMPARING_S
        if left < _LEAST_LESSON_S and self.spec.replay is None:
            print("there was no time left for a single model to learn from the blend", flush=True)
            return
        single = single_model(
            self.spec,
            model,
            ending.validation,
            answers,
            seconds=max(_LEAST_LESSON_S, left),
            is_stopped=lambda: bool(self.stop),
        )
        if single is not None:
            self.standby.offer(partial(ending.write_both, model, single))

    def _searched(
        self,
        table: Table,
        *,
        curve: TextIO,
        n_answers: int,
        on_standby: Callable[[AutoModel], None],
    ) -> AutoModel:
        spec, n_fits = self.spec, 0
        sign = -1 if metric_named(spec.metric).higher_is_better else 1

        def on_trial(trial: Trial, best: float | None) -> None:
            nonlocal n_fits
            n_fits += 1
            print(_line(trial, best, sign, time.perf_counter() - self.started), flush=True)
            if best is not None:
                entry = {"step": n_fits, "name": f"folds:{spec.metric}", "value": sign * best}
                curve.write(msgspec.json.encode(entry).decode() + "\n")

        memory_bytes = int(_SHARE_OF_PREPARED * spec.memory_mib * _MIB)
        if spec.replay is not None:
            return replayed(
                table,
                _divided(spec, table),
                spec.replay,
                cpus=spec.training.threads,
                memory_bytes=memory_bytes,
                only_last=spec.divide_by == "time",
            )
        folds = _divided(spec, table)
        fits = _kept_fits(spec, self.folder, self.recipes)
        left = self.end - _DELIVERY_S - time.perf_counter()
        if spec.distill != "never":
            left -= max(min(_MOST_DISTILL_S, _DISTILL_SHARE * left), min(_FEW_LESSONS_S, left / 2))
        return fit_auto(
            table,
            folds,
            metric=metric_named(spec.metric),
            budget_s=max(_LEAST_S, left),
            cpus=spec.training.threads,
            memory_bytes=memory_bytes,
            algorithms=spec.algorithms,
            max_trials=spec.max_trials,
            only_last=spec.divide_by == "time",
            n_answers=n_answers,
            limit_bytes=spec.memory_mib * _MIB,
            on_trial=on_trial,
            is_stopped=lambda: bool(self.stop),
            fits=fits,
            on_standby=on_standby,
        )


def _age_s() -> float:
    """Return how long this process has run, in seconds."""
    try:
        # psutil adds the time of boot, which the system tells in whole seconds
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began = int(fields[_STARTTIME]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - began
    except (OSError, AttributeError, ValueError, IndexError):
        age = time.time() - psutil.Process().create_time()
    # a process of someone else that calls this as a function, or a clock that was set
    return age if 0 <= age <= _OLDEST_START_S else 0.0


def _order(folder: Path) -> AutoSpec:
    try:
        return msgspec.json.decode((folder / AUTO_FILE).read_bytes(), type=AutoSpec)
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidInputError(
            f"The auto job in {str(folder)!r} cannot be read: {error}.",
            hint="Start it through `auto_job`.",
            field=AUTO_FILE,
        ) from error


def _table(spec: AutoSpec, train: Part, recipes: dict[str, Recipe]) -> Table:
    today = spec.training.today
    return Table(
        frame=train.frame,
        y=train.y,
        outcome=spec.training.outcome,
        recipes=recipes,
        weight=train.weight,
        today=date.fromisoformat(today) if today else None,
        seed=spec.training.seed,
        target_transform=_usable_transform(spec, train),
    )


def _usable_transform(spec: AutoSpec, train: Part) -> TargetTransform:
    wanted = spec.training.target_transform
    return wanted if wanted == "none" or float(train.y.min()) > 0 else "none"


def _kept_fits(spec: AutoSpec, folder: Path, recipes: Iterable[str]) -> KeptFits | None:
    """Return where fits are kept, for when the job is killed or a later one has more time."""
    own = os.environ.get(CHECKPOINT_DIR)
    if not own or spec.replay is not None:
        return None
    files = digests(folder, (TRAIN_FILE, *(recipe_file(each) for each in recipes)))
    about = [files, spec.training, spec.divide_by, spec.divide_column]
    earlier = Path(spec.earlier) if spec.earlier else None
    return KeptFits(search=digest_value(msgspec.to_builtins(about)), own=Path(own), earlier=earlier)


def _divided(spec: AutoSpec, table: Table) -> Sequence[Fold]:
    n_folds = n_folds_for(len(table))
    if spec.replay is not None:
        # what is done again with more rows has as many folds as before
        known = [int(fold) + 1 for trial in spec.replay.trials for fold in trial.stops]
        n_folds = max([n_folds, *known])
    if spec.divide_by == "random" or spec.divide_column not in table.frame.columns:
        return random_folds(
            table.frame, table.y, n_folds=n_folds, seed=table.seed, is_class=table.is_class
        )
    column = table.frame[spec.divide_column or ""]
    if spec.divide_by == "group":
        return group_folds(column, n_folds=max(2, min(n_folds, column.n_unique())), seed=table.seed)
    return time_folds(column, n_folds=n_folds)


def _line(trial: Trial, best: float | None, sign: int, seconds: float) -> str:
    name = trial.configuration.name
    if trial.failure:
        return f"{seconds:7.1f} s  {name}: failed, {trial.failure}"
    so_far = "" if best is None else f"; best blend {sign * best:.5g}"
    loss = "" if math.isinf(trial.first_loss) else f" {sign * trial.first_loss:.5g}"
    return f"{seconds:7.1f} s  {name}: fold {len(trial.models)},{loss} in {trial.seconds:.1f} s{so_far}"


def _end(code: int) -> NoReturn:
    """End the process at once: what fits that nobody waits for still do changes nothing."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _end(main())
