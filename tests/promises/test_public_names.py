"""What is offered exists, and says what it is for."""

from __future__ import annotations

import importlib
import pkgutil
from types import FunctionType, ModuleType
from typing import Any

import pytest

import loopwright

MODULES = sorted(
    found.name
    for found in pkgutil.walk_packages(loopwright.__path__, "loopwright.")
    # migrations are run by alembic, by number; __main__ is the program
    if ".migrations" not in found.name and not found.name.endswith("__main__")
)
PACKAGES = ["loopwright", *(name for name in MODULES if name.count(".") == 1)]


def public(module: ModuleType) -> dict[str, Any]:
    """Return the functions and classes a module defines for others."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and isinstance(value, type | FunctionType)
        and value.__module__ == module.__name__
    }


def explained(value: Any) -> bool:
    """Return whether a person wrote a docstring, and not dataclasses from the signature."""
    own = vars(value).get("__doc__") if isinstance(value, type) else value.__doc__
    return bool(own and own.strip()) and not own.startswith(f"{value.__name__}(")


def members(cls: type) -> dict[str, Any]:
    """Return the public methods and properties a class defines, without decorations."""
    return {
        f"{cls.__name__}.{name}": getattr(value, "__func__", getattr(value, "fget", value))
        for name, value in vars(cls).items()
        # the tests of the contract suites have names that are sentences
        if not name.startswith(("_", "test_"))
        and isinstance(value, FunctionType | classmethod | staticmethod | property)
    }


@pytest.mark.parametrize("name", PACKAGES)
def test_every_exported_name_exists_and_is_explained(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])

    missing = [each for each in exported if not hasattr(module, each)]
    unexplained = [
        each
        for each in exported
        if isinstance(value := getattr(module, each, None), type | FunctionType)
        and not explained(value)
    ]

    assert list(exported) == sorted(set(exported), key=_isort_key)
    assert missing == []
    assert unexplained == []
    assert module.__doc__


def _isort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as ruff sorts `__all__`."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_class_and_method_is_explained(name: str) -> None:
    module = importlib.import_module(name)
    found = public(module)
    for value in list(found.values()):
        if isinstance(value, type):
            found |= members(value)

    unexplained = [each for each, value in found.items() if not explained(value)]

    assert module.__doc__, f"{name} has no docstring"
    assert unexplained == [], f"{name} does not explain {unexplained}"
