"""An endpoint of one file: a bundle, or a user's own code with its model, without a loop."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import BackendError, InvalidInputError, NotFoundError, WrongStateError
from loopwright.core.names import checked_name, did_you_mean
from loopwright.core.quantity import mebibytes
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

if TYPE_CHECKING:
    from loopwright.compute import JobSpec
    from loopwright.deploy import CodeSettings, DesiredState, EndpointClient, Scale, Variant
    from loopwright.loop import Workspace

# stands where the name of a loop stands for the endpoints of loops, which it cannot be
_BY_HAND = "(deployed by hand)"
_START_S = 60.0
_VERSION_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedEndpoint:
    """An endpoint that answers: where, which version, and the job that is its process.

    `variants` has the version of each variant, where there are several; `version` then is that of
    the one with the greatest weight.
    """

    name: str
    host: str
    port: int
    version: str
    job: str
    is_own_code: bool
    variants: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it answers; add `/invocations`."""
        return f"http://{self.host}:{self.port}"

    def client(self, **settings: Any) -> EndpointClient:
        """Return a client for rows; own code is asked with whatever its `input_fn` reads."""
        from loopwright.deploy import EndpointClient

        return EndpointClient(self.host, self.port, **settings)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "name": self.name,
            "url": self.url,
            "version": self.version,
            "job": self.job,
            "own_code": self.is_own_code,
            **({"variants": dict(self.variants)} if self.variants else {}),
        }


