from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.data import PluginSource, Source, open_source
from loopwright.testing.data_source import CONTRACT_ROWS, DataSourceContract

MODULE = """
from loopwright.data.file import OpenedFiles
from loopwright.data import FileSource

def open_shelf(options, base):
    assert options["login"]["token"] == "s3cr3t", options
    return OpenedFiles(FileSource(path=options["path"]), base)

def open_badly(options, base):
    raise RuntimeError("cannot log in with " + options["token"])

def open_nothing(options, base):
    return object()
"""
ENTRY_POINTS = """[loopwright.source]
shelf = shelf_for_test:open_shelf
bad = shelf_for_test:open_badly
nothing = shelf_for_test:open_nothing
absent = shelf_for_test:nowhere
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install a small package that brings sources, as pip would."""
    site = tmp_path / "site"
    info = site / "shelf_for_test-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "shelf_for_test.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf-for-test\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(site))
    yield tmp_path
    sys.modules.pop("shelf_for_test", None)


def opened(folder: Path, name: str, **options: object) -> Source:
    return open_source(PluginSource(name=name, options=options), folder, environ={"T": "s3cr3t"})


class TestPlugin(DataSourceContract):
    secret = "s3cr3t"

    @pytest.fixture
    def source(self, installed: Path) -> Source:
        CONTRACT_ROWS.write_parquet(installed / "rows.parquet")
        return opened(installed, "shelf", path="rows.parquet", login={"token": "env:T"})


def test_a_plugin_nobody_installed_is_refused_with_the_nearest(installed: Path):
    with pytest.raises(InvalidInputError, match=r"source named 'shelv'.*mean 'shelf'"):
        opened(installed, "shelv")


def test_without_any_plugin_the_remedy_is_to_install_one(tmp_path: Path):
    with pytest.raises(InvalidInputError, match="Install the package that brings it"):
        opened(tmp_path, "shelf")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bad", r"'bad' \(shelf_for_test:open_badly\) fails when it is opened: RuntimeError"),
        ("absent", "fails when it is opened: AttributeError"),
        ("nothing", "lacks describe, fingerprint"),
    ],
)
def test_a_plugin_that_fails_is_told_without_its_secrets(installed: Path, name: str, message: str):
    with pytest.raises(BackendError, match=message) as caught:
        opened(installed, name, token="env:T")

    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_secret_that_is_not_set_is_refused_with_its_name(installed: Path):
    with pytest.raises(
        InvalidInputError, match=r"variable NOWHERE, which should hold login\.token"
    ):
        opened(installed, "shelf", login={"token": "env:NOWHERE"})
