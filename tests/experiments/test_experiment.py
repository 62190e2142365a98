"""Experiments hold a hypothesis, jobs and a conclusion; rounds and studies are some by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from loopwright.compute import Job
from loopwright.core.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from loopwright.loop import Workspace
from loopwright.loop.experiment import (
    add_to_experiment,
    conclude_experiment,
    get_experiment,
    jobs_named,
    list_experiments,
    start_experiment,
)

Train = Callable[..., Job]


def put_round(workspace: Workspace, jobs: list[list[str]], **fields: Any) -> None:
    """Write down a round as a run does, with the jobs of each attempt."""
    body = {"loop": "houses", "number": 1, "state": "live", "cause": "first run", "reason": ""}
    workspace.metadata.put(
        "round",
        "houses/000001",
        {**body, "conclusion": "meets every criterion", "spec": {"snapshot": "sha256:s"}, **fields},
    )
    for n, ids in enumerate(jobs, start=1):
        suffix = "" if n == 1 else f".{n}"
        output = {
            "jobs": [{"job": each} for each in ids],
            "idea": f"idea {n}",
            "hypothesis": f"hypothesis {n}",
        }
        chosen = {"conclusion": f"conclusion {n}"}
        for stage, told in ((f"train{suffix}", output), (f"choose{suffix}", chosen)):
            workspace.metadata.put("step", f"houses/000001/{stage}", {"output": told})


def put_trial(workspace: Workspace, number: int, job: str, value: float | None) -> None:
    trial = {
        "number": number,
        "hyperparameters": {"depth": number},
        "job": job,
        "value": value,
        "state": "running" if value is None else "done",
        "steps": [],
        "reason": "",
        "seconds": None,
        "origin": "search",
    }
    workspace.metadata.put("trial", f"houses/deep/{number:06d}", {"trial": trial})


def test_an_experiment_goes_from_hypothesis_to_conclusion(
    workspace: Workspace, train: Train
) -> None:
    job = train()
    start_experiment(workspace, "deeper", hypothesis="depth helps")
    add_to_experiment(workspace, "deeper", [job.id, job.id])
    conclude_experiment(workspace, "deeper", "it does not")

    found = get_experiment(workspace, "deeper")

    assert (found.hypothesis, found.conclusion, found.state) == (
        "depth helps",
        "it does not",
        "concluded",
    )
    assert (found.jobs, found.by) == ((job.id,), "ann")
    assert found.concluded_at is not None
    assert found.started_at <= found.concluded_at


def test_what_was_concluded_before_stays_in_the_history(workspace: Workspace) -> None:
    start_experiment(workspace, "deeper")
    conclude_experiment(workspace, "deeper", "yes")
    conclude_experiment(workspace, "deeper", "no")

    told = [event.body for event in workspace.metadata.list_events("experiment/deeper")]

    assert [(each["before"], each["conclusion"]) for each in told] == [("", "yes"), ("yes", "no")]


def test_a_round_is_an_experiment_with_its_attempts(workspace: Workspace, train: Train) -> None:
    first, second = train("one"), train("two")
    put_round(workspace, [[first.id], [second.id, first.id]])

    found = get_experiment(workspace, "houses/1")

    assert (found.kind, found.state) == ("round", "live")
    assert found.conclusion == "meets every criterion"
    assert found.hypothesis == "hypothesis 1; hypothesis 2"
    assert found.jobs == (first.id, second.id)
    assert [each["conclusion"] for each in found.attempts] == ["conclusion 1", "conclusion 2"]
    assert found.snapshot == "sha256:s"


def test_attempts_come_in_their_order_beyond_nine(workspace: Workspace) -> None:
    put_round(workspace, [[str(n)] for n in range(12)])

    assert get_experiment(workspace, "houses/1").jobs == tuple(str(n) for n in range(12))


def test_a_study_is_an_experiment_with_its_trials(workspace: Workspace) -> None:
    put_trial(workspace, 0, "a", 3.0)
    put_trial(workspace, 1, "b", 1.5)

    found = get_experiment(workspace, "study/houses/deep")

    assert (found.kind, found.jobs, found.state) == ("study", ("a", "b"), "concluded")
    assert found.conclusion == "2 done; from 1.5 to 3"
    assert "depth" in found.hypothesis


def test_a_study_under_way_has_no_conclusion(workspace: Workspace) -> None:
    put_trial(workspace, 0, "a", 3.0)
    put_trial(workspace, 1, "b", None)

    found = get_experiment(workspace, "study/houses/deep")

    assert (found.state, found.conclusion) == ("open", "")


def test_rounds_and_studies_can_be_put_into_an_experiment(
    workspace: Workspace, train: Train
) -> None:
    first, second, third = train("one"), train("two"), train("three")
    put_round(workspace, [[first.id]])
    put_trial(workspace, 0, second.id, 1.0)
    start_experiment(workspace, "all")

    found = add_to_experiment(workspace, "all", ["houses/1", "study/houses/deep", third.id])

    assert found.jobs == (first.id, second.id, third.id)
    assert found.parts == ("houses/1", "study/houses/deep", third.id)


def test_the_list_holds_all_kinds(workspace: Workspace) -> None:
    put_round(workspace, [])
    put_trial(workspace, 0, "a", 3.0)
    start_experiment(workspace, "mine")

    names = [each.name for each in list_experiments(workspace)]

    assert sorted(names) == ["houses/1", "mine", "study/houses/deep"]


def test_a_part_that_does_not_exist_changes_nothing(workspace: Workspace, train: Train) -> None:
    start_experiment(workspace, "mine")

    with pytest.raises(NotFoundError, match="'nowhere'"):
        add_to_experiment(workspace, "mine", [train().id, "nowhere"])

    assert get_experiment(workspace, "mine").jobs == ()


@pytest.mark.parametrize("name", ["", "Mine", "a/b", "../x", "<b>"])
def test_odd_names_are_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(InvalidInputError):
        start_experiment(workspace, name)


def test_a_name_is_taken_once(workspace: Workspace) -> None:
    start_experiment(workspace, "mine", hypothesis="first")

    with pytest.raises(AlreadyExistsError):
        start_experiment(workspace, "mine", hypothesis="second")

    assert get_experiment(workspace, "mine").hypothesis == "first"


def test_an_empty_conclusion_is_none(workspace: Workspace) -> None:
    start_experiment(workspace, "mine")

    with pytest.raises(InvalidInputError, match="empty"):
        conclude_experiment(workspace, "mine", "  ")


def test_a_round_cannot_be_concluded_by_hand(workspace: Workspace) -> None:
    put_round(workspace, [])

    with pytest.raises(NotFoundError, match="of your own"):
        conclude_experiment(workspace, "houses/1", "it was me")


def test_a_mistyped_name_is_answered_with_the_nearest(workspace: Workspace) -> None:
    start_experiment(workspace, "deeper-trees")

    with pytest.raises(NotFoundError) as caught:
        jobs_named(workspace, "deeper-tree")

    assert "deeper-trees" in caught.value.hint


def test_an_experiment_may_hold_another_but_not_run_in_circles(workspace: Workspace) -> None:
    start_experiment(workspace, "one")
    start_experiment(workspace, "two")
    add_to_experiment(workspace, "one", ["two"])

    with pytest.raises(InvalidInputError, match="holds 'two'"):
        add_to_experiment(workspace, "two", ["one"])
    with pytest.raises(InvalidInputError, match="holds 'one'"):
        add_to_experiment(workspace, "one", ["one"])


def test_the_best_trial_is_told_where_the_study_says_what_counts(workspace: Workspace) -> None:
    put_trial(workspace, 0, "a", 0.5)
    put_trial(workspace, 1, "b", 0.75)
    workspace.metadata.put("study", "houses/deep", {"metric": "roc_auc"})

    found = get_experiment(workspace, "study/houses/deep")

    assert found.conclusion == "2 done; best roc_auc 0.75 with depth 1"


def test_the_trials_of_a_round_belong_to_it(workspace: Workspace) -> None:
    put_round(workspace, [["a"], ["c"]])
    output = {"trials": [{"job": "b"}, {"job": ""}]}
    workspace.metadata.put("step", "houses/000001/tune", {"output": output})

    assert get_experiment(workspace, "houses/1").jobs == ("a", "c", "b")
