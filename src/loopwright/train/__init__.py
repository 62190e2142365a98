"""Prepared rows go in; trained models come out, as plain arrays, packed with all they need to serve."""

from typing import TYPE_CHECKING

from loopwright.core.lazy import lazy_exports

if TYPE_CHECKING:
    from loopwright.train.algorithm import (
        ALGORITHMS,
        Algorithm,
        FittedModel,
        algorithm_names,
        fit_algorithm,
        get_algorithm,
    )
    from loopwright.train.bundle import open_bundle, pack_bundle
    from loopwright.train.calibration import Calibration, CalibrationMethod
    from loopwright.train.extra import EXTRAS, Extra
    from loopwright.train.hyperparameter import (
        Hyperparameter,
        canonical_hyperparameters,
        checked_hyperparameters,
        hyperparameters_from_text,
    )
    from loopwright.train.interval import Interval
    from loopwright.train.job import (
        TrainingResult,
        TrainingSpec,
        model_members,
        read_result,
        training_job,
    )
    from loopwright.train.outcome import Outcome, class_text, named_outcome
    from loopwright.train.plan import (
        AUTO,
        AutoPlan,
        Distill,
        RecipeChoice,
        TrainBudget,
        TrainPlan,
        check_task,
        checked_train,
    )
    from loopwright.train.predictor import Predictor
    from loopwright.train.serving_model import ServingModel
    from loopwright.train.training_data import TrainingData, TrainingPart
else:
    # a serving process needs few of them
    __getattr__ = lazy_exports(
        __name__,
        {
            "algorithm": "ALGORITHMS Algorithm FittedModel algorithm_names fit_algorithm get_algorithm",
            "bundle": "open_bundle pack_bundle",
            "calibration": "Calibration CalibrationMethod",
            "extra": "EXTRAS Extra",
            "hyperparameter": "Hyperparameter canonical_hyperparameters checked_hyperparameters hyperparameters_from_text",
            "interval": "Interval",
            "job": "TrainingResult TrainingSpec model_members read_result training_job",
            "outcome": "Outcome class_text named_outcome",
            "plan": "AUTO AutoPlan Distill RecipeChoice TrainBudget TrainPlan check_task checked_train",
            "predictor": "Predictor",
            "serving_model": "ServingModel",
            "training_data": "TrainingData TrainingPart",
        },
    )

__all__ = [
    "ALGORITHMS",
    "AUTO",
    "EXTRAS",
    "Algorithm",
    "AutoPlan",
    "Calibration",
    "CalibrationMethod",
    "Distill",
    "Extra",
    "FittedModel",
    "Hyperparameter",
    "Interval",
    "Outcome",
    "Predictor",
    "RecipeChoice",
    "ServingModel",
    "TrainBudget",
    "TrainPlan",
    "TrainingData",
    "TrainingPart",
    "TrainingResult",
    "TrainingSpec",
    "algorithm_names",
    "canonical_hyperparameters",
    "check_task",
    "checked_hyperparameters",
    "checked_train",
    "class_text",
    "fit_algorithm",
    "get_algorithm",
    "hyperparameters_from_text",
    "model_members",
    "named_outcome",
    "open_bundle",
    "pack_bundle",
    "read_result",
    "training_job",
]
