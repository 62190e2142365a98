from __future__ import annotations

from loopwright.loop.attempt import MAX_ATTEMPTS, Attempt, Evidence, first_attempt, next_attempt


def evidence(**changes: object) -> Evidence:
    given: dict[str, object] = {
        "ranking": ("lightgbm", "xgboost", "knn"),
        "missed": ("mape",),
        "best_iterations": {"lightgbm": 400, "xgboost": 400},
        "jobs_used": 4,
        "ideas": ("defaults",),
    }
    return Evidence(**(given | changes))  # type: ignore[arg-type]


def following(seen: Evidence, **options: object) -> Attempt | None:
    given: dict[str, object] = {"task": "regression", "given": {}, "max_jobs": 40}
    return next_attempt(seen, **(given | options))  # type: ignore[arg-type]


def test_a_round_begins_with_every_algorithm_as_the_person_set_it() -> None:
    attempt = first_attempt(["knn", "xgboost"], {"knn": {"k": 3}})

    assert attempt.number == 1
    assert attempt.algorithms == ("knn", "xgboost")
    assert attempt.hyperparameters == {"knn": {"k": 3}}


def test_nothing_is_tried_when_every_criterion_holds() -> None:
    assert following(evidence(missed=())) is None


def test_a_missed_absolute_error_suggests_learning_absolute_errors() -> None:
    attempt = following(evidence())

    assert attempt is not None
    assert attempt.hyperparameters["lightgbm"]["objective"] == "absolute"
    assert "absolute errors" in attempt.hypothesis


def test_training_that_stopped_early_suggests_smaller_trees_first() -> None:
    seen = evidence(ideas=("defaults", "absolute errors"))
    early = evidence(
        ideas=("defaults", "absolute errors"), best_iterations={"lightgbm": 40, "xgboost": 400}
    )

    assert following(seen).idea == "larger trees"  # type: ignore[union-attr]
    assert following(early).idea == "smaller trees"  # type: ignore[union-attr]


def test_what_a_person_set_is_kept_in_every_attempt() -> None:
    attempt = following(evidence(), given={"lightgbm": {"learning_rate": 0.3}})

    assert attempt is not None
    assert attempt.hyperparameters["lightgbm"]["learning_rate"] == 0.3


def test_the_budget_of_jobs_and_the_number_of_attempts_end_it() -> None:
    ideas = tuple(f"idea {number}" for number in range(MAX_ATTEMPTS))

    assert following(evidence(jobs_used=39)) is None
    assert following(evidence(ideas=ideas)) is None


def test_no_idea_is_tried_twice() -> None:
    seen, tried = evidence(), ["defaults"]
    while (attempt := following(evidence(ideas=tuple(tried)))) is not None:
        assert attempt.idea not in tried
        tried.append(attempt.idea)

    assert len(tried) >= 3
    assert seen.ideas == ("defaults",)


def test_a_model_that_overfits_gets_fewer_columns_and_smaller_trees() -> None:
    seen = evidence(missed=("rmse",), fit="overfitting", weak_columns=("a", "b"), told=("why",))

    first = following(seen)
    second = following(evidence(**vars_of(seen), ideas=("defaults", "fewer columns")))

    assert first is not None
    assert first.idea == "fewer columns"
    assert first.drop == ("a", "b")
    assert first.evidence == ("why",)
    assert second is not None
    assert second.idea == "smaller trees"
    assert "on new rows" in second.hypothesis


def test_a_model_that_underfits_gets_larger_trees_although_it_stopped_early() -> None:
    seen = evidence(
        missed=("rmse",), fit="underfitting", best_iterations={"lightgbm": 40, "xgboost": 40}
    )

    assert following(seen).idea == "larger trees"  # type: ignore[union-attr]


def test_places_on_a_map_are_tried_and_leaks_left_out() -> None:
    seen = evidence(missed=("rmse",), has_places=True, leaks=("sold_for",))

    first = following(seen)
    second = following(evidence(**vars_of(seen), ideas=("defaults", "without leaks")))

    assert first is not None
    assert (first.idea, first.drop) == ("without leaks", ("sold_for",))
    assert "sold_for" in first.hypothesis
    assert second is not None
    assert (second.idea, second.variant) == ("places", "places")


def test_what_was_trained_before_attempts_left_columns_out_is_still_found() -> None:
    assert "drop" not in first_attempt(["knn"], {}).to_json()


def vars_of(seen: Evidence) -> dict[str, object]:
    names = ("missed", "fit", "weak_columns", "leaks", "has_places")
    return {name: getattr(seen, name) for name in names}
