"""loopwright runs the machine-learning loop, from a business problem to a model that stays good."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from loopwright.notebook import Loop, init, loops, run, status

__all__ = ["Loop", "__version__", "init", "loops", "run", "status"]


def __getattr__(name: str) -> object:
    # loaded on first use, so that `import loopwright` costs a few milliseconds
    if name in __all__:
        from loopwright import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module 'loopwright' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
