"""A table and a budget go in; the best model that searches and blends can find comes out."""

from loopwright.tune.auto import AutoModel, families_of, fit_auto
from loopwright.tune.job import AutoSpec, auto_job
from loopwright.tune.plan import TunePlan, checked_tune
from loopwright.tune.space import RECIPE_PREFIX, RECIPE_SPACE, Range, Space, checked_space
from loopwright.tune.study import Study, list_trials
from loopwright.tune.study_plan import StudyPlan
from loopwright.tune.trial import TrialRecord, TrialState, best_of

__all__ = [
    "RECIPE_PREFIX",
    "RECIPE_SPACE",
    "AutoModel",
    "AutoSpec",
    "Range",
    "Space",
    "Study",
    "StudyPlan",
    "TrialRecord",
    "TrialState",
    "TunePlan",
    "auto_job",
    "best_of",
    "checked_space",
    "checked_tune",
    "families_of",
    "fit_auto",
    "list_trials",
]
