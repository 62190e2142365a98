"""Packages whose modules are imported when they are asked for."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import loopwright.data
import loopwright.train
from loopwright.core.lazy import lazy_exports

LAZY = [loopwright.data, loopwright.train]


@pytest.mark.parametrize("package", LAZY, ids=lambda package: package.__name__)
def test_a_lazy_package_gives_what_type_checkers_are_told(package: object) -> None:
    file = Path(package.__file__ or "")
    told = {
        alias.name: node.module
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package.__name__)
        for alias in node.names
    }

    assert sorted(told) == sorted(package.__all__)
    for name, module in told.items():
        assert getattr(package, name) is getattr(importlib.import_module(module or ""), name)


@pytest.mark.parametrize("package", LAZY, ids=lambda package: package.__name__)
def test_no_lazy_name_is_that_of_a_module(package: object) -> None:
    # after its import the module would stand where the name was
    modules = {path.stem for path in Path(package.__file__ or "").parent.glob("*.py")}
    code = (
        f"import {package.__name__} as package\n"
        "print(*(name for name in package.__all__ if name not in vars(package)))"
    )
    lazy = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert lazy
    assert not modules & set(lazy)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    find = lazy_exports("loopwright.train", {"bundle": "open_bundle"})

    with pytest.raises(AttributeError, match=r"'loopwright\.train' has no attribute 'opened'"):
        find("opened")


def test_serving_loads_neither_training_nor_tables() -> None:
    code = (
        "import sys, loopwright.deploy.server, loopwright.train.bundle\n"
        "print(*sorted({'polars', 'lightgbm', 'sklearn', 'sqlalchemy', 'importlib.metadata',"
        " 'loopwright.train.job', 'loopwright.compute', 'loopwright.data.image'} & {*sys.modules}))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []
