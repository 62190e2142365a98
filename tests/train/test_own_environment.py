from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

from loopwright.train.own_environment import own_environment

PACKAGES = (sysconfig.get_paths()["purelib"],)


def printed(python: str, code: str) -> str:
    done = subprocess.run(
        [python, "-c", code], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_a_job_finds_what_lies_beneath_and_installs_beside_it(tmp_path: Path) -> None:
    python = own_environment(tmp_path / "environment", sys.executable, packages=PACKAGES)

    where = printed(python, "import sysconfig; print(sysconfig.get_paths()['purelib'])")

    assert Path(where).is_relative_to(tmp_path)
    assert printed(python, "import numpy; print(numpy.__file__)").startswith(PACKAGES[0])
    assert printed(python, "import sys; print(sys.executable)") == python


def test_what_a_job_installs_wins_and_is_gone_with_it(tmp_path: Path) -> None:
    python = own_environment(tmp_path / "environment", sys.executable, packages=PACKAGES)
    (place,) = (tmp_path / "environment").glob("lib/python3*/site-packages")
    (place / "numpy.py").write_text("version = 'mine'\n")

    assert printed(python, "import numpy; print(numpy.version)") == "mine"
    again = own_environment(tmp_path / "environment", sys.executable, packages=PACKAGES)
    assert printed(again, "import numpy; print(numpy.__name__)") == "numpy"
    assert not (place / "numpy.py").exists()


def test_the_command_pip_is_that_of_the_job(tmp_path: Path) -> None:
    own_environment(tmp_path / "environment", sys.executable, packages=PACKAGES)
    (place,) = (tmp_path / "environment").glob("lib/python3*/site-packages")
    package = tmp_path / "probe"
    package.mkdir()
    (package / "pyproject.toml").write_text(
        "[project]\nname = 'loopwright-probe-own'\nversion = '1'\n"
        "[build-system]\nrequires = []\nbuild-backend = 'build_here'\nbackend-path = ['.']\n"
    )
    (package / "build_here.py").write_text(BACKEND)

    subprocess.run(
        [
            tmp_path / "environment/bin/pip3",
            "install",
            "--no-deps",
            "--no-build-isolation",
            package,
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )

    assert (place / "loopwright_probe_own.py").exists()


BACKEND = """
import zipfile
from pathlib import Path


def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "loopwright_probe_own-1-py3-none-any.whl"
    about = "loopwright_probe_own-1.dist-info"
    with zipfile.ZipFile(Path(folder) / name, "w") as file:
        file.writestr("loopwright_probe_own.py", "")
        file.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\\nName: loopwright-probe-own\\nVersion: 1\\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        file.writestr(f"{about}/RECORD", "")
    return name
"""
