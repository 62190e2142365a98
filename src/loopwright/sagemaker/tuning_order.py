"""The request of a tuning job: checked as far as it can be, and the training jobs that follow from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.image import image_of
from loopwright.sagemaker.training_order import checked_training, is_script
from loopwright.sagemaker.tuning_child import TUNERS, definitions_of, objective_of
from loopwright.sagemaker.tuning_search import Search, seed_of
from loopwright.sagemaker.tuning_space import Parameter, n_combinations, parameters_of
from loopwright.store import Record

OBJECTIVE = "_tuning_objective_metric"
"""The hyperparameter by which SageMaker tells its algorithms what counts."""
_MOST_JOBS = 750
_COPIED = (
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "VpcConfig",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "RetryStrategy",
    "Environment",
    "StoppingCondition",
)


def ranges_of(request: Mapping[str, Any], definition: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """Return what is searched for a definition."""
    config = request["HyperParameterTuningJobConfig"]
    return parameters_of(
        definition.get("HyperParameterRanges") or config.get("ParameterRanges") or {}
    )


def search_of(request: Mapping[str, Any], place: int) -> Search:
    """Return the search over the ranges of one definition."""
    config = request["HyperParameterTuningJobConfig"]
    definition = definitions_of(request)[place]
    name = f"{request['HyperParameterTuningJobName']}/{place}"
    return Search(
        name=name,
        parameters=ranges_of(request, definition),
        strategy=config["Strategy"],
        maximizes=objective_of(request, definition)[1] == "Maximize",
        seed=seed_of(config.get("RandomSeed"), name),
        parallel=config["ResourceLimits"]["MaxParallelTrainingJobs"],
    )


def n_jobs(request: Mapping[str, Any]) -> int:
    """Return how many training jobs there are to be in all."""
    config = request["HyperParameterTuningJobConfig"]
    limit = config["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    if config["Strategy"] != "Grid":
        return int(limit or _MOST_JOBS)
    return sum(grid_sizes(request))


def grid_sizes(request: Mapping[str, Any]) -> list[int]:
    """Return how many combinations each definition has, for a grid."""
    return [n_combinations(ranges_of(request, each)) for each in definitions_of(request)]


def checked_tuning(desk: Desk, caller: Caller, given: Mapping[str, Any]) -> None:
    """Check a request before anything is written; its first jobs are as good as started.

    Raises
    ------
    ApiError
        If the job cannot be run here.
    """
    _check_definitions(given)
    config = given["HyperParameterTuningJobConfig"]
    if given.get("Autotune"):
        raise validation("Autotune is not supported yet by loopwright: give the ranges yourself.")
    _check_limits(config)
    for place, definition in enumerate(definitions_of(given)):
        parameters = ranges_of(given, definition)
        _check_strategy(config, parameters)
        _check_objective(given, definition)
        for texts in _extremes(parameters):
            checked_training(desk, caller, training_request(given, place, texts, name="x"))
    if config["Strategy"] == "Grid":
        _check_grid(given)
    _check_parents(desk, caller, given)


def _check_definitions(given: Mapping[str, Any]) -> None:
    several = given.get("TrainingJobDefinitions")
    if bool(several) == ("TrainingJobDefinition" in given):
        raise validation(
            "You must specify either TrainingJobDefinition or TrainingJobDefinitions, and not both."
        )
    if not several:
        return
    names = [each.get("DefinitionName") for each in several]
    if None in names or len(set(names)) < len(names):
        raise validation("Each of the TrainingJobDefinitions needs a DefinitionName of its own.")


def _check_limits(config: Mapping[str, Any]) -> None:
    limits = config["ResourceLimits"]
    most, parallel = limits.get("MaxNumberOfTrainingJobs"), limits["MaxParallelTrainingJobs"]
    if most is not None and parallel > most:
        raise validation(
            f"MaxParallelTrainingJobs, {parallel}, must not be greater than "
            f"MaxNumberOfTrainingJobs, {most}."
        )
    if most is not None and most > _MOST_JOBS:
        raise validation(f"MaxNumberOfTrainingJobs must not be greater than {_MOST_JOBS}.")
    has_end = most or limits.get("MaxRuntimeInSeconds") or config.get("TuningJobCompletionCriteria")
    if config["Strategy"] != "Grid" and not has_end:
        raise validation(
            "Specify MaxNumberOfTrainingJobs, MaxRuntimeInSeconds or TuningJobCompletionCriteria."
        )


def _check_strategy(config: Mapping[str, Any], parameters: tuple[Parameter, ...]) -> None:
    strategy = config["Strategy"]
    if strategy == "Grid" and any(each.kind != "categorical" for each in parameters):
        raise validation("Grid search supports CategoricalParameterRanges only.")
    if strategy == "Hyperband" and config.get("TrainingJobEarlyStoppingType") == "Auto":
        raise validation(
            "TrainingJobEarlyStoppingType must be Off with Hyperband, which stops jobs by itself."
        )
    about = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig")
    if about is not None and strategy != "Hyperband":
        raise validation("HyperbandStrategyConfig is for the strategy Hyperband.")
    if about and about.get("MinResource", 1) > about.get("MaxResource", 1 << 30):
        raise validation("MinResource must not be greater than MaxResource.")


def _check_grid(given: Mapping[str, Any]) -> None:
    n, config = n_jobs(given), given["HyperParameterTuningJobConfig"]
    most = config["ResourceLimits"].get("MaxNumberOfTrainingJobs", n)
    if most != n:
        raise validation(
            f"MaxNumberOfTrainingJobs is {most}, and the grid has {n} combinations: leave it out."
        )
    if n > _MOST_JOBS:
        raise validation(f"The grid has {n} combinations; {_MOST_JOBS} are the most.")


def _check_objective(given: Mapping[str, Any], definition: Mapping[str, Any]) -> None:
    metric, _ = objective_of(given, definition)
    if not metric:
        raise validation("A tuning objective is required: a metric and its type.")
    about = definition["AlgorithmSpecification"]
    named = {each["Name"] for each in about.get("MetricDefinitions", ())}
    if metric in named:
        return
    image = image_of(about.get("TrainingImage", ""))
    if image.kind == "algorithm":
        from loopwright.sagemaker.algorithm import BUILT_INS

        known = BUILT_INS[image.algorithm].metrics
        if metric in known:
            return
        if known and not is_script(definition.get("StaticHyperParameters", {})):
            raise validation(
                f"The objective metric for the hyperparameter tuning job, [{metric}], isn't valid for "
                f"the [{about['TrainingImage']}] algorithm. Choose a valid objective metric."
            )
    raise validation(
        "A metric is required for this hyperparameter tuning job objective. Provide a metric in the "
        "metric definitions."
    )


def _check_parents(desk: Desk, caller: Caller, given: Mapping[str, Any]) -> None:
    names = _parent_names(given)
    if len(set(names)) < len(names):
        raise validation("A parent hyperparameter tuning job stands there twice.")
    for record in [TUNERS.get(desk, caller, each) for each in names]:
        if not record.body.get("ends"):
            raise validation(
                f"The parent hyperparameter tuning job {record.body['name']} has not ended yet."
            )
        theirs = definitions_of(record.body["request"])
        images = [each["AlgorithmSpecification"].get("TrainingImage") for each in theirs]
        ours = [
            each["AlgorithmSpecification"].get("TrainingImage") for each in definitions_of(given)
        ]
        kind = given["WarmStartConfig"]["WarmStartType"]
        if kind == "IdenticalDataAndAlgorithm" and images != ours:
            raise validation(
                f"The parent {record.body['name']} has another training image: use TransferLearning."
            )


def parents_of(desk: Desk, caller: Caller, given: Mapping[str, Any]) -> list[Record]:
    """Return the tuning jobs that a request learns from, as far as they are still there."""
    found = (TUNERS.find(desk, caller, each) for each in _parent_names(given))
    return [each for each in found if each is not None]


def _parent_names(given: Mapping[str, Any]) -> list[str]:
    about = given.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", ())
    return [each.get("HyperParameterTuningJobName", "") for each in about]


def _extremes(parameters: tuple[Parameter, ...]) -> Iterator[dict[str, str]]:
    """Yield what has the first and the last value of everything."""
    for end in (0, 1):
        yield {each.name: each.ends()[end] for each in parameters}


def training_request(
    given: Mapping[str, Any], place: int, texts: Mapping[str, str], *, name: str
) -> dict[str, Any]:
    """Return the request of a training job of a tuning job.

    Parameters
    ----------
    place
        Of its definition.
    texts
        What is tried.
    """
    definition = definitions_of(given)[place]
    about = definition["AlgorithmSpecification"]
    parameters = {**definition.get("StaticHyperParameters", {}), **texts}
    image = image_of(about.get("TrainingImage", ""))
    if image.kind == "algorithm" and not is_script(parameters):
        parameters[OBJECTIVE] = objective_of(given, definition)[0]
    request = {
        "TrainingJobName": name,
        "AlgorithmSpecification": about,
        "HyperParameters": parameters,
        "ResourceConfig": _resources(definition),
        **{key: definition[key] for key in _COPIED if key in definition},
    }
    checkpoints = definition.get("CheckpointConfig")
    if checkpoints:
        # of its own for each, since they run side by side
        uri = f"{checkpoints['S3Uri'].rstrip('/')}/{name}"
        request["CheckpointConfig"] = {**checkpoints, "S3Uri": uri}
    return request


def _resources(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resources as a training job has them: clients read all three members."""
    given = definition.get("ResourceConfig")
    if given is None:
        given = dict(definition.get("HyperParameterTuningResourceConfig", {}))
        given.pop("AllocationStrategy", None)
        several = given.pop("InstanceConfigs", None)
        if several:
            # the first is the one that is preferred
            given |= several[0]
    if "InstanceType" not in given:
        raise validation("ResourceConfig or HyperParameterTuningResourceConfig is required.")
    return {"InstanceCount": 1, "VolumeSizeInGB": 1, **given}
