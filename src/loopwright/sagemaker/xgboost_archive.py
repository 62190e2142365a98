"""A model that XGBoost itself left in a `model.tar.gz`, made a bundle of ours.

`python -P -m loopwright.sagemaker.xgboost_archive ARCHIVE OUT`, a process of its own: the bytes may come
from anywhere, and XGBoost reads them in C++. Nothing is unpickled: of a pickled model, the bytes that
XGBoost had written are taken out.
"""

from __future__ import annotations

import json
import pickletools
import sys
import tarfile
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError, LoopwrightError
from loopwright.core.lazy import LazyModule
from loopwright.prepare import Recipe, fit_recipe
from loopwright.problem import Task
from loopwright.sagemaker.algorithm import SETTINGS_FILE
from loopwright.sagemaker.xgboost_binary import json_of_binary
from loopwright.train.boosting import OBJECTIVE_SPELLINGS, POSITIVE
from loopwright.train.bundle import pack_bundle
from loopwright.train.job import TrainingSpec, model_members
from loopwright.train.job_folder import Part, write_model
from loopwright.train.link import Link
from loopwright.train.xgboost_learner import exported_booster

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import xgboost
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")
    xgboost = LazyModule("xgboost")

_LARGEST = 1 << 29
_USUAL = "xgboost-model"
_MOST_FEATURES = 100_000
_MOST_CLASSES = 1_000
_PICKLE, _CONFIGURED = b"\x80", b"CONFIG-offset:"
_SIGMOIDS = frozenset({"binary:logistic", "reg:logistic"})
_AGAIN = "Save it again with a recent XGBoost: booster.save_model('xgboost-model')."


