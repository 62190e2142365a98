"""A study as Optuna knows it: what to try next, and which learning curves fall behind."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loopwright.core.digest import digest_value
from loopwright.train import get_algorithm
from loopwright.tune.space import distributions
from loopwright.tune.study_plan import StudyPlan
from loopwright.tune.trial import TrialRecord, TrialState

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

# a trial is compared with others from this step on, and then at every power of the factor
_FIRST_RUNG, _RUNG_FACTOR, _LAST_RUNG = 20, 3, 2_000
# digits of the digest that a seed is made of, below 2 to the power of 32
_SEED_DIGITS = 8


@dataclass(slots=True, kw_only=True)
class Sampling:
    """Says what to try next, from what came of the trials before.

    What the trial of a number tries follows from the seed, the number and what is known when it is
    asked for, and from nothing else: a search that was ended and goes on tries what it would have
    tried. The search is Optuna's (`TPESampler`, `HyperbandPruner`: Li et al., "Hyperband", JMLR 18,
    2018).

    Parameters
    ----------
    plan
        What is searched for.
    known
        The trials of earlier runs, in the order of their beginning.
    distributions
        What is searched, where it is not the space of an algorithm of ours.
    """

    plan: StudyPlan
    known: Sequence[TrialRecord] = ()
    distributions: Mapping[str, BaseDistribution] | None = None
    _study: optuna.Study = field(init=False)
    _space: dict[str, BaseDistribution] = field(init=False)

    def __post_init__(self) -> None:
        with warnings.catch_warnings():
            # a library of progress bars that Optuna brings asks for widgets in notebooks
            warnings.simplefilter("ignore")
            import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        plan = self.plan
        pruner = (
            optuna.pruners.HyperbandPruner(
                min_resource=_FIRST_RUNG, max_resource=_LAST_RUNG, reduction_factor=_RUNG_FACTOR
            )
            if plan.prunes
            else optuna.pruners.NopPruner()
        )
        given = self.distributions
        self._space = (
            distributions(get_algorithm(plan.algorithm), plan.space)
            if given is None
            else dict(given)
        )
        self._study = optuna.create_study(
            study_name=plan.name,
            direction="maximize" if plan.higher_is_better else "minimize",
            sampler=_sampler(plan, 0),
            pruner=pruner,
        )
        for trial in self.known:
            self._add(trial)
        for _, guess in plan.guesses[len(self.known) :]:
            self._study.enqueue_trial(self._inside(guess))

    def ask(self) -> TrialRecord:
        """Return the next trial; it counts as running from now on."""
        number = len(self._study.get_trials(deepcopy=False))
        waiting = self._study.get_trials(deepcopy=False, states=(_states()["WAITING"],))
        self._study.sampler = _sampler(self.plan, number - len(waiting))
        asked = self._study.ask(fixed_distributions=self._space)
        guesses = self.plan.guesses
        return TrialRecord(
            number=asked.number,
            hyperparameters=dict(asked.params),
            origin=guesses[asked.number][0] if asked.number < len(guesses) else "search",
        )

    def told(
        self, trial: TrialRecord, curve: Sequence[tuple[int, float]]
    ) -> tuple[TrialRecord, int | None]:
        """Take in how far a learning curve has come; return the trial, and where it fell behind.

        Parameters
        ----------
        curve
            Steps and losses on validation rows.
        """
        import optuna

        if not self.plan.prunes:
            return trial, None
        found = self._study.get_trials(deepcopy=False)[trial.number]
        asked = optuna.trial.Trial(self._study, found._trial_id)
        steps = dict(trial.steps)
        behind_at = None
        for step, loss in curve:
            if step in steps or step not in _RUNGS:
                continue
            # the curve is a loss; the study may count something of which more is better
            steps[step] = -loss if self.plan.higher_is_better else loss
            asked.report(steps[step], step)
            if asked.should_prune():
                behind_at = step
                break
        if len(steps) == len(trial.steps):
            return trial, None
        return trial.with_steps(steps), behind_at

    def end(self, trial: TrialRecord) -> None:
        """Take in what came of a trial."""
        states = _states()
        if trial.state is TrialState.DONE:
            self._study.tell(trial.number, trial.value)
        else:
            # the last intermediate value stands for a pruned trial
            is_pruned = trial.state is TrialState.PRUNED
            self._study.tell(trial.number, state=states["PRUNED" if is_pruned else "FAIL"])

    def _add(self, trial: TrialRecord) -> None:
        from optuna.trial import create_trial

        states = _states()
        of = {
            TrialState.RUNNING: "RUNNING",
            TrialState.DONE: "COMPLETE",
            TrialState.PRUNED: "PRUNED",
        }
        params = self._inside(trial.hyperparameters)
        self._study.add_trial(
            create_trial(
                state=states[of.get(trial.state, "FAIL")],
                params=params,
                distributions={name: self._space[name] for name in params},
                value=trial.value if trial.state is TrialState.DONE else None,
                intermediate_values=dict(trial.steps),
            )
        )

    def _inside(self, guess: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of a guess lies in the space; the rest is left to the sampler."""
        return {
            name: value
            for name, value in guess.items()
            if name in self._space and _contains(self._space[name], value)
        }


def _states() -> Mapping[str, Any]:
    from optuna.trial import TrialState as State

    return State.__members__


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # noqa: S101 there are no others
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and distribution.low <= value <= distribution.high


def _sampler(plan: StudyPlan, number: int) -> optuna.samplers.BaseSampler:
    import optuna

    digest = digest_value([plan.seed, number]).rpartition(":")[2]
    seed = int(digest[:_SEED_DIGITS], 16)
    if plan.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        # settings of boosters work together, which only the multivariate sampler sees
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, constant_liar=plan.parallel > 1
        )


def _rungs() -> frozenset[int]:
    """Return the steps at which learning curves are compared."""
    rungs, step = [], _FIRST_RUNG
    while step <= _LAST_RUNG:
        rungs.append(step)
        step *= _RUNG_FACTOR
    return frozenset(rungs)


_RUNGS = _rungs()
