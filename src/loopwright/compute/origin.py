"""Where a job came from: what must be the same for it to give the same result again."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import msgspec

from loopwright.compute.job import Job, JobSpec
from loopwright.compute.resource import machine_capacity
from loopwright.core.digest import digest_bytes, digest_file
from loopwright.core.errors import NotFoundError

_SECRET = re.compile(r"(?i)(secret|token|passw|pwd|credential|api_?key|access_?key|private|auth)")
_WITH_PASSWORD = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
_DISTRIBUTION = re.compile(r"(.+?)-([^-]+)\.(?:dist|egg)-info")
REDACTED = "(not kept)"


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a job was made of.

    Parameters
    ----------
    command
        What was run.
    files
        Digest of every file it was given.
    env
        What it was given beside the usual environment; values that look secret are not kept.
    code
        `loopwright` and `python` versions; `commit` of the submitter's working folder, where it
        is a Git repository.
    packages
        Version of every package of the submitter's environment.
    seed
        The seed it worked with.
    hardware
        `cpu` (model), `cpus`, `memory_mib`, `gpus` (names), `machine` and `system` of the machine
        it was submitted on.
    checkpoint, varying
        See `JobSpec`.
    """

    command: tuple[str, ...]
    files: dict[str, str] = {}
    env: dict[str, str] = {}
    code: dict[str, str] = {}
    packages: dict[str, str] = {}
    seed: int | None = None
    hardware: dict[str, Any] = {}
    checkpoint: bool = False
    varying: tuple[str, ...] = ()
    format: int = 1


def origin_of(spec: JobSpec, *, folder: Path | None = None) -> Origin:
    """Return what a job that is being submitted is made of.

    Parameters
    ----------
    folder
        The working folder of whoever submits; by default, the present one.
    """
    return Origin(
        command=spec.command,
        files={name: _digest(content) for name, content in spec.files.items()},
        env={name: shown_value(name, value) for name, value in spec.env.items()},
        code=code_versions(folder or Path.cwd()),
        packages=package_versions(),
        seed=spec.seed,
        hardware=hardware(),
        checkpoint=spec.checkpoint,
        varying=spec.varying,
    )


def no_origin(job: Job) -> NotFoundError:
    """Return the error for a job whose origin nobody wrote down."""
    return NotFoundError(
        f"Nobody wrote down what the job {job.id} ({job.name}) was made of.",
        hint="It is of an older version, or its submitter was killed; submit it anew.",
        job=job.id,
    )


def _digest(content: bytes | Path) -> str:
    return digest_bytes(content) if isinstance(content, bytes) else digest_file(content)


def shown_value(name: str, value: str) -> str:
    """Return the value of an environment variable, unless its name or look says it is a secret."""
    if _SECRET.search(name) or _WITH_PASSWORD.search(value):
        return REDACTED
    return value


def code_versions(folder: Path) -> dict[str, str]:
    """Return the versions of the code that runs, and the commit a folder stands at, if any."""
    from importlib.metadata import version

    versions = {"loopwright": version("loopwright"), "python": platform.python_version()}
    commit = git_commit(folder)
    return versions | ({"commit": commit} if commit else {})


def git_commit(folder: Path) -> str | None:
    """Return the commit that the Git repository around a folder stands at, or None.

    Read from its files: starting Git would take longer than starting the job.
    """
    for parent in (folder, *folder.parents):
        git = parent / ".git"
        try:
            if git.is_file():
                # a worktree says where its own files are
                git = parent / git.read_text().removeprefix("gitdir:").strip()
            if git.is_dir():
                return _head(git)
        except OSError:
            return None
    return None


def _head(git: Path) -> str | None:
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref:"):
        return head or None
    name = head.removeprefix("ref:").strip()
    common = git / "commondir"
    root = git / common.read_text().strip() if common.exists() else git
    if (root / name).exists():
        return (root / name).read_text().strip()
    packed = root / "packed-refs"
    for line in packed.read_text().splitlines() if packed.exists() else []:
        commit, _, ref = line.partition(" ")
        if ref == name:
            return commit
    return None


def package_versions() -> dict[str, str]:
    """Return the version of every package that this process could import."""
    # looked up again when something was installed
    places = tuple((entry, _changed_at(entry)) for entry in dict.fromkeys(sys.path))
    return _package_versions(places)


@lru_cache(maxsize=4)
def _package_versions(places: tuple[tuple[str, int], ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry, changed_at in places:
        for name in os.listdir(entry or ".") if changed_at else ():  # noqa: PTH208 names suffice
            match = _DISTRIBUTION.fullmatch(name)
            if match:
                # what comes first on the path is what is imported
                found.setdefault(re.sub(r"[-_.]+", "-", match[1]).lower(), match[2])
    return dict(sorted(found.items()))


def _changed_at(entry: str) -> int:
    path = Path(entry or ".")
    try:
        return path.stat().st_mtime_ns if path.is_dir() else 0
    except OSError:
        return 0


@cache
def hardware() -> dict[str, Any]:
    """Return what this machine, or the container this process runs in, is."""
    capacity = machine_capacity()
    return {
        "cpu": _cpu_model(),
        "cpus": capacity.cpus,
        "memory_mib": capacity.memory_mib,
        "gpus": _gpu_names(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
    }


def _cpu_model() -> str:
    try:
        with Path("/proc/cpuinfo").open() as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() in ("model name", "Model", "Hardware"):
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpu_names() -> list[str]:
    names = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        try:
            fields = dict(
                line.split(":", 1) for line in path.read_text().splitlines() if ":" in line
            )
        except OSError:
            continue
        names.append(fields.get("Model", "").strip())
    return names


def differences(before: Origin, now: Origin) -> list[str]:
    """Return what is not as it was, in words: code, packages and hardware.

    A result may differ for any of them; none of them need change it.
    """
    said = _changed("", before.code, now.code) + _changed("", before.packages, now.packages)
    kept = {name: str(value) for name, value in before.hardware.items() if name != "system"}
    found = {name: str(value) for name, value in now.hardware.items() if name != "system"}
    return said + _changed("hardware ", kept, found)


def _changed(what: str, before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    names = sorted({*before, *now})
    return [
        f"{what}{name}: {before.get(name, 'none')} → {now.get(name, 'none')}"
        for name in names
        if before.get(name) != now.get(name)
    ]
