"""How an `auto` job ends with a model: its files, and what it tells about itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.files import write_atomically
from loopwright.prepare import FittedRecipe, RecipeUnion
from loopwright.train import AUTO, Predictor, TrainingResult
from loopwright.train.algorithm import TargetTransform
from loopwright.train.job_folder import Part, packages, write_answers, write_model
from loopwright.tune.auto import AutoModel
from loopwright.tune.job import DISTILLED_FILE, OTHER_FOLDER, TRIALS_FILE, AutoSpec
from loopwright.tune.quick_model import QuickModel
from loopwright.tune.replay import replay_of
from loopwright.tune.single_model import SingleModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ending:
    """Writes models of a job, each with all that belongs to it.

    Parameters
    ----------
    spec
        The order.
    train, validation
        The rows.
    target_transform
        The scale that is learnt on.
    searched_since
        When the rows had been read, on the clock of `time.perf_counter`.
    import_s, read_s
        See `TrainingResult`.
    """

    spec: AutoSpec
    train: Part
    validation: Part
    target_transform: TargetTransform
    searched_since: float
    import_s: float
    read_s: float

    def answers(self, model: AutoModel) -> npt.NDArray[np.float64]:
        """Return what a model says about the validation rows."""
        said: npt.NDArray[np.float64] = model.predict_raw(self.validation.frame)
        return said

    def write_quick(self, model: QuickModel, out: Path) -> TrainingResult:
        """Write a quick model."""
        began = time.perf_counter()
        trials: dict[str, Any] = {
            "trials": [],
            "loss": None,
            "n_folds": 0,
            "seconds": 0.0,
            "replay": None,
        }
        write_atomically(out / TRIALS_FILE, msgspec.json.encode({**trials, "quick": model.name}))
        said = model.predictor.predict_raw(model.fitted.transform(self.validation.frame))
        self._write_model(out, model.fitted, model.predictor)
        write_answers(out, self.spec.training.outcome, self.validation.y, said)
        return self._result(model.fitted, {model.name: 1.0}, importance=(), began=began)

    def write_blend(self, model: AutoModel, out: Path) -> TrainingResult:
        """Write the blend of a search."""
        began = time.perf_counter()
        write_atomically(out / TRIALS_FILE, msgspec.json.encode(_trials(model)))
        self._write_model(out, model.fitted, model.predictor)
        write_answers(out, self.spec.training.outcome, self.validation.y, self.answers(model))
        return self._of_search(model, model.fitted, began=began)

    def write_both(self, model: AutoModel, single: SingleModel, out: Path) -> TrainingResult:
        """Write the blend and the single model, one to be served and the other beside it."""
        began = time.perf_counter()
        blend = (model.fitted, model.predictor)
        alone = (single.distilled.fitted, single.distilled.predictor)
        served, other = (alone, blend) if single.is_served else (blend, alone)
        (out / OTHER_FOLDER).mkdir()
        self._write_model(out, *served)
        self._write_model(out / OTHER_FOLDER, *other)
        write_atomically(out / TRIALS_FILE, msgspec.json.encode(_trials(model)))
        write_atomically(out / DISTILLED_FILE, msgspec.json.encode(single.report))
        said = single.answers if single.is_served else self.answers(model)
        write_answers(out, self.spec.training.outcome, self.validation.y, said)
        return self._of_search(model, served[0], began=began)

    def _write_model(
        self, out: Path, fitted: FittedRecipe | RecipeUnion, predictor: Predictor
    ) -> None:
        write_model(out, self.spec.training, self.train, fitted, predictor=predictor, native={})

    def _of_search(
        self, model: AutoModel, served: FittedRecipe | RecipeUnion, *, began: float
    ) -> TrainingResult:
        chosen = {trial.configuration.name: weight for trial, weight in model.found.chosen}
        return self._result(served, chosen, importance=_ranked(model), began=began)

    def _result(
        self,
        served: FittedRecipe | RecipeUnion,
        hyperparameters: dict[str, Any],
        *,
        importance: tuple[tuple[str, float], ...],
        began: float,
    ) -> TrainingResult:
        training = self.spec.training
        return TrainingResult(
            algorithm=AUTO,
            task=training.task,
            seed=training.seed,
            threads=training.threads,
            target_transform=self.target_transform,
            hyperparameters=hyperparameters,
            best_iteration=None,
            importance=importance,
            native_difference=0.0,
            n_train=len(self.train.y),
            n_validation=len(self.validation.y),
            n_features=len(served.feature_names),
            import_s=self.import_s,
            read_s=self.read_s,
            recipe_s=0.0,
            fit_s=began - self.searched_since,
            export_s=time.perf_counter() - began,
            # known when it is delivered, as are the digests
            total_s=0.0,
            peak_memory_mib=0.0,
            packages=packages(),
            digests={},
        )


def _trials(model: AutoModel) -> dict[str, Any]:
    return {
        "trials": model.leaderboard,
        "loss": model.found.loss,
        "n_folds": model.found.n_folds,
        "seconds": model.found.seconds,
        "replay": replay_of(model.found),
    }


def _ranked(model: AutoModel) -> tuple[tuple[str, float], ...]:
    """Return the share of each feature over all recipes, the greatest first."""
    shares: dict[str, float] = {}
    for name, share in zip(model.fitted.feature_names, model.importance, strict=True):
        plain = name.partition("/")[2]
        shares[plain] = shares.get(plain, 0.0) + share
    return tuple(sorted(shares.items(), key=lambda pair: (-pair[1], pair[0])))
