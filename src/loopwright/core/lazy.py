"""Heavy libraries, loaded where they are first used."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """A module that is imported when one of its attributes is first asked for.

    `import loopwright`, `loopwright --help` and the serving process then load no heavy library.
    Use it at the head of a module, with the real import for the type checker::

        if TYPE_CHECKING:
            import polars as pl
        else:
            pl = LazyModule("polars")
    """

    def __getattr__(self, name: str) -> Any:
        module = importlib.import_module(self.__name__)
        value = getattr(module, name)
        setattr(self, name, value)
        return value
