"""The models of one process: kept while nothing about them changes, read as the endpoint asks."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from loopwright.core.digest import digest_file
from loopwright.core.errors import InvalidInputError
from loopwright.deploy import DesiredState
from loopwright.deploy.last_served import forget_last_served, keep_last_served, read_last_served
from loopwright.deploy.model_set import ModelSet


class Strict:
    """A model that says what it was asked to become."""

    def __init__(self, path: Path, asked: tuple[str, ...] = ()) -> None:
        self.path = path
        self.asked = asked

    def check_golden(self) -> None:
        if self.asked:
            raise InvalidInputError("The golden rows come before any policy.")

    def with_unknown_columns(self, policy: str) -> Strict:
        return Strict(self.path, (*self.asked, policy))

    with_unseen_categories = with_unknown_columns


def desired(path: Path, **changes: Any) -> DesiredState:
    return DesiredState(**({"name": "e", "generation": 1, "bundle": str(path)} | changes))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_text("a model")
    return path


def test_models_read_requests_as_the_endpoint_is_asked_to(bundle: Path) -> None:
    models = ModelSet(bundle.parent, Strict)  # type: ignore[arg-type]

    (plain,) = models.opened(desired(bundle))
    (strict,) = models.opened(desired(bundle, unknown_columns="ignore", unseen_categories="refuse"))

    assert plain.model.asked == ()  # type: ignore[attr-defined]
    assert strict.model.asked == ("ignore", "refuse")  # type: ignore[attr-defined]


def test_a_model_of_the_same_digest_is_kept_and_another_opened(
    bundle: Path, standin: ModuleType
) -> None:
    path = standin.write_bundle(bundle, slope=2.0)
    models = ModelSet(bundle.parent, standin.open_standin)
    wanted = desired(path, bundle_digest=digest_file(path))
    first = models.opened(wanted)
    models.exchange(wanted.all_variants, first)

    (kept,) = models.opened(wanted)
    (opened,) = models.opened(desired(path))

    assert kept.model is first[0].model
    assert opened.model is not first[0].model


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_what_is_no_file_is_not_opened(path: str, tmp_path: Path) -> None:
    models = ModelSet(tmp_path, Strict)  # type: ignore[arg-type]

    with pytest.raises(InvalidInputError, match="is not a file"):
        models.opened(desired(Path(path)))


def test_what_was_served_last_is_read_until_it_is_forgotten(bundle: Path) -> None:
    folder, wanted = bundle.parent, desired(bundle, unseen_categories="refuse")
    before = read_last_served(folder)
    keep_last_served(folder, wanted)

    assert (before, read_last_served(folder)) == (None, wanted)
    (folder / "served.json").write_text("{torn")
    assert read_last_served(folder) is None
    forget_last_served(folder)
    assert not (folder / "served.json").exists()
