from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loopwright.compute import JobSpec, Resources
from loopwright.core.errors import InvalidInputError, LoopwrightError, NotFoundError
from loopwright.train.script import script_job


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train_model.py"
    path.write_text("print('hello')\n")
    return path


def order_of(spec: JobSpec) -> dict[str, Any]:
    content = spec.files["script.json"]
    assert isinstance(content, bytes)
    value: dict[str, Any] = json.loads(content)
    return value


def test_a_script_alone_becomes_a_job_with_what_it_declares(script: Path, tmp_path: Path) -> None:
    spec = script_job(
        script, home=tmp_path, resources=Resources(cpus=1.5, memory="1 GiB"), time_limit_s=60
    )

    assert (spec.name, spec.kind) == ("train-model", "script")
    assert spec.files["code/train_model.py"] == script
    assert order_of(spec)["cpus"] == 2
    assert order_of(spec)["time_limit_s"] == 60
    assert spec.time_limit_s is not None
    assert spec.time_limit_s > 90  # the script is given 30 s to end, and its model is packed


def test_each_submission_is_a_job_of_its_own(script: Path, tmp_path: Path) -> None:
    assert script_job(script, home=tmp_path).key != script_job(script, home=tmp_path).key


def test_a_folder_of_code_is_copied_without_what_is_no_code(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for name in ("lib/part.py", "train.py", ".git/config", "__pycache__/x.pyc", "requirements.txt"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("")

    spec = script_job("train.py", home=tmp_path, source_dir=source)

    assert sorted(name for name in spec.files if name.startswith("code/")) == [
        "code/lib/part.py",
        "code/requirements.txt",
        "code/train.py",
    ]
    assert order_of(spec)["requirements"] == "code/requirements.txt"


def test_values_of_variables_are_in_no_file(script: Path, tmp_path: Path) -> None:
    spec = script_job(script, home=tmp_path, env={"TOKEN": "hunter2secret"})

    assert order_of(spec)["variables"] == ["TOKEN"]
    assert spec.env["TOKEN"] == "hunter2secret"
    assert "hunter2secret" not in repr(spec) + repr(spec.files)


def test_credentials_of_an_index_reach_only_a_job_that_installs(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@example.org/simple")
    (tmp_path / "requirements.txt").write_text("numpy\n")

    with_some = script_job(script, home=tmp_path, requirements=tmp_path / "requirements.txt")

    assert "PIP_INDEX_URL" in with_some.env
    assert "PIP_INDEX_URL" not in script_job(script, home=tmp_path).env


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hyperparameters": {"two words": 1}}, "hyperparameters of a script job .* 'two words'"),
        ({"hyperparameters": {"a=b": 1}}, "'a=b'.*without spaces, '='"),
        ({"hyperparameters": {"": 1}}, "cannot be ''"),
        ({"hyperparameters": {"-x": 1}}, "leading hyphen"),
        ({"hyperparameters": {"rate": float("nan")}}, "'rate' is nan, which cannot be an argument"),
        ({"hyperparameters": {"model": object()}}, "'model' is <object"),
        ({"hyperparameters": {"text": "a\0b"}}, "NUL"),
        ({"metrics": {"rmse": "rmse: ([0-9"}}, "'rmse' is no regular expression: unterminated"),
        ({"metrics": {"rmse": "rmse: [0-9]+"}}, "Put parentheses around the number"),
        ({"channels": {"tr ain": "."}}, "channels of a script job cannot be 'tr ain'"),
        ({"channels": {"..": "."}}, "cannot be '..'"),
        ({"channels": {"train": ".", "TRAIN": "."}}, "same environment variable"),
        ({"time_limit_s": 0}, "time_limit_s of a script job cannot be 0"),
        ({"name": "a/b"}, "name of a script job cannot be 'a/b'"),
        ({"env": {"A=B": "1"}}, "env cannot be 'A=B'"),
    ],
)
def test_what_cannot_be_used_is_named(
    script: Path, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        script_job(script, home=tmp_path, **given)


@pytest.mark.parametrize(
    ("script_name", "given", "message"),
    [
        ("train_modle.py", {}, "script .* does not exist. Did you mean 'train_model.py'"),
        (".", {}, "is a folder"),
        ("train_model.py", {"channels": {"train": "no/where"}}, "channel 'train' is 'no/where'"),
        ("train_model.py", {"requirements": "none.txt"}, "requirements .* does not exist"),
        ("train_model.py", {"source_dir": "no-folder"}, "no folder 'no-folder'"),
        ("other.py", {"source_dir": "."}, "no script 'other.py' in '.'"),
    ],
)
def test_what_does_not_exist_is_named_with_what_is_near(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script_name: str,
    given: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(NotFoundError, match=message):
        script_job(script_name, home=tmp_path / "home", **given)

    assert not (tmp_path / "home").exists()


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("1,2\n")
    (tmp_path / "train").write_text("#!/usr/bin/env python\n")

    with pytest.raises(InvalidInputError, match=r"'rows.csv' is no script") as caught:
        script_job(tmp_path / "rows.csv", home=tmp_path)
    assert "loopwright init rows.csv" in str(caught.value)
    assert script_job(tmp_path / "train", home=tmp_path).name == "train"


def test_data_among_the_code_is_sent_to_a_channel(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "train.py").write_text("")
    with (source / "rows.bin").open("wb") as file:
        file.truncate(300 << 20)

    with pytest.raises(LoopwrightError, match=r"300 MiB of files.*Give data as a channel"):
        script_job("train.py", home=tmp_path, source_dir=source)