def main() -> int:
    """Write the bundle of an archive; say why not on the standard error."""
    archive, out = (Path(each) for each in sys.argv[1:3])
    try:
        out.write_bytes(bundle_of(_content(archive)))
    except LoopwrightError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def bundle_of(content: bytes) -> bytes:
    """Return the bundle of a model of XGBoost's: JSON, UBJSON, its old binary format, or a pickle.

    Raises
    ------
    InvalidInputError
        If it is none of them, or a model that cannot be served.
    """
    booster = booster_of(content)
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective = str(learner["objective"]["name"])
    n_features = int(learner["learner_model_param"]["num_feature"])
    n_classes = int(learner["learner_model_param"].get("num_class", "0"))
    if not 1 <= n_features <= _MOST_FEATURES or n_classes > _MOST_CLASSES:
        raise InvalidInputError(
            f"A model of {n_features} features and {n_classes} classes cannot be served.",
            hint=f"There can be {_MOST_FEATURES} features and {_MOST_CLASSES} classes.",
        )
    task, link = _meaning(objective)
    classes = tuple(str(each) for each in range({"binary": 2}.get(task, n_classes)))
    spec = TrainingSpec(
        algorithm="xgboost", task=task, target="target", classes=classes, hyperparameters={}
    )
    X = _rows(learner, n_features)
    native = booster.predict(xgboost.DMatrix(X, nthread=1), output_margin=True)
    predictor = exported_booster(booster, link=link, X=X, native=native)
    frame = pl.DataFrame({f"f{i}": X[:, i] for i in range(n_features)}, nan_to_null=True)
    part = Part(frame=frame, y=np.zeros(len(X)), weight=None)
    recipe, _ = fit_recipe(Recipe(()), frame, part.y, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "out"
        (place / "model").mkdir(parents=True)
        write_model(
            place,
            spec,
            part,
            recipe,
            predictor=predictor,
            native={"model.ubj": bytes(booster.save_raw("ubj"))},
        )
        members: dict[str, bytes | Path] = {
            name: path.read_bytes() for name, path in model_members(Path(folder)).items()
        }
    texts = {"objective": objective, "num_class": str(n_classes)}
    about = {"algorithm": "xgboost", "hyperparameters": texts, "n_features": n_features}
    members[SETTINGS_FILE] = json.dumps(about).encode()
    return pack_bundle(members, name="xgboost", algorithm="xgboost", outcome=spec.outcome)


def booster_of(content: bytes) -> Any:
    """Return the model as XGBoost holds it, cut to its best round where it knows one.

    Raises
    ------
    InvalidInputError
        If it cannot be read.
    """
    raw = _pickled(content) if content.startswith(_PICKLE) else content
    booster = xgboost.Booster({"nthread": 1})
    try:
        if raw.startswith(_CONFIGURED):
            start = len(_CONFIGURED) + 8
            length = int.from_bytes(raw[len(_CONFIGURED) : start], "little", signed=True)
            booster.load_model(_as_json(raw[start : start + max(length, 0)]))
        elif not raw.startswith(b"{"):
            booster.load_model(_as_json(raw))
        elif _is_snapshot(raw):
            with warnings.catch_warnings():
                # it says that another version has written this, which is why we are here
                warnings.simplefilter("ignore")
                booster.__setstate__({"handle": bytearray(raw)})
        else:
            booster.load_model(bytearray(raw))
        best = booster.attributes().get("best_iteration", "")
        if best.isdecimal() and int(best) + 1 < booster.num_boosted_rounds():
            booster = booster[: int(best) + 1]
    except (xgboost.core.XGBoostError, ValueError, TypeError) as error:
        said = str(error).strip().splitlines()
        raise InvalidInputError(
            f"The XGBoost model cannot be read: {said[0][:300] if said else error!r}", hint=_AGAIN
        ) from error
    return booster


def _as_json(binary: bytes) -> bytearray:
    return bytearray(json.dumps(json_of_binary(binary)).encode())


def _is_snapshot(raw: bytes) -> bool:
    """Return whether this is what a pickle holds: a model and its settings together."""
    return b"Config" in raw[:64] and b"learner" not in raw[:32]


def _pickled(content: bytes) -> bytes:
    """Return the longest bytes in a pickle, which are the model; nothing is executed."""
    found = b""
    try:
        for _, given, _ in pickletools.genops(content):
            if isinstance(given, (bytes, bytearray)) and len(given) > len(found):
                found = bytes(given)
            elif isinstance(given, str) and len(given) > len(found):
                # protocol 2 writes bytes as the text of the same numbers
                found = given.encode("latin-1")
    except (ValueError, UnicodeError) as error:
        raise InvalidInputError(f"The pickled model is torn: {error}.", hint=_AGAIN) from error
    return found


def _meaning(objective: str) -> tuple[Task, Link]:
    """Return the task of an objective, and what makes the answer of its margin."""
    if objective.startswith("multi:"):
        return "multiclass", "softmax"
    if objective in _SIGMOIDS:
        return ("binary" if objective == "binary:logistic" else "regression"), "sigmoid"
    ours = OBJECTIVE_SPELLINGS.get(objective, "")
    return "regression", "exp" if ours in POSITIVE else "identity"


def _rows(learner: dict[str, Any], n_features: int) -> Any:
    """Return rows that reach both sides of splits: the thresholds themselves, and gaps."""
    trees = learner["gradient_booster"].get("model", {}).get("trees", [])
    X = np.full((64, n_features), np.nan)
    X[1:] = 0.0
    place = 2
    for tree in trees[:200]:
        pairs = zip(tree["split_indices"], tree["split_conditions"], strict=False)
        # what pruning has cut off has no feature
        known = [(int(one), float(value)) for one, value in pairs if int(one) < n_features]
        for feature, value in known[:8]:
            X[2 + place % 62, feature] = value
            place += 1
    return X


def _content(archive: Path) -> bytes:
    """Return the file of an archive that XGBoost's container would read: `xgboost-model`, or the first."""
    try:
        with tarfile.open(archive, "r:*") as opened:
            plain = [each for each in opened if each.isreg() and _is_at_top(each.name)]
            plain.sort(key=lambda each: each.name.removeprefix("./") != _USUAL)
            if not plain:
                raise InvalidInputError("The model archive has no file at its top.")
            if plain[0].size > _LARGEST:
                raise InvalidInputError(
                    f"The model has {plain[0].size} bytes; {_LARGEST} are the most."
                )
            member = opened.extractfile(plain[0])
            return member.read() if member else b""
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InvalidInputError(f"The model archive is torn, or no .tar.gz: {error}.") from error


def _is_at_top(name: str) -> bool:
    plain = name.removeprefix("./")
    return "/" not in plain and not plain.startswith(".")


if __name__ == "__main__":
    sys.exit(main())
