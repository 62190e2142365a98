"""Build the compiled kernel where there is a compiler; everything works without it, only slower.

`python hatch_build.py` builds it in place, for work on its sources in `kernel/`.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # `python hatch_build.py` needs no hatchling
    BuildHookInterface = object  # type: ignore[assignment, misc]

ROOT = Path(__file__).parent
MODULE = Path("src/loopwright/core/_kernel.abi3.so")
# sums are to be rounded as written down: no fused multiply-add, no reordering
FLAGS = "-std=c11 -O3 -fPIC -shared -Wall -Wextra -ffp-contract=off -fvisibility=hidden"


def build_kernel(to: Path, *, flags: str = FLAGS) -> str:
    """Compile the kernel into the file `to` and return nothing, or why it could not be done."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    include = sysconfig.get_path("include")
    if os.environ.get("LOOPWRIGHT_KERNEL") == "off":
        return "LOOPWRIGHT_KERNEL is off"
    if sys.platform != "linux" or sys.implementation.name != "cpython":
        return f"it is not built for {sys.implementation.name} on {sys.platform}"
    if not Path(include, "Python.h").exists():
        return "Python's headers are not there (on Debian: apt install python3-dev)"
    sources = sorted(str(path) for path in (ROOT / "kernel").glob("*.c"))
    with tempfile.TemporaryDirectory(dir=to.parent) as scratch:
        made = Path(scratch, to.name)
        command = [*compiler, *flags.split(), f"-I{include}", *sources, "-o", str(made), "-lm"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return f"the C compiler cannot be started: {error}"
        if done.returncode:
            return f"the C compiler failed:\n{done.stderr[-2_000:]}"
        # at once: a process that has the old file open keeps it
        made.replace(to)
    return ""


class KernelHook(BuildHookInterface):  # type: ignore[type-arg, unused-ignore]
    """Puts the kernel into wheels, and beside the sources of an editable installation."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the kernel before the files are gathered."""
        del version
        reason = build_kernel(ROOT / MODULE)
        if reason:
            (ROOT / MODULE).unlink(missing_ok=True)
            self.app.display_warning(f"loopwright is built without its kernel: {reason}")
            return
        build_data["pure_python"] = False
        build_data["artifacts"].append(MODULE.as_posix())
        system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{system}"


if __name__ == "__main__":
    sys.exit(build_kernel(ROOT / MODULE) or 0)
