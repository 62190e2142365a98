"""Checkpoints of XGBoost, so that a job that was ended goes on where it was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xgboost

CHECKPOINT_FILENAME = "xgboost-checkpoint"
_NAME = re.compile(rf"{CHECKPOINT_FILENAME}\.(\d+)")


def train(train_args: Mapping[str, Any], checkpoint_dir: str) -> Any:
    """Return what `xgboost.train` returns, going on from the last checkpoint of a folder.

    Parameters
    ----------
    train_args
        What `xgboost.train` is to be given.
    """
    given = dict(train_args)
    known, start = load_checkpoint(checkpoint_dir)
    rounds = given.get("num_boost_round", 10) - start
    given |= {
        "xgb_model": known,
        "num_boost_round": max(rounds, 0),
        "callbacks": [*(given.get("callbacks") or ()), save_checkpoint(checkpoint_dir)],
    }
    return xgboost.train(**given)


def load_checkpoint(checkpoint_dir: str, max_try: int = 5) -> tuple[str | None, int]:
    """Return the path of the last checkpoint that can be read, and how many rounds it has.

    Parameters
    ----------
    max_try
        How many of the last ones are tried.
    """
    for path, rounds in _found(checkpoint_dir)[::-1][:max_try]:
        try:
            xgboost.Booster().load_model(path)
        except xgboost.core.XGBoostError:
            continue
        return str(path), rounds
    return None, 0


def save_checkpoint(
    checkpoint_dir: str,
    start_iteration: int = 0,  # noqa: ARG001 a model knows its rounds by now
    max_to_keep: int = 5,
    num_round: int | None = None,  # noqa: ARG001 as above
) -> Any:
    """Return a callback that keeps the model of each round, and removes older ones."""
    return _Saving(checkpoint_dir, max_to_keep)


class _Saving(xgboost.callback.TrainingCallback):  # type: ignore[misc]
    def __init__(self, folder: str, max_to_keep: int) -> None:
        super().__init__()
        self._folder, self._most = Path(folder), max_to_keep
        self._folder.mkdir(parents=True, exist_ok=True)

    def after_iteration(self, model: Any, _epoch: int, _log: Any) -> bool:
        rounds = model.num_boosted_rounds()
        temporary = self._folder / f".{CHECKPOINT_FILENAME}.ubj"
        model.save_model(temporary)
        temporary.replace(self._folder / f"{CHECKPOINT_FILENAME}.{rounds - 1}")
        for path, _ in _found(str(self._folder))[: -self._most]:
            path.unlink(missing_ok=True)
        return False


def _found(folder: str) -> list[tuple[Path, int]]:
    """Return the checkpoints of a folder and their rounds, the last one last."""
    if not folder or not Path(folder).is_dir():
        return []
    found = [
        (path, int(match[1]) + 1)
        for path in Path(folder).iterdir()
        if (match := _NAME.fullmatch(path.name))
    ]
    return sorted(found, key=lambda pair: pair[1])
