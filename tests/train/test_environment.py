from __future__ import annotations

import subprocess
import sys
import sysconfig
import threading
import time
import zipfile
from pathlib import Path

import pytest

from loopwright.core.errors import BackendError
from loopwright.train import environment
from loopwright.train.environment import environment_python, framework_python

PACKAGES = (sysconfig.get_paths()["purelib"],)


def wheel(folder: Path, *, version: str = "1.0") -> Path:
    """Write a package `loopwright_probe`, which no index is needed for."""
    path = folder / f"loopwright_probe-{version}-py3-none-any.whl"
    about = f"loopwright_probe-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("loopwright_probe.py", f"version = {version!r}\n")
        file.writestr(
            f"{about}/METADATA",
            f"Metadata-Version: 2.1\nName: loopwright-probe\nVersion: {version}\n",
        )
        file.writestr(
            f"{about}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        names = ["loopwright_probe.py", *(f"{about}/{n}" for n in ("METADATA", "WHEEL", "RECORD"))]
        file.writestr(f"{about}/RECORD", "".join(f"{name},,\n" for name in names))
    return path


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    code = tmp_path / "code"
    code.mkdir()
    (code / "requirements.txt").write_text(f"./{wheel(code).name}\n")
    return code / "requirements.txt"


@pytest.fixture(autouse=True)
def without_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep both installers from asking an index."""
    for name in ("PIP_NO_INDEX", "UV_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.setenv(name, "1")


def made(requirements: Path, root: Path) -> Path:
    return environment_python(
        requirements,
        root=root,
        python=sys.executable,
        packages=PACKAGES,
        beside=requirements.parent,
    )


def said(python: Path, code: str) -> str:
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "installer",
    ["uv", pytest.param("pip", marks=pytest.mark.slow)],  # pip brings itself: seconds
)
def test_an_environment_has_what_is_required_and_what_lies_beneath(
    requirements: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installer: str
) -> None:
    if installer == "pip":
        monkeypatch.setattr(environment, "_uv", lambda _: None)
    elif environment._uv(sys.executable) is None:
        pytest.skip("uv is not here")

    python = made(requirements, tmp_path / "environments")

    assert said(python, "import loopwright_probe as p; print(p.version)") == "1.0"
    assert said(python, "import click; print('seen')") == "seen"
    assert said(python, "import sys; print(sys.prefix)") == str(python.parents[1])


def test_the_same_requirements_are_found_again_without_an_installer(
    requirements: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(requirements, tmp_path / "environments")
    monkeypatch.setattr(subprocess, "run", None)

    assert made(requirements, tmp_path / "environments") == first


def test_other_content_of_a_file_that_is_referred_to_makes_another_environment(
    requirements: Path, tmp_path: Path
) -> None:
    code = requirements.parent
    first = environment._name(requirements, sys.executable, PACKAGES, code)
    (code / "part.txt").write_text("x")

    assert environment._name(requirements, sys.executable, PACKAGES, code) != first


def test_what_cannot_be_installed_fails_in_the_installers_words_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("no-such-package-as-this==9\n")

    def refuse(*arguments: object, **named: object) -> None:
        raise BackendError("The requirements of the script cannot be installed (r).")

    monkeypatch.setattr(environment, "_made_by_pip", refuse)
    with pytest.raises(BackendError, match="cannot be installed"):
        made(path, tmp_path / "environments")

    assert "no-such-package-as-this" in capfd.readouterr().err
    assert [each.suffix for each in (tmp_path / "environments").iterdir()] == [".lock"]


def test_an_environment_that_was_left_half_made_is_made_anew(
    requirements: Path, tmp_path: Path
) -> None:
    python = made(requirements, tmp_path / "environments")
    (python.parents[1] / ".complete").unlink()
    python.unlink()

    assert said(made(requirements, tmp_path / "environments"), "print(1)") == "1"


def test_two_jobs_that_want_the_same_one_make_one(
    requirements: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makes = []

    def slow(folder: Path, *_: object, **__: object) -> None:
        makes.append(folder)
        time.sleep(0.2)
        folder.mkdir()

    monkeypatch.setattr(environment, "_make", slow)
    root = tmp_path / "environments"
    threads = [threading.Thread(target=made, args=(requirements, root)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(makes) == 1


def of_image(requirements: Path | None, root: Path, *framework: str) -> str:
    return framework_python(
        requirements,
        framework=framework,
        root=root,
        python=sys.executable,
        packages=PACKAGES,
        beside=root.parent / "code",
    )


def version_in(python: str) -> str:
    told = subprocess.run(
        [python, "-c", "import loopwright_probe; print(loopwright_probe.version)"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return told.stdout.strip()


def test_a_script_without_requirements_gets_the_packages_of_its_image(
    requirements: Path, tmp_path: Path
) -> None:
    (package,) = requirements.parent.glob("*.whl")

    python = of_image(None, tmp_path / "environments", f"loopwright-probe @ {package.as_uri()}")

    assert version_in(python) == "1.0"


def test_what_a_script_requires_wins_over_its_image(requirements: Path, tmp_path: Path) -> None:
    other = wheel(tmp_path, version="2.0")
    (package,) = requirements.parent.glob("*.whl")
    requirements.write_text(f"Loopwright_Probe @ {package.as_uri()}\n")

    python = of_image(
        requirements, tmp_path / "environments", f"loopwright-probe @ {other.as_uri()}"
    )

    assert version_in(python) == "1.0"


def test_an_image_whose_packages_cannot_be_had_is_told_and_the_script_runs_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    attempts = []

    def refused(command: list[str], folder: Path) -> int:
        attempts.append(command)
        return 1

    monkeypatch.setattr(environment, "_run", refused)
    (tmp_path / "code").mkdir()

    first = of_image(None, tmp_path / "environments", "scikit-learn==1.2.*")
    n_attempts = len(attempts)
    second = of_image(None, tmp_path / "environments", "scikit-learn==1.2.*")

    assert first == second == sys.executable
    assert capfd.readouterr().out.count("the script gets those of loopwright") == 2
    # a machine without a network does not wait for it at every job
    assert len(attempts) == n_attempts > 0
