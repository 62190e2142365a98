"""A bundle answers as the model that was trained, and a hostile one is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import loopwright
from loopwright.core.digest import digest_bytes
from loopwright.core.errors import BackendError, InvalidInputError, NotFoundError
from loopwright.problem import TASKS
from loopwright.train import ALGORITHMS, Outcome, model_members, open_bundle, pack_bundle
from loopwright.train.archive import ArchiveLimits, open_archive, pack_archive
from loopwright.train.worker import do_training_job

JobFolder = Callable[..., Path]
OUTCOMES = {
    "regression": Outcome(task="regression"),
    "binary": Outcome(task="binary", classes=("no", "yes"), threshold=0.4),
    "multiclass": Outcome(task="multiclass", classes=("high", "low", "middle")),
}


def packed(folder: Path, task: str = "regression", **more: Any) -> bytes:
    rows = pl.read_parquet(folder / "validation.parquet").drop("weight")[:20].to_dicts()
    return pack_bundle(
        {**model_members(folder), **more.pop("members", {})},
        name="houses",
        algorithm="lightgbm",
        outcome=OUTCOMES[task],
        golden_rows=rows,
        **more,
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_model_of_every_algorithm_can_be_packed_and_opened(
    job_folder: JobFolder, algorithm: str
) -> None:
    folder = job_folder(algorithm, "binary")
    do_training_job(folder)

    bundle = packed(folder, "binary")
    model = open_bundle(bundle)

    model.check_golden()
    # the arrays are held once; their file is made again when somebody asks for it
    assert "predictor.npz" not in model.members
    assert model.read_member("predictor.npz") == open_archive(bundle)["predictor.npz"]


@pytest.fixture
def trained(job_folder: JobFolder) -> Path:
    folder = job_folder("lightgbm", "regression")
    do_training_job(folder)
    return folder


def changed(bundle: bytes, *, resealed: bool = True, **members: bytes | None) -> bytes:
    """Return the bundle with some members replaced (`_` for a dot), its digests put right or not."""
    files = open_archive(bundle)
    manifest = json.loads(files.pop("manifest.json"))
    for key, content in members.items():
        name = key.replace("__", "/").replace("_", ".")
        files.pop(name, None)
        if content is not None:
            files[name] = content
    if resealed:
        manifest["members"] = {name: digest_bytes(content) for name, content in files.items()}
    return pack_archive({**files, "manifest.json": json.dumps(manifest).encode()})


def with_manifest(bundle: bytes, **changes: Any) -> bytes:
    files = open_archive(bundle)
    manifest = {**json.loads(files["manifest.json"]), **changes}
    return pack_archive({**files, "manifest.json": json.dumps(manifest).encode()})


@pytest.mark.parametrize("task", TASKS)
def test_rows_are_answered_as_the_table_was_in_training(job_folder: JobFolder, task: str) -> None:
    folder = job_folder("xgboost", task)
    do_training_job(folder)
    frame = pl.read_parquet(folder / "validation.parquet")

    model = open_bundle(packed(folder, task))

    alone = [model.predict([row])[0] for row in frame.to_dicts()]
    assert alone == OUTCOMES[task].answers(model.predict_frame(frame))
    assert alone == model.predict(frame.to_dicts())
    kept = pl.read_parquet(folder / "out" / "validation.parquet")
    if task == "regression":
        assert [answer["prediction"] for answer in alone] == kept["prediction"].to_list()
    if task == "binary":
        assert [answer["probability"] for answer in alone] == kept["probability"].to_list()


def test_the_same_model_gives_the_same_bundle(trained: Path) -> None:
    assert packed(trained) == packed(trained)


def test_a_bundle_tells_what_it_is(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tar.gz"
    path.write_bytes(packed(trained, members={"reference.json": b"{}"}))

    model = open_bundle(path)

    assert (model.name, model.task, model.algorithm) == ("houses", "regression", "lightgbm")
    assert model.classes is None
    assert model.version == digest_bytes(path.read_bytes()).removeprefix("sha256:")[:12]
    assert model.read_member("reference.json") == b"{}"
    assert model.read_member("model/model.txt").startswith(b"tree\n")


def test_the_classes_are_told_in_order(job_folder: JobFolder) -> None:
    folder = job_folder("linear-learner", "multiclass")
    do_training_job(folder)

    model = open_bundle(packed(folder, "multiclass"))

    assert model.classes == ("high", "low", "middle")


def test_no_rows_get_no_answers(trained: Path) -> None:
    assert open_bundle(packed(trained)).predict([]) == []


def test_a_wrong_value_is_refused_with_its_field(trained: Path) -> None:
    model = open_bundle(packed(trained))
    row = json.loads(model.read_member("golden.json"))["rows"][0]

    with pytest.raises(InvalidInputError) as caught:
        model.predict([row, {**row, "area": "large"}])

    assert (caught.value.facts["row"], caught.value.facts["field"]) == (1, "area")


def test_an_unknown_member_is_named(trained: Path) -> None:
    with pytest.raises(NotFoundError, match=r"holds no 'golden\.jsn'.*'golden\.json'"):
        open_bundle(packed(trained)).read_member("golden.jsn")


def test_golden_rows_are_checked(trained: Path) -> None:
    bundle = packed(trained)
    golden = json.loads(open_archive(bundle)["golden.json"])
    golden["answers"][3]["prediction"] *= 1.001

    open_bundle(bundle).check_golden()

    with pytest.raises(BackendError, match="answers golden row 3 with"):
        open_bundle(changed(bundle, golden_json=json.dumps(golden).encode())).check_golden()


def test_a_bundle_without_golden_rows_is_taken(trained: Path) -> None:
    open_bundle(changed(packed(trained), golden_json=None)).check_golden()


@pytest.mark.parametrize("golden", [b"", b"[]", b'{"rows": [{}], "answers": [], "today": null}'])
def test_golden_rows_that_cannot_be_read_are_refused(trained: Path, golden: bytes) -> None:
    model = open_bundle(changed(packed(trained), golden_json=golden))

    with pytest.raises(InvalidInputError, match=r"golden\.json in the bundle cannot be read"):
        model.check_golden()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(b"")

    with pytest.raises(NotFoundError, match=r"Did you mean 'model\.tar\.gz'"):
        open_bundle(tmp_path / "modl.tar.gz")


def test_a_changed_file_is_noticed(trained: Path) -> None:
    other = changed(packed(trained), resealed=False, reference_json=None, recipe_json=b"{}")

    with pytest.raises(InvalidInputError, match=r"'recipe\.json' does not have the digest"):
        open_bundle(other)


@pytest.mark.parametrize("change", [{"extra_json": b"{}"}, {"golden_json": None}])
def test_files_beyond_the_manifest_are_refused(trained: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="but not in both"):
        open_bundle(changed(packed(trained), resealed=False, **change))


@pytest.mark.parametrize(
    "name", ["predictor_npz", "predictor_json", "recipe_json", "signature_json"]
)
def test_a_bundle_without_a_part_is_refused(trained: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match="lacks"):
        open_bundle(changed(packed(trained), **{name: None}))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b"[" * 50_000, b"cos\nsystem\n."]
)
@pytest.mark.parametrize(
    "name", ["predictor_json", "predictor_npz", "recipe_json", "signature_json"]
)
def test_parts_that_make_no_sense_are_refused(trained: Path, name: str, content: bytes) -> None:
    bundle = changed(packed(trained), **{name: content})

    with pytest.raises(InvalidInputError):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": "1"},
        {"name": "../x"},
        {"outcome": {"task": "binary", "classes": ["a", "b"], "threshold": 2}},
        {"outcome": {"task": "multiclass", "classes": ["a", "b"], "threshold": 0.5}},
        {"members": []},
        {"members": {"../x.json": "sha256:0"}},
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(trained: Path, changes: Any) -> None:
    with pytest.raises(InvalidInputError):
        open_bundle(with_manifest(packed(trained), **changes))


def test_a_predictor_of_another_model_is_refused(trained: Path, job_folder: JobFolder) -> None:
    other = job_folder("linear-learner", "regression")
    do_training_job(other)
    members = {name: path for name, path in model_members(other).items() if "predictor" in name}

    with pytest.raises(InvalidInputError, match="does not fit together"):
        packed(trained, members=members)


def test_a_bundle_beyond_the_limits_is_refused(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tar.gz"
    path.write_bytes(packed(trained))

    with pytest.raises(InvalidInputError, match="at most 1,000"):
        open_bundle(path, limits=ArchiveLimits(packed_bytes=1_000))


def test_opening_and_answering_loads_no_training_library(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(packed(trained))
    code = (
        "import sys, json; from pathlib import Path; from loopwright.train import open_bundle;"
        "before = [m for m in sys.modules if m == 'numpy'];"
        "model = open_bundle(Path('model.tar.gz')); model.check_golden();"
        "heavy = ('polars', 'sklearn', 'lightgbm', 'xgboost', 'pandas', 'scipy', 'sqlalchemy', 'numpy.ma');"
        "print(before, [name for name in heavy if name in sys.modules])"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(loopwright.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ended.stdout.strip() == "[] []"


def test_wild_requests_get_finite_answers(trained: Path) -> None:
    model = open_bundle(packed(trained))
    row = json.loads(model.read_member("golden.json"))["rows"][0]

    answers = model.predict([{**row, "area": 1e300, "town": "Elsewhere", "rooms": None}])

    assert np.isfinite(answers[0]["prediction"])
