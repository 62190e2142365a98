"""The kernel's own tests, run on a kernel that watches every access to memory."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = (
    "tests/core/test_kernel.py",
    "tests/prepare/test_row_reader.py",
    "tests/deploy/test_whole_way.py",
)


def _library(name: str) -> str:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc")
    found = subprocess.run(
        [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(found).is_absolute():
        pytest.skip(f"gcc comes without {name}")
    return found


@pytest.mark.slow
def test_the_kernel_reads_and_writes_nothing_that_is_not_its_own(tmp_path: Path) -> None:
    preload = _library("libasan.so")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    module = source / "loopwright" / "core" / "_kernel.abi3.so"
    reason = build.build_kernel(
        module, flags=f"{build.FLAGS} -g -fsanitize=address,undefined -fno-sanitize-recover=all"
    )
    assert not reason

    # the sanitizer holds on to what was freed
    options = ("-q", "-p", "no:cacheprovider", "-k", "not memory")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *TESTS],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(source),
            "LD_PRELOAD": preload,
            # Python itself keeps memory to its end
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
    assert "skipped" not in done.stdout.splitlines()[-1]
