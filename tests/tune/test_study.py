"""A study finds good settings, keeps every trial, and goes on where it was ended."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from loopwright.compute import InlineCompute, Job, JobSpec, LocalCompute
from loopwright.core.clock import SystemClock
from loopwright.core.digest import digest_value
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.store import MemoryMetadataStore
from loopwright.train import get_algorithm
from loopwright.tune.space import checked_space
from loopwright.tune.study import Study
from loopwright.tune.study_plan import StudyPlan
from loopwright.tune.trial import TrialRecord, TrialState

# the best answer is alpha = 0.01 and l1_ratio = 0.3
CODE = """
import json, math, os, sys
settings = json.loads(sys.argv[1])
value = (math.log10(settings["alpha"]) + 2) ** 2 + (settings["l1_ratio"] - 0.3) ** 2
os.makedirs("out", exist_ok=True)
open("out/value", "w").write(str(value))
"""


def order(code: str, time_limit_s: float | None = None) -> Callable[[Mapping[str, Any]], JobSpec]:
    def ordered(settings: Mapping[str, Any]) -> JobSpec:
        return JobSpec(
            key=f"test/{digest_value([code, dict(settings)])}",
            name="trial",
            kind="training",
            command=(sys.executable, "-I", "-S", "-c", code, json.dumps(dict(settings))),
            time_limit_s=time_limit_s,
        )

    return ordered


def judge(job: Job) -> float:
    return float((job.out / "value").read_text())


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Study]:
    """Return a function that makes a study over the same store and jobs each time."""
    metadata = MemoryMetadataStore(SystemClock())
    compute = InlineCompute(tmp_path / "jobs", SystemClock())

    def make(
        code: str = CODE,
        *,
        local: bool = False,
        time_limit_s: float | None = None,
        **changes: Any,
    ) -> Study:
        options: dict[str, Any] = {
            "name": "first",
            "algorithm": "linear-learner",
            "space": checked_space(get_algorithm("linear-learner"), None),
            "metric": "rmse",
            "higher_is_better": False,
            "n_trials": 6,
        }
        more = {k: changes.pop(k) for k in ("on_trial", "judge", "clock") if k in changes}
        return Study(
            plan=StudyPlan(**{**options, **changes}),
            metadata=metadata,
            compute=local_compute(tmp_path, metadata) if local else compute,
            order=order(code, time_limit_s),
            **{"judge": judge, **more},
        )

    return make


def local_compute(folder: Path, metadata: Any) -> LocalCompute:
    return LocalCompute(metadata, folder / "home", SystemClock())


MakeStudy = Callable[..., Study]


def test_the_search_comes_near_the_best_answer(make_study: MakeStudy) -> None:
    study = make_study(n_trials=40)

    trials = study.run()

    best = study.best()
    assert best is not None
    assert best.value is not None
    assert best.value < 0.1
    assert [trial.number for trial in trials] == list(range(40))
    # the sampler learns: the last trials lie nearer than the first, which are drawn at random
    early, late = (sorted(t.value or 9.0 for t in part) for part in (trials[:10], trials[-10:]))
    assert late[5] < early[5]


def test_the_same_seed_searches_the_same_way(make_study: MakeStudy) -> None:
    first = make_study(name="a", n_trials=15).run()
    second = make_study(name="b", n_trials=15).run()

    assert [t.hyperparameters for t in first] == [t.hyperparameters for t in second]


def test_guesses_are_tried_first_and_say_where_they_come_from(make_study: MakeStudy) -> None:
    guesses = (
        ("defaults", {"alpha": 1.0, "l1_ratio": 0.0}),
        ("earlier", {"alpha": 0.01, "l1_ratio": 0.3}),
    )

    study = make_study(guesses=guesses, n_trials=3)
    trials = study.run()

    assert [t.origin for t in trials] == ["defaults", "earlier", "search"]
    best = study.best()
    assert best is not None
    assert best.origin == "earlier"


def test_a_guess_outside_the_space_is_left_to_the_sampler_and_does_not_stop_a_second_run(
    make_study: MakeStudy,
) -> None:
    space = checked_space(
        get_algorithm("linear-learner"), {"alpha": [0.001, 0.1], "l1_ratio": [0.0, 1.0]}
    )
    guesses = (("defaults", {"alpha": 5.0, "l1_ratio": 0.5}),)

    first = make_study(space=space, guesses=guesses, n_trials=2).run()
    second = make_study(space=space, guesses=guesses, n_trials=3).run()

    assert first[0].hyperparameters["l1_ratio"] == 0.5
    assert all(0.001 <= t.hyperparameters["alpha"] <= 0.1 for t in second)
    assert len(second) == 3


def test_trials_that_an_interrupt_ended_are_trained_next_time(make_study: MakeStudy) -> None:
    code = CODE + "\nimport time; time.sleep(30)"
    times = iter([0.0] * 4)

    study = make_study(code, local=True, n_trials=1, seconds=9.0, clock=lambda: _ticking(times))
    with pytest.raises(KeyboardInterrupt):
        study.run()

    record = study.metadata.get("trial", "first/000000").body["trial"]
    assert (record["state"], record["job"]) == ("running", "")
    assert all(job.state.has_ended for job in study.compute.list_())


def _ticking(times: Any) -> float:
    try:
        return next(times)
    except StopIteration:
        raise KeyboardInterrupt from None


class _KilledError(Exception):
    """Stands for the end of the process."""


def test_a_study_that_was_killed_goes_on_without_training_anything_twice(
    make_study: MakeStudy,
) -> None:
    seen: list[int] = []

    def kill(trial: TrialRecord, best: TrialRecord | None) -> None:
        seen.append(trial.number)
        if len(seen) == 3:
            raise _KilledError

    with pytest.raises(_KilledError):
        make_study(on_trial=kill, n_trials=8).run()
    study = make_study(n_trials=8)
    trials = study.run()

    assert [t.number for t in trials] == list(range(8))
    assert len({json.dumps(dict(t.hyperparameters)) for t in trials}) == 8
    assert len(study.compute.list_()) == 8


@pytest.mark.parametrize("after", [1, 5, 12])
def test_a_study_that_was_killed_finds_what_an_undisturbed_one_finds(
    make_study: MakeStudy, after: int
) -> None:
    """Twelve trials: ten drawn at random, then some that TPE suggests."""
    guesses = (("defaults", {"alpha": 1.0, "l1_ratio": 0.0}),)
    undisturbed = make_study(name="undisturbed", guesses=guesses, n_trials=14).run()

    def kill(trial: TrialRecord, best: TrialRecord | None) -> None:
        if trial.number == after:
            raise _KilledError

    with pytest.raises(_KilledError):
        make_study(on_trial=kill, guesses=guesses, n_trials=14).run()
    trials = make_study(guesses=guesses, n_trials=14).run()

    def told(found: list[TrialRecord]) -> list[Any]:
        return [(t.number, t.hyperparameters, t.value, t.origin) for t in found]

    assert told(trials) == told(undisturbed)


def test_random_trials_do_not_depend_on_how_many_run_side_by_side(make_study: MakeStudy) -> None:
    one = make_study(name="one", sampler="random", n_trials=6).run()
    two = make_study(name="two", sampler="random", n_trials=6, parallel=3, local=True).run()

    assert [(t.hyperparameters, t.value) for t in one] == [
        (t.hyperparameters, t.value) for t in two
    ]


def test_a_job_that_was_ordered_but_not_noted_is_found_again(make_study: MakeStudy) -> None:
    first = make_study(n_trials=2)
    first.run()
    record = first.metadata.get("trial", "first/000001")
    body = {**record.body["trial"], "state": "running", "job": "", "value": None}
    first.metadata.put("trial", "first/000001", {**record.body, "trial": body})

    study = make_study(n_trials=2)
    trials = study.run()

    assert [t.state for t in trials] == [TrialState.DONE, TrialState.DONE]
    assert len(study.compute.list_()) == 2


def test_trials_that_fail_are_kept_with_their_reason(make_study: MakeStudy) -> None:
    code = CODE + "\nif settings['l1_ratio'] > 0.5: sys.exit('too sparse')"

    trials = make_study(code, n_trials=10).run()

    failed = [t for t in trials if t.hyperparameters["l1_ratio"] > 0.5]
    assert failed
    assert all(t.state is TrialState.FAILED and "too sparse" in t.reason for t in failed)
    assert {t.state for t in trials if t not in failed} == {TrialState.DONE}


def test_a_study_in_which_every_trial_fails_says_why(make_study: MakeStudy) -> None:
    with pytest.raises(
        BackendError, match=r"(?s)No trial of the study 'first' gave a model.*no luck"
    ):
        make_study("import sys; sys.exit('no luck')", n_trials=2).run()


def test_a_study_gives_up_when_the_first_trials_all_fail(make_study: MakeStudy) -> None:
    study = make_study("import sys; sys.exit('no luck')", n_trials=50)

    with pytest.raises(BackendError, match="no luck"):
        study.run()

    assert len(study.compute.list_()) == 10


def test_a_trial_that_hangs_is_ended_at_its_limit_and_the_study_goes_on(
    make_study: MakeStudy,
) -> None:
    code = CODE + "\nif settings['alpha'] == 1.0: import time; time.sleep(60)"
    guesses = (
        ("hangs", {"alpha": 1.0, "l1_ratio": 0.0}),
        ("ends", {"alpha": 0.1, "l1_ratio": 0.0}),
    )

    trials = make_study(code, local=True, guesses=guesses, n_trials=2, time_limit_s=1.0).run()

    assert [t.state for t in trials] == [TrialState.FAILED, TrialState.DONE]
    assert "limit" in trials[0].reason


def test_a_value_that_is_no_number_is_a_failure(make_study: MakeStudy) -> None:
    values = iter([float("nan"), 1.0])

    trials = make_study(n_trials=2, judge=lambda _: next(values)).run()

    assert [t.state for t in trials] == [TrialState.FAILED, TrialState.DONE]
    assert "nan" in trials[0].reason


def test_more_is_better_where_the_metric_says_so(make_study: MakeStudy) -> None:
    study = make_study(higher_is_better=True, n_trials=5)

    trials = study.run()

    best = study.best()
    assert best is not None
    assert best.value == max(t.value or 0.0 for t in trials)


def test_a_study_ends_when_its_time_is_up(make_study: MakeStudy) -> None:
    times = iter(range(1_000))

    trials = make_study(seconds=6.0, n_trials=500, clock=lambda: float(next(times))).run()

    assert 1 <= len(trials) < 10


def test_jobs_that_fall_behind_are_ended(make_study: MakeStudy) -> None:
    code = """
import json, os, sys, time
settings = json.loads(sys.argv[1])
os.makedirs("out", exist_ok=True)
loss = 1.0 if settings["alpha"] == 1.0 else 9.0
with open("out/metrics.jsonl", "w", buffering=1) as curve:
    for step in range(1, 61):
        curve.write(json.dumps({"step": step, "name": "validation:rmse", "value": loss}) + "\\n")
if loss > 1: time.sleep(3)
open("out/value", "w").write(str(loss))
"""
    guesses = tuple(("defaults", {"alpha": a, "l1_ratio": 0.0}) for a in (1.0, 0.5, 0.4, 0.3))

    trials = make_study(code, local=True, guesses=guesses, n_trials=4).run()

    assert trials[0].state is TrialState.DONE
    pruned = [t for t in trials if t.state is TrialState.PRUNED]
    assert pruned
    assert all("fell behind at step" in t.reason and t.steps[-1][1] == 9.0 for t in pruned)


@pytest.mark.parametrize("change", [{"n_trials": 0}, {"parallel": 0}, {"seconds": 0.0}])
def test_a_study_of_nothing_is_refused(make_study: MakeStudy, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        make_study(**change)