def deploy(
    model: str | Path,
    *,
    name: str,
    variants: Mapping[str, str | Path] | None = None,
    weights: Mapping[str, float] | None = None,
    shadows: Mapping[str, str | Path] | None = None,
    port: int | None = None,
    workers: int | Mapping[str, Any] = 1,
    capture_share: float = 1.0,
    program: str = "inference.py",
    timeout_s: float = 60.0,
    start_timeout_s: float = 600.0,
    memory: str = "4 GiB",
    env: Mapping[str, str] | None = None,
    home: str | Path | None = None,
) -> DeployedEndpoint:
    """Put a `model.tar.gz` behind an endpoint of its own, or exchange the one that is there.

    An archive with `code/` is a user's own: `model_fn(model_dir)`, `input_fn`, `predict_fn`,
    `output_fn` or `transform_fn` of SageMaker's contract, with `code/requirements.txt`. It runs in
    a process and an environment of its own. Any other archive must be a bundle made by loopwright.

    Parameters
    ----------
    model
        The archive.
    name
        Of the endpoint.
    variants
        Further archives by name that answer a part of the callers each; `model` is called `main`.
        A caller stays with a variant: see `X-Sticky-Key`.
    weights
        The parts by name, in proportion to one another; 1 each unless you say otherwise, and 0
        answers only requests that ask for it by name.
    shadows
        Archives by name that are asked what the others answer, and seen by the capture alone.
    port
        Where it listens; a free one is chosen, and kept, when it is absent.
    workers
        How many processes answer; or `{"least": 0, "most": 4, "idle": "10 minutes"}`.
    capture_share
        Share of the predictions that is kept, 0 to 1.
    program, timeout_s, start_timeout_s, memory, env
        Of own code: its file below `code/`, the longest time of one answer and of its start, the
        memory of the process and all it starts, environment variables.
    home
        The folder of the store.

    Raises
    ------
    InvalidInputError
        If the archive cannot be used; nothing was started.
    WrongStateError
        If a loop has an endpoint of that name.
    BackendError
        If the model does not start; what was served before still is.
    """
    from loopwright.deploy import CodeSettings, checked_code

    checked_name(name, what="endpoint")
    asked = _asked(Path(model), variants or {}, weights or {}, shadows or {})
    code = CodeSettings(
        program=program,
        timeout_s=timeout_s,
        start_timeout_s=start_timeout_s,
        memory=memory,
        variables=dict(env or {}),
    )
    if any(each.is_code for each in asked):
        checked_code(code)
    settings = read_settings(os.environ, home=Path(home) if home else None)
    workspace = open_workspace(settings)
    owner = workspace.metadata.find("endpoint", name)
    if owner is not None and owner.body["loop"] != _BY_HAND:
        raise WrongStateError(
            f"The endpoint {name!r} belongs to the loop {owner.body['loop']!r}.",
            hint="Give another name, or let the loop deploy its model.",
            kind="endpoint",
            name=name,
        )
    import msgspec

    environments = str((settings.home / "environments").absolute())
    code = msgspec.structs.replace(code, environments=environments)
    return _served(workspace, asked, name, code, port, workers, capture_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """An archive that is to answer, and what its part is."""

    name: str
    path: Path
    is_code: bool
    weight: float = 1.0
    is_shadow: bool = False


def _asked(
    model: Path,
    variants: Mapping[str, str | Path],
    weights: Mapping[str, float],
    shadows: Mapping[str, str | Path],
) -> list[_Asked]:
    from loopwright.deploy.variant import MAIN, Variant, checked_variants

    live = [(MAIN, model), *((name, Path(path)) for name, path in variants.items())]
    odd = [name for name in weights if name not in dict(live)]
    if odd:
        raise InvalidInputError(
            f"There is no variant {odd[0]!r} to give a weight to.",
            hint=did_you_mean(odd[0], [name for name, _ in live]),
            field="weights",
            value=odd[0],
        )
    asked = [
        _Asked(name=name, path=path, is_code=_has_code(path), weight=weights.get(name, 1.0))
        for name, path in live
    ]
    asked += [
        _Asked(name=name, path=Path(path), is_code=_has_code(Path(path)), is_shadow=True)
        for name, path in shadows.items()
    ]
    checked_variants(
        [
            Variant(name=e.name, bundle="", version="", weight=e.weight, shadow=e.is_shadow)
            for e in asked
        ]
    )
    return asked


def _has_code(path: Path) -> bool:
    """Return whether an archive holds a user's own code; check it before anything is started."""
    from loopwright.deploy.code_archive import CODE_FOLDER, archive_names

    if not path.is_file():
        raise NotFoundError(
            f"There is no file {str(path)!r}.",
            hint="Give a model.tar.gz; a loop file is deployed by `loopwright run`.",
            kind="model",
            name=str(path),
        )
    if path.suffix in (".yaml", ".yml"):
        raise InvalidInputError(
            f"{path.name} is a loop file.",
            hint=f"`loopwright run {path}` deploys its model when it may go live.",
            field="model",
            value=str(path),
        )
    names = archive_names(path)
    return any(each.startswith(f"{CODE_FOLDER}/") for each in names)


def _served(
    workspace: Workspace,
    asked: list[_Asked],
    name: str,
    code: CodeSettings,
    port: int | None,
    workers: int | Mapping[str, Any],
    capture_share: float,
) -> DeployedEndpoint:
    from loopwright.deploy import (
        CaptureSettings,
        DesiredState,
        Endpoint,
        free_port,
        read_desired,
        wait_until_serving,
        write_desired,
    )
    from loopwright.train import open_bundle

    for each in asked:
        if not each.is_code:
            open_bundle(each.path).check_golden()
    variants = [_variant(workspace, each, code) for each in asked]
    main = variants[0]
    folder = workspace.endpoint_folder(name)
    endpoint = Endpoint(name, folder)
    known = read_desired(folder) if endpoint.desired_path.exists() else None
    models: dict[str, Any] = {"variants": tuple(variants)}
    if len(variants) == 1:
        models = {
            "bundle": main.bundle,
            "bundle_digest": main.bundle_digest,
            "version": main.version,
            "code": main.code,
        }
    wanted = DesiredState(
        name=name,
        generation=known.generation + 1 if known else 1,
        port=port or (known.port if known else 0) or free_port(),
        capture=CaptureSettings(folder=str(endpoint.capture_folder), share=capture_share),
        workers=_workers(workers),
        **models,
    )
    job = workspace.compute.find(f"endpoint/{name}")
    is_alive = job is not None and not job.state.has_ended
    stays = known is not None and (known.port, known.workers) == (wanted.port, wanted.workers)
    if job is not None and is_alive and not stays:
        workspace.compute.stop(job.id)
        is_alive = False
    workspace.metadata.put("endpoint", name, {"loop": _BY_HAND})
    write_desired(folder, wanted)
    if job is None or not is_alive:
        job = workspace.compute.submit(_job(endpoint, wanted))
    job_id = job.id
    try:
        state = wait_until_serving(
            folder,
            generation=wanted.generation,
            timeout_s=code.start_timeout_s if any(e.is_code for e in asked) else _START_S,
            is_alive=lambda: not workspace.compute.get(job_id).state.has_ended,
        )
    except BackendError as error:
        raise BackendError(
            f"The endpoint {name!r} does not serve the new model. {error.message}",
            hint=f"`loopwright logs {job_id}` shows its log. {error.hint}".strip(),
            retryable=True,
        ) from error
    return DeployedEndpoint(
        name=name,
        host=state.host,
        port=state.port or 0,
        version=str(state.version),
        job=job_id,
        is_own_code=asked[0].is_code,
        variants={each.name: str(each.version) for each in wanted.variants},
    )


def _variant(workspace: Workspace, asked: _Asked, code: CodeSettings) -> Variant:
    from loopwright.deploy import Variant

    digest = workspace.artifacts.put_file(asked.path)
    return Variant(
        name=asked.name,
        bundle=str(workspace.artifacts.local_path(digest).resolve()),
        bundle_digest=digest,
        version=digest.removeprefix("sha256:")[:_VERSION_DIGITS],
        weight=asked.weight,
        shadow=asked.is_shadow,
        code=code if asked.is_code else None,
    )


def _workers(workers: int | Mapping[str, Any]) -> int | Scale:
    import msgspec

    from loopwright.deploy.scale import Scale, checked_scale

    if isinstance(workers, int):
        return checked_scale(workers, field="workers")
    try:
        return checked_scale(msgspec.convert(dict(workers), Scale), field="workers")
    except msgspec.ValidationError as error:
        raise InvalidInputError(
            f"workers cannot be used: {error}.",
            hint="Give a number, or {'least': 0, 'most': 4, 'idle': '10 minutes'}.",
            field="workers",
            value=str(workers),
        ) from error


def _job(endpoint: Any, wanted: DesiredState) -> JobSpec:
    from loopwright.compute import JobSpec, Resources
    from loopwright.deploy import most_workers
    from loopwright.train.script_contract import installer_environment

    memory_mib, installer = 1024, {}
    for code in (each.code for each in wanted.all_variants):
        if code is None:
            continue
        n_processes = most_workers(wanted.workers) * code.processes
        memory_mib += n_processes * mebibytes(code.memory, field="memory")
        # where its requirements come from; the code itself does not see them
        installer = installer_environment()
    return JobSpec(
        key=f"endpoint/{endpoint.name}",
        name=endpoint.name,
        kind="endpoint",
        command=endpoint.command,
        env=installer,
        resources=Resources(cpus=1, memory=f"{memory_mib} MiB"),
        counted=False,
        labels={"loop": _BY_HAND, "endpoint": endpoint.name},
    )
