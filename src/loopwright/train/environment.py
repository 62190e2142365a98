"""Environments of packages for scripts: installed once for the same requirements, then kept.

Standard library only, since the process that starts a script imports it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from loopwright.core.errors import BackendError

_COMPLETE = ".complete"
_GLANCE_S = 0.1
_FORMAT = 1
# so long after packages of an image could not be had, they are not asked for again
_RETRY_S = 600.0
_PACKAGE = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def framework_python(
    requirements: Path | None,
    *,
    framework: Sequence[str],
    root: Path,
    python: str,
    packages: Sequence[str],
    beside: Path,
) -> str:
    """Return the interpreter of a script that counts on a framework's image, and requires more.

    What the file requires wins over the framework. Where the framework cannot be had, without a
    network say, the log says so and the packages beneath serve in its place.

    Parameters
    ----------
    framework
        What an image has, as pip reads it: `scikit-learn==1.2.*`, or an option.

    Raises
    ------
    BackendError
        If what the file requires cannot be installed.
    """
    wanted = requirements if requirements and requirements.read_bytes().strip() else None
    own = _named(wanted)
    kept = tuple(each for each in framework if _package(each) not in own)
    if kept:
        missed = root / f"{_name(wanted, python, packages, beside, kept)}.missed"
        if not missed.exists() or time.time() - missed.stat().st_mtime > _RETRY_S:
            try:
                found = environment_python(
                    wanted,
                    root=root,
                    python=python,
                    packages=packages,
                    beside=beside,
                    framework=kept,
                )
                return str(found)
            except BackendError:
                missed.touch()
        print(
            f"The packages of the image ({', '.join(kept)}) cannot be installed; "
            "the script gets those of loopwright.",
            flush=True,
        )
    if requirements is None:
        return python
    return str(
        environment_python(requirements, root=root, python=python, packages=packages, beside=beside)
    )


def _named(requirements: Path | None) -> set[str]:
    """Return the packages that a file requires, by their normal names."""
    if requirements is None:
        return set()
    lines = requirements.read_text(errors="replace").splitlines()
    return {_package(line) for line in lines if line.strip()}


def _package(line: str) -> str:
    found = _PACKAGE.match(line)
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else ""


def environment_python(
    requirements: Path | None,
    *,
    root: Path,
    python: str,
    packages: Sequence[str],
    beside: Path,
    framework: Sequence[str] = (),
) -> Path:
    """Return the interpreter of an environment that has what a file requires.

    It is made at the first call, and found at every later one, also without a network. Two
    processes that want the same one make one: the second waits. The packages of loopwright's own
    environment stay visible beneath it, as those of a framework's image do on SageMaker.

    Parameters
    ----------
    requirements
        A file as pip reads it; None for the framework alone.
    root
        The folder of all environments.
    python
        The interpreter the environment is for.
    packages
        Folders of packages visible beneath.
    beside
        The folder of the code, in which relative paths of the file are looked up; when the file
        refers to others, all of it is part of what makes the environment the same.
    framework
        What is installed together with it, as pip reads it.

    Raises
    ------
    BackendError
        If a package cannot be installed; the installer's own words stand in the log.
    """
    folder = root / _name(requirements, python, packages, beside, framework)
    interpreter = folder / "bin" / "python"
    if (folder / _COMPLETE).exists():
        return interpreter
    root.mkdir(parents=True, exist_ok=True)
    with _held(root / f"{folder.name}.lock"):
        if not (folder / _COMPLETE).exists():
            # what a killed process left behind
            shutil.rmtree(folder, ignore_errors=True)
            wanted = [*framework, *(("-r", str(requirements)) if requirements else ())]
            _make(folder, wanted, python=python, packages=packages, beside=beside)
            (folder / _COMPLETE).touch()
    return interpreter


def _name(
    requirements: Path | None,
    python: str,
    packages: Sequence[str],
    beside: Path,
    framework: Sequence[str] = (),
) -> str:
    content = requirements.read_bytes() if requirements else b""
    version = "{}.{}.{}".format(*sys.version_info[:3])
    sha = hashlib.sha256(repr((_FORMAT, version, python, tuple(packages))).encode())
    sha.update(content)
    if framework:
        sha.update(repr(tuple(framework)).encode())
    if _refers(content):
        for path in sorted(each for each in beside.rglob("*") if each.is_file()):
            sha.update(path.relative_to(beside).as_posix().encode() + b"\0" + path.read_bytes())
    return sha.hexdigest()[:24]


def _refers(content: bytes) -> bool:
    """Tell whether requirements name other files."""
    starts = (b"-r", b"-c", b"-e", b"--requirement", b"--constraint", b"--editable", b".", b"/")
    lines = [line.strip() for line in content.splitlines()]
    return any(line.startswith(starts) or b"file:" in line for line in lines)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a lock that is gone when the process is, however it ends."""
    with path.open("a") as file:
        waits = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waits:
                    print("Another job is installing the same requirements; waiting for it.")
                waits = True
                time.sleep(_GLANCE_S)
        yield


def _make(
    folder: Path, wanted: Sequence[str], *, python: str, packages: Sequence[str], beside: Path
) -> None:
    started = time.monotonic()
    print("Installing the requirements, once; the next job finds them.", flush=True)
    uv = _uv(python)
    if uv is None or not _made_by_uv(uv, folder, wanted, python=python, beside=beside):
        shutil.rmtree(folder, ignore_errors=True)
        _made_by_pip(folder, wanted, python=python, packages=packages, beside=beside)
    _show_beneath(folder, packages)
    print(f"Installed in {time.monotonic() - started:.1f} s.", flush=True)


def _uv(python: str) -> str | None:
    beside = Path(python).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def _made_by_uv(uv: str, folder: Path, wanted: Sequence[str], *, python: str, beside: Path) -> bool:
    made = _run([uv, "venv", "--quiet", "--python", python, str(folder)], beside)
    if made != 0:
        return False
    interpreter = str(folder / "bin" / "python")
    if _run([uv, "pip", "install", "--python", interpreter, *wanted], beside) == 0:
        return True
    # uv does not read pip's configuration, which may name where packages come from
    print("uv could not install them; trying pip.", flush=True)
    return False


def _made_by_pip(
    folder: Path, wanted: Sequence[str], *, python: str, packages: Sequence[str], beside: Path
) -> None:
    shown = Path(wanted[-1]).name
    if _run([python, "-m", "venv", str(folder)], beside) != 0:
        raise _failure("The environment of the script cannot be made", shown)
    # seen before the installation, so that what is there is not installed again
    _show_beneath(folder, packages)
    interpreter = str(folder / "bin" / "python")
    install = [interpreter, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    if _run([*install, *wanted], beside) != 0:
        shutil.rmtree(folder, ignore_errors=True)
        raise _failure("The requirements of the script cannot be installed", shown)


def _show_beneath(folder: Path, packages: Sequence[str]) -> None:
    (place,) = folder.glob("lib/python3*/site-packages")
    lines = [f"import site; site.addsitedir({each!r})" for each in packages]
    (place / "loopwright-beneath.pth").write_text("\n".join(lines) + "\n")


def _run(command: list[str], folder: Path) -> int:
    environment = {
        name: value
        for name, value in os.environ.items()
        # they would point the installer at another environment
        if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, check=False
    )
    return done.returncode


def _failure(what: str, shown: str) -> BackendError:
    return BackendError(
        f"{what} ({shown}).",
        hint="What the installer says stands above in the log.",
        field="requirements",
        value=shown,
    )
