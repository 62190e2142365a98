"""Heavy libraries and modules, loaded where they are first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
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


def lazy_exports(package: str, exports: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package whose modules are imported when they are asked for.

    Parameters
    ----------
    package
        Its `__name__`.
    exports
        For each module of the package the names it gives, with spaces between them. None may be
        that of a module: the import of the module would take its place.
    """
    module_of = {name: module for module, names in exports.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)
        # found without this function from now on
        setattr(sys.modules[package], name, value)
        return value

    return find
