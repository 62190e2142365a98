"""Models that XGBoost saved by itself, in releases of eight years, become bundles with the same answers."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.foreign_model import as_bundle, is_foreign
from loopwright.sagemaker.xgboost_archive import bundle_of
from loopwright.sagemaker.xgboost_binary import json_of_binary
from loopwright.train.bundle import open_bundle

KNOWN = json.loads(Path(__file__).with_name("xgboost_models.json").read_text())
MODELS = KNOWN["models"]
ROWS = np.array([[np.nan if v is None else v for v in row] for row in KNOWN["rows"]])


def content_of(model: dict[str, Any]) -> bytes:
    return zlib.decompress(base64.b85decode(model["content"]))


def answers(content: bytes, rows: Any = ROWS) -> Any:
    model = open_bundle(bundle_of(content))
    return np.atleast_2d(model.predictor.predict_raw(np.ascontiguousarray(rows)).T).T


def trained(objective: str = "binary:logistic", **changes: Any) -> Any:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(80, 3))
    y = (X[:, 0] > 0).astype(int) if objective == "binary:logistic" else X[:, 0]
    given = {"objective": objective, "max_depth": 2, "nthread": 1}
    return xgboost.train(given, xgboost.DMatrix(X, label=y), 4, **changes), X


@pytest.mark.parametrize(
    "model", MODELS, ids=[f"{m['version']} {m['objective']} {m['form']}" for m in MODELS]
)
def test_a_model_of_an_old_release_answers_as_it_did_there(model: dict[str, Any]) -> None:
    found = answers(content_of(model))

    assert found == pytest.approx(np.array(model["answers"]), abs=2e-6)


@pytest.mark.parametrize("form", ["json", "ubj", "pickle"])
def test_a_model_of_this_release_answers_the_same(form: str) -> None:
    booster, X = trained()
    content = pickle.dumps(booster) if form == "pickle" else bytes(booster.save_raw(form))

    found = answers(content, X)

    assert found[:, 0] == pytest.approx(booster.predict(xgboost.DMatrix(X)), abs=1e-6)


def test_a_model_that_knows_its_best_round_is_cut_there() -> None:
    booster, X = trained("reg:squarederror")
    booster.set_attr(best_iteration="1")

    found = answers(bytes(booster.save_raw("ubj")), X)

    wanted = booster.predict(xgboost.DMatrix(X), iteration_range=(0, 2))
    assert found[:, 0] == pytest.approx(wanted, abs=1e-5)


class Trap:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_pickle_is_executed(tmp_path: Path) -> None:
    content = pickle.dumps([Trap(tmp_path / "trap"), trained()[0]])

    found = answers(content, np.zeros((1, 3)))

    assert found.shape == (1, 1)
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"{}", b"\x80\x04.", b"\x80\x02torn", bytes(200), b'{"learner": {}}'],
    ids=["empty", "one byte", "no model", "empty pickle", "torn pickle", "zeros", "half"],
)
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInputError, match="model"):
        bundle_of(content)


def test_a_booster_that_is_not_made_of_trees_is_refused() -> None:
    X = np.eye(4)
    linear = xgboost.train({"booster": "gblinear"}, xgboost.DMatrix(X, label=X[:, 0]), 1)

    with pytest.raises(Exception, match="plain numeric trees"):
        bundle_of(bytes(linear.save_raw("json")))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_torn_or_changed_binary_model_is_refused_or_read_and_nothing_else(
    data: st.DataObject,
) -> None:
    whole = content_of(MODELS[0])
    cut = data.draw(st.integers(0, len(whole)))
    place, value = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    changed = bytearray(whole)
    changed[place] = value

    for content in (whole[:cut], bytes(changed)):
        # any other error would be a fault of ours
        with contextlib.suppress(InvalidInputError):
            assert json_of_binary(content)["learner"]


def test_an_archive_is_read_once_and_its_usual_file_is_preferred(tmp_path: Path) -> None:
    archive, place = tmp_path / "model.tar.gz", tmp_path / "models" / "one.tar.gz"
    files = {"a-note.txt": b"hello", "xgboost-model": content_of(MODELS[0])}
    archive.write_bytes(_packed(files))

    first = as_bundle(archive, place)
    archive.unlink()
    again = as_bundle(archive, place)

    assert first == again
    assert open_bundle(first).outcome.task == "binary"


def test_an_archive_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(_packed({"model.joblib": b"not a booster"}))

    with pytest.raises(ApiError, match="no XGBoost model, or a torn one") as refused:
        as_bundle(archive, tmp_path / "one.tar.gz")

    assert "save_model" in refused.value.message
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.tar.gz"]


def test_only_images_of_xgboost_without_a_script_read_such_models() -> None:
    xgb = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.0-1-cpu-py3"
    sklearn = xgb.replace("xgboost:1.0-1", "scikit-learn:1.2-1")

    assert is_foreign({"Image": xgb})
    assert not is_foreign({"Image": xgb, "Environment": {"SAGEMAKER_PROGRAM": "inference.py"}})
    assert not is_foreign({"Image": sklearn})
    assert not is_foreign({})


def _packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
