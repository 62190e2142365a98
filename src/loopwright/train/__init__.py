"""Prepared rows go in; trained models come out, as plain arrays, packed with all they need to serve."""

from loopwright.train.algorithm import (
    ALGORITHMS,
    Algorithm,
    FittedModel,
    Hyperparameter,
    checked_hyperparameters,
    fit_algorithm,
    get_algorithm,
)
from loopwright.train.bundle import open_bundle, pack_bundle
from loopwright.train.job import (
    TrainingResult,
    TrainingSpec,
    model_members,
    read_result,
    training_job,
)
from loopwright.train.outcome import Outcome, class_text, named_outcome
from loopwright.train.plan import TrainBudget, TrainPlan, checked_train
from loopwright.train.predictor import Predictor
from loopwright.train.serving_model import ServingModel
from loopwright.train.training_data import TrainingData, TrainingPart

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "FittedModel",
    "Hyperparameter",
    "Outcome",
    "Predictor",
    "ServingModel",
    "TrainBudget",
    "TrainPlan",
    "TrainingData",
    "TrainingPart",
    "TrainingResult",
    "TrainingSpec",
    "checked_hyperparameters",
    "checked_train",
    "class_text",
    "fit_algorithm",
    "get_algorithm",
    "model_members",
    "named_outcome",
    "open_bundle",
    "pack_bundle",
    "read_result",
    "training_job",
]
