"""`loopwright deploy`: one archive behind an endpoint."""

from __future__ import annotations

import http.client
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from loopwright.cli.main import cli

CODE = b"def model_fn(model_dir): return 3\ndef predict_fn(data, model): return data * model\n"


def loopwright(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        cli, ["--home", str(folder / "home"), *arguments], catch_exceptions=False
    )


def archive(path: Path, name: str, content: bytes) -> Path:
    with tarfile.open(path, "w:gz") as out:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        out.addfile(info, io.BytesIO(content))
    return path


def test_an_archive_with_code_is_served_exchanged_and_stopped(tmp_path: Path) -> None:
    first = archive(tmp_path / "model.tar.gz", "code/inference.py", CODE)
    broken = archive(tmp_path / "b.tar.gz", "code/inference.py", CODE.replace(b"return 3", b"1/0"))
    try:
        done = loopwright(tmp_path, "deploy", str(first), "--name", "mine", "--json")
        told = json.loads(done.output)
        failed = loopwright(tmp_path, "deploy", str(broken), "--name", "mine")

        line = http.client.HTTPConnection(told["url"].removeprefix("http://"), timeout=10)
        kind = {"Content-Type": "application/json"}
        line.request("POST", "/invocations", b"[1, 2]", kind)
        assert json.loads(line.getresponse().read()) == [3, 6]
        line.close()
    finally:
        stopped = loopwright(tmp_path, "stop", "endpoint/mine")

    assert (done.exit_code, told["own_code"]) == (0, True)
    assert failed.exit_code == 1
    assert "ZeroDivisionError" in failed.output
    assert stopped.exit_code == 0


@pytest.mark.parametrize(
    ("name", "why"),
    [("../code/inference.py", "plain relative path"), ("notes.pkl", "not one of the kinds")],
)
def test_an_archive_that_cannot_be_trusted_starts_nothing(
    tmp_path: Path, name: str, why: str
) -> None:
    path = archive(tmp_path / "model.tar.gz", name, CODE)

    refused = loopwright(tmp_path, "deploy", str(path), "--name", "mine")

    assert refused.exit_code == 2
    assert why in refused.output
    assert (
        loopwright(tmp_path, "endpoints", "--json").output.strip() in ("[]", "")
        or not (tmp_path / "home" / "endpoints").exists()
    )


def ask(told: dict[str, Any], variant: str | None = None) -> Any:
    line = http.client.HTTPConnection(told["url"].removeprefix("http://"), timeout=10)
    head = {"Content-Type": "application/json"}
    if variant is not None:
        head["X-Amzn-SageMaker-Target-Variant"] = variant
    line.request("POST", "/invocations", b"[1, 2]", head)
    said = json.loads(line.getresponse().read())
    line.close()
    return said


def test_several_archives_answer_a_part_each_and_one_can_take_over(tmp_path: Path) -> None:
    paths = {
        factor: archive(
            tmp_path / f"m{factor}.tar.gz",
            "code/inference.py",
            CODE.replace(b"return 3", b"return %d" % factor),
        )
        for factor in (3, 5, 7)
    }
    common = ("deploy", str(paths[3]), "--name", "mine", "--json")
    try:
        done = loopwright(
            tmp_path,
            *common,
            *("--variant", f"b={paths[5]}", "--weight", "b=0", "--shadow", f"idea={paths[7]}"),
        )
        told = json.loads(done.output)
        by_weight, by_name = ask(told), ask(told, "b")
        alone = json.loads(loopwright(tmp_path, *common).output)
        after = ask(alone)
    finally:
        loopwright(tmp_path, "stop", "endpoint/mine")

    assert set(told["variants"]) == {"main", "b", "idea"}
    assert told["version"] == told["variants"]["main"]
    assert (by_weight, by_name) == ([3, 6], [5, 10])
    assert "variants" not in alone
    assert (alone["url"], after) == (told["url"], [3, 6])


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--weight", "c=2"), "There is no variant 'c'"),
        (("--weight", "main=0"), "No variant would answer"),
        (("--variant", "main=model.tar.gz"), "Two variants are called 'main'"),
        (("--variant", "b"), "is not one NAME=VALUE"),
        (("--weight", "main=much"), "is no number"),
        (("--shadow", "b=none.tar.gz"), "There is no file"),
    ],
)
def test_a_split_that_cannot_be_served_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / "model.tar.gz", "code/inference.py", CODE)

    refused = loopwright(tmp_path, "deploy", "model.tar.gz", "--name", "mine", *more)

    assert refused.exit_code != 0
    assert why in refused.output
    assert not (tmp_path / "home" / "endpoints").exists()
