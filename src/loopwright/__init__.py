"""loopwright runs the machine-learning loop, from a business problem to a model that stays good."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from loopwright.notebook import (
        Loop,
        compare,
        deploy,
        experiment,
        experiments,
        init,
        job,
        jobs,
        loops,
        open_model,
        reproduce,
        run,
        status,
        train,
        transform,
        tune,
    )

__all__ = [
    "Loop",
    "__version__",
    "compare",
    "deploy",
    "experiment",
    "experiments",
    "init",
    "job",
    "jobs",
    "loops",
    "open_model",
    "reproduce",
    "run",
    "status",
    "train",
    "transform",
    "tune",
]
# stages of the loop that are verbs of the session as well
_VERBS = ("deploy", "train", "tune")


class _Stage(ModuleType):
    """A stage that can be called: `loopwright.train(...)` beside `loopwright.train.Predictor`."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        from loopwright import notebook

        return getattr(notebook, self.__name__.rpartition(".")[2])(*arguments, **named)


class _Package(ModuleType):
    """This package; the import system puts its stages here one by one."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _VERBS and isinstance(value, ModuleType):
            value.__class__ = _Stage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    # loaded on first use, so that `import loopwright` costs a few milliseconds
    if name in _VERBS:
        return import_module(f"{__name__}.{name}")
    if name in __all__:
        from loopwright import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module 'loopwright' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
