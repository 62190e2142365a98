"""An environment for one job alone, above one that others share: what it installs is gone with it.

Standard library only, since the process that starts a script imports it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

_PIP = """#!/bin/sh
exec {python} -m pip "$@"
"""
_UV = """#!/bin/sh
command="$1"
shift
exec {uv} pip "$command" --python {python} "$@"
"""


def own_environment(folder: Path, python: str, *, packages: Sequence[str]) -> str:
    """Return an interpreter that finds what another finds, and installs into a folder.

    Scripts run `pip install` in the middle of their work; without this it would change what later
    jobs of the same requirements find, or loopwright itself. Takes about a millisecond.

    Parameters
    ----------
    folder
        Where the environment is made; what was there is removed.
    python
        The interpreter of the environment beneath.
    packages
        The folders of packages beneath, where `python` is no environment that was made for scripts.
    """
    shutil.rmtree(folder, ignore_errors=True)
    release = "python{}.{}".format(*sys.version_info[:2])
    place = folder / "lib" / release / "site-packages"
    place.mkdir(parents=True)
    (folder / "bin").mkdir()
    real = os.path.realpath(python)
    for name in ("python", "python3", release):
        (folder / "bin" / name).symlink_to(real)
    (folder / "pyvenv.cfg").write_text(
        f"home = {os.path.dirname(real)}\ninclude-system-site-packages = false\n"  # noqa: PTH120
    )
    shared = Path(python).parent.parent / "lib" / release / "site-packages"
    beneath = list(dict.fromkeys([*([str(shared)] if shared.is_dir() else []), *packages]))
    lines = [f"import site; site.addsitedir({each!r})" for each in beneath]
    (place / "loopwright-shared.pth").write_text("\n".join(lines) + "\n")
    own = folder / "bin" / "python"
    _write_pip(folder / "bin", own, beneath)
    return str(own)


def _write_pip(folder: Path, python: Path, beneath: Sequence[str]) -> None:
    """Write the command pip, so that no other one is found that would install elsewhere."""
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.defpath]))
    has_pip = any((Path(each) / "pip").is_dir() for each in beneath)
    text = _UV if uv is not None and not has_pip else _PIP
    content = text.format(python=shlex.quote(str(python)), uv=shlex.quote(uv or "uv"))
    for name in ("pip", "pip3"):
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
