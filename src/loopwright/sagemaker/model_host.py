"""The models below an S3 prefix, which one container serves: loaded when they are asked for first.

Each container has a process of its own, whose variants are the models that are loaded now. Of those
that nobody is asking, the one that was asked longest ago gives way when memory runs short.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core.digest import digest_value
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.deploy import (
    DesiredState,
    Endpoint,
    Variant,
    free_port,
    read_desired,
    wait_until_serving,
    write_desired,
)
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.invocation_form import model_error
from loopwright.sagemaker.model_place import model_of
from loopwright.sagemaker.s3.store import split_uri
from loopwright.sagemaker.serving_plan import host_name, job_of, variant_of

# SageMaker's own limit for one request; the model goes on loading
_WAIT_S = 60.0
_SCRIPT_MIB, _BUNDLE_MIB, _UNPACKED = 256, 16, 4


@dataclass(slots=True)
class _Model:
    """A model that is loaded: how it is asked, what memory it is thought to take."""

    asked: dict[str, Any]
    memory_mib: int
    n_asking: int = 0
    asked_at: float = 0.0


@dataclass(slots=True)
class _Host:
    """What is known of the process of one container; `loading` is held while it is changed."""

    loading: threading.Lock = field(default_factory=threading.Lock)
    models: dict[str, _Model] = field(default_factory=dict)
    # of the file that says what it should serve
    stamp: tuple[int, ...] = ()


_hosts: dict[Path, _Host] = {}
_guard = threading.Lock()


@contextmanager
def loaded(
    desk: Desk, caller: Caller, arn: str, variant: Mapping[str, Any], place: int, target: str
) -> Iterator[dict[str, Any]]:
    """Give a model that can be asked as long as it is held, as `called_model` takes it.

    Parameters
    ----------
    arn, variant, place
        The endpoint, its variant, and the number of the container that has many models.
    target
        The model's key below the prefix.

    Raises
    ------
    ApiError
        `ValidationError` if there is no such model, `ModelNotReadyException` if it takes longer to
        load than a request may wait, `ModelError` if it cannot be loaded.
    """
    container = variant["containers"][place]
    uri = container["prefix"] + target.lstrip("/")
    own = _name(desk, uri)
    folder = desk.workspace.endpoint_folder(host_name(arn, variant, container))
    with _guard:
        host = _hosts.setdefault(folder, _Host())
        model = _taken(host, own, folder)
    if model is None:
        with host.loading:
            with _guard:
                model = _taken(host, own, folder)
            if model is None:
                model = _load(desk, caller, arn, (variant, container), uri, (own, folder, host))
    try:
        yield model.asked
    finally:
        with _guard:
            model.n_asking -= 1


def forget(desk: Desk, arn: str, variant: Mapping[str, Any], place: int) -> None:
    """Know nothing of the process of a container any more: it is gone, or another one."""
    name = host_name(arn, variant, variant["containers"][place])
    with _guard:
        _hosts.pop(desk.workspace.endpoint_folder(name), None)


def _taken(host: _Host, own: str, folder: Path) -> _Model | None:
    if host.stamp != _stamp(folder):
        # the process has ended, or another server asked it for something else
        host.models.clear()
    found = host.models.get(own)
    if found is not None:
        found.n_asking += 1
        found.asked_at = time.monotonic()
    return found


def _stamp(folder: Path) -> tuple[int, ...]:
    try:
        seen = Endpoint("", folder).desired_path.stat()
    except OSError:
        return ()
    return (seen.st_mtime_ns, seen.st_ino, seen.st_size)


def _write(host: _Host, folder: Path, wanted: DesiredState) -> None:
    with _guard:
        write_desired(folder, wanted)
        host.stamp = _stamp(folder)


def _name(desk: Desk, uri: str) -> str:
    """Return what a model is called in the process: another name for other bytes."""
    bucket, key = split_uri(uri)
    try:
        entry = desk.objects.get(bucket, key)
    except ApiError as error:
        raise ApiError(
            "ValidationError",
            f"Failed to download model data (bucket: {bucket}, key: {key}). Please ensure that there "
            "is an object located at the URL and that the role passed to CreateModel has permissions "
            "to download the model.",
        ) from error
    return f"m-{digest_value([bucket, key, entry.etag, entry.size])[7:31]}"


def _load(
    desk: Desk,
    caller: Caller,
    arn: str,
    about: tuple[Mapping[str, Any], Mapping[str, Any]],
    uri: str,
    at: tuple[str, Path, _Host],
) -> _Model:
    variant, container = about
    own, folder, host = at
    try:
        model = model_of(desk, {**container["container"], "ModelDataUrl": uri})
        wanted = {**variant, **model, "own": own}
        served = variant_of(desk, caller, wanted, weight=1.0, shadow=False)
    except (ApiError, InvalidInputError) as error:
        said = error.message if isinstance(error, ApiError) else str(error)
        raise model_error(500, said) from error
    memory_mib = _memory_mib(model)
    limit_mib = container["memory_mib"] if container["keeps"] else 0
    with _guard:
        leaving = to_leave(host.models, limit_mib=limit_mib - memory_mib)
        for name in leaving:
            del host.models[name]
        known = set(host.models)
    port = _served(desk, arn, (Endpoint(folder.name, folder), host), served, keep=known)
    found = _Model(
        asked={**model, "own": own, "port": port},
        memory_mib=memory_mib,
        n_asking=1,
        asked_at=time.monotonic(),
    )
    with _guard:
        host.models[own] = found
    return found


def to_leave(models: Mapping[str, _Model], *, limit_mib: int) -> list[str]:
    """Return the models that give way so that the others fit: of the idle ones, the oldest first."""
    used = sum(each.memory_mib for each in models.values())
    idle = [name for name, each in models.items() if not each.n_asking]
    found: list[str] = []
    for name in sorted(idle, key=lambda name: models[name].asked_at):
        if used <= limit_mib:
            break
        found.append(name)
        used -= models[name].memory_mib
    return found


def _memory_mib(model: Mapping[str, Any]) -> int:
    """Return what a model is thought to take: a script a process, a bundle what it unpacks to."""
    size_mib = Path(model["path"]).stat().st_size >> 20
    if model["kind"] == "script":
        return _SCRIPT_MIB + _UNPACKED * size_mib
    return _BUNDLE_MIB + _UNPACKED * size_mib


def _served(
    desk: Desk, arn: str, at: tuple[Endpoint, _Host], added: Variant, *, keep: set[str]
) -> int:
    """Have a process serve one model more; return its port.

    Parameters
    ----------
    keep
        The models that stay. What the process serves beside is unloaded.
    """
    endpoint, host = at
    folder = endpoint.folder
    folder.mkdir(parents=True, exist_ok=True)
    known = read_desired(folder) if endpoint.desired_path.exists() else None
    before = known.variants if known else ()
    stay = tuple(each for each in before if each.name in keep)
    wanted = DesiredState(
        name=endpoint.name,
        generation=known.generation + 1 if known else 1,
        port=known.port if known else free_port(),
        variants=(*stay, added),
    )
    old = desk.workspace.compute.find(f"endpoint/{endpoint.name}")
    is_running = old is not None and not old.state.has_ended
    if is_running and known is not None and added in before and len(stay) + 1 == len(before):
        # it has been loading since an earlier request
        wanted, host.stamp = known, _stamp(folder)
    else:
        _write(host, folder, wanted)
    try:
        return _port(desk, arn, endpoint, wanted.generation, known=old.id if old else "")
    except BackendError as error:
        if error.retryable:
            raise ApiError(
                "ModelNotReadyException", "Model is not ready for inference yet.", status=429
            ) from error
        if stay:
            back = {"generation": wanted.generation + 1, "variants": stay}
            _write(host, folder, msgspec.structs.replace(wanted, **back))
        else:
            _end(desk, endpoint)
        raise model_error(500, str(error)) from error


def _end(desk: Desk, endpoint: Endpoint) -> None:
    """End a process that has no model to serve."""
    job = desk.workspace.compute.find(f"endpoint/{endpoint.name}")
    if job is not None and not job.state.has_ended:
        desk.workspace.compute.stop(job.id, grace_s=5.0)
    endpoint.desired_path.unlink(missing_ok=True)


def _port(desk: Desk, arn: str, endpoint: Endpoint, generation: int, *, known: str) -> int:
    """Return where a process serves a generation, which is started if it does not run."""
    compute = desk.workspace.compute
    spec = job_of(desk, endpoint, key=endpoint.name, arn=arn, models=endpoint.name)
    job = compute.submit(spec)
    try:
        state = wait_until_serving(
            endpoint.folder,
            generation=generation,
            timeout_s=_WAIT_S,
            is_alive=lambda: not compute.get(job.id).state.has_ended,
        )
    except BackendError:
        if job.id != known or not compute.get(job.id).state.has_ended:
            raise
        # it had ended already, unnoticed
        return _port(desk, arn, endpoint, generation, known="")
    return state.port or 0
