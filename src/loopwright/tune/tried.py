"""Trials of a search: a configuration, and the models it left fold by fold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median

from loopwright.tune.configuration import Configuration
from loopwright.tune.fold_model import FoldModel


@dataclass(slots=True, kw_only=True, eq=False)
class Trial:
    """A configuration and its models so far, by fold.

    Parameters
    ----------
    configuration
        What is tried.
    family
        The recipe it learns from, as the table names it.
    below
        The trials whose answers stand among its features; none in the first layer.
    """

    configuration: Configuration
    family: str
    below: tuple[Trial, ...] = ()
    models: dict[int, FoldModel] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    failure: str = ""
    first_loss: float = math.inf

    @property
    def seconds(self) -> float:
        """Usual wall time of a fit: the first also imports its library and prepares its fold."""
        return median(m.seconds for m in self.models.values()) if self.models else 0.0

    @property
    def answer_s(self) -> float:
        """Wall time of one answer by the models of all folds, in seconds, without recipes."""
        return sum(model.answer_s for model in self.models.values())

    @property
    def n_first(self) -> int:
        """How many folds, from the first on, have a model."""
        n_folds = 0
        while n_folds in self.models:
            n_folds += 1
        return n_folds
