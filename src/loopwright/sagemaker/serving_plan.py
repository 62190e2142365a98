"""What stands behind an endpoint: bundles behind one of ours, or scripts in processes of their own."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import time
import urllib.request
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from loopwright.compute import JobSpec, Resources
from loopwright.core.digest import digest_bytes, digest_value
from loopwright.core.errors import BackendError
from loopwright.core.files import read_json
from loopwright.core.names import new_id
from loopwright.deploy import (
    CaptureSettings,
    DesiredState,
    Endpoint,
    Variant,
    free_port,
    read_desired,
    wait_until_serving,
    write_desired,
)
from loopwright.sagemaker.algorithm import SETTINGS_FILE
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.model_record import MODELS, container_of, data_uri
from loopwright.sagemaker.s3.store import split_uri
from loopwright.sagemaker.staging import fetched, unpack
from loopwright.train.archive import pack_archive

_START_S = 120.0
_MANIFEST = "manifest.json"
_MOST_MANIFEST = 1 << 20
_LARGEST_MEMBER = 1 << 29


def own_name(arn: str) -> str:
    """Return the name under which an endpoint is known to the loop's own services."""
    return f"sm-{digest_value(arn).removeprefix('sha256:')[:24]}"


def deployed(
    desk: Desk, caller: Caller, arn: str, config: Mapping[str, Any], live: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Have an endpoint serve the variants of a configuration; return what is live then.

    Raises
    ------
    ApiError, LoopwrightError
        If it cannot; what was live before still is.
    """
    _stop_strays(desk, arn, live["jobs"] if live else ())
    variants: list[dict[str, Any]] = []
    for is_shadow, group in ((False, "ProductionVariants"), (True, "ShadowProductionVariants")):
        for each in config.get(group, ()):
            model = MODELS.get(desk, caller, each["ModelName"])
            found = _model_of(desk, container_of(model))
            variants.append(
                {
                    "name": each["VariantName"],
                    "own": f"v{len(variants)}",
                    "weight": each.get("InitialVariantWeight", 1.0),
                    "shadow": is_shadow,
                    "count": each.get("InitialInstanceCount", 1),
                    **found,
                }
            )
    kinds = {each["kind"] for each in variants}
    if len(kinds) > 1:
        raise validation("Scripts and models of algorithms cannot stand behind one endpoint yet.")
    if live and live["kind"] not in kinds:
        found = _started(desk, caller, arn, config, variants, None)
        for job_id in live["jobs"]:
            desk.workspace.compute.stop(job_id, grace_s=10.0)
        return found
    return _started(desk, caller, arn, config, variants, live)


def _started(
    desk: Desk,
    caller: Caller,
    arn: str,
    config: Mapping[str, Any],
    variants: list[dict[str, Any]],
    live: Mapping[str, Any] | None,
) -> dict[str, Any]:
    if variants[0]["kind"] == "script":
        return _with_scripts(desk, caller, arn, variants, live)
    return _with_bundles(desk, arn, config, variants)


def _model_of(desk: Desk, container: Mapping[str, Any]) -> dict[str, Any]:
    """Return what kind of model a container has, and where it lies on this machine."""
    uri = data_uri(container)
    environment = dict(container.get("Environment", {}))
    if not uri:
        raise validation("The model has no ModelDataUrl, so that there is nothing to serve.")
    bucket, key = split_uri(uri)
    entry = desk.objects.get(bucket, key)
    place = desk.workspace.home / "sagemaker" / "models" / entry.file
    archive = desk.objects.files.path(entry.file)
    members = _bundle_members(archive)
    if members is not None:
        packed = pack_archive(members)
        path = place.with_suffix(".tar.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed)
        settings = members.get(SETTINGS_FILE)
        return {
            "kind": "bundle",
            "path": str(path),
            "digest": digest_bytes(packed),
            "settings": json.loads(settings) if settings else None,
        }
    folder = place / "model"
    if not (place / "whole").exists():
        shutil.rmtree(place, ignore_errors=True)
        unpack(archive, folder)
        (place / "whole").touch()
    return {"kind": "script", "path": str(folder), "environment": environment}


def _bundle_members(archive: Path) -> dict[str, bytes] | None:
    """Return the members of a model of loopwright's, without what else lies in the archive."""
    try:
        with tarfile.open(archive, "r:*") as opened:
            try:
                about = opened.getmember(_MANIFEST)
            except KeyError:
                return None
            content = opened.extractfile(about) if about.size <= _MOST_MANIFEST else None
            manifest = json.loads(content.read()) if content else {}
            wanted = {_MANIFEST, *manifest.get("members", {})}
            if not manifest.get("format"):
                return None
            found = {}
            for info in opened:
                if info.isreg() and info.name in wanted and info.size <= _LARGEST_MEMBER:
                    member = opened.extractfile(info)
                    found[info.name] = member.read() if member else b""
            return found
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise validation(f"The model archive is torn, or no .tar.gz: {error}.") from error


def _with_bundles(
    desk: Desk, arn: str, config: Mapping[str, Any], variants: list[dict[str, Any]]
) -> dict[str, Any]:
    name = own_name(arn)
    folder = desk.workspace.endpoint_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    endpoint = Endpoint(name, folder)
    known = read_desired(folder) if endpoint.desired_path.exists() else None
    about = config.get("DataCaptureConfig", {})
    share = about.get("InitialSamplingPercentage", 100) / 100 if about.get("EnableCapture") else 0.0
    wanted = DesiredState(
        name=name,
        generation=known.generation + 1 if known else 1,
        port=known.port if known else free_port(),
        variants=tuple(
            Variant(
                name=each["own"],
                bundle=each["path"],
                version=each["digest"].removeprefix("sha256:")[:12],
                bundle_digest=each["digest"],
                weight=each["weight"],
                shadow=each["shadow"],
            )
            for each in variants
        ),
        capture=CaptureSettings(folder=str(endpoint.capture_folder), share=share)
        if share
        else None,
    )
    write_desired(folder, wanted)
    job = desk.workspace.compute.submit(
        JobSpec(
            key=f"endpoint/{name}",
            name=name,
            kind="endpoint",
            command=endpoint.command,
            resources=Resources(cpus=1, memory="1 GiB"),
            counted=False,
            labels={"endpoint": name, "arn": arn},
        )
    )
    try:
        state = wait_until_serving(
            folder,
            generation=wanted.generation,
            timeout_s=_START_S,
            is_alive=lambda: not desk.workspace.compute.get(job.id).state.has_ended,
        )
    except BackendError:
        if known is not None:
            # a process that starts again later must find what did serve
            back = msgspec.structs.replace(known, generation=wanted.generation + 1)
            write_desired(folder, back)
        raise
    return {
        "kind": "bundle",
        "config": config["EndpointConfigName"],
        "jobs": [job.id],
        "variants": [{**each, "port": state.port} for each in variants],
    }


def _with_scripts(
    desk: Desk,
    caller: Caller,
    arn: str,
    variants: list[dict[str, Any]],
    live: Mapping[str, Any] | None,
) -> dict[str, Any]:
    if any(each["shadow"] for each in variants):
        raise validation("Shadow variants of scripts are not supported yet.")
    jobs: list[str] = []
    found = []
    try:
        for each in variants:
            job_id, port = _script_process(desk, caller, arn, each)
            jobs.append(job_id)
            found.append({**each, "port": port})
    except BaseException:
        for job_id in jobs:
            desk.workspace.compute.stop(job_id, grace_s=5.0)
        raise
    if live:
        for job_id in live["jobs"]:
            desk.workspace.compute.stop(job_id, grace_s=10.0)
    return {"kind": "script", "config": "", "jobs": jobs, "variants": found}


def _script_process(
    desk: Desk, caller: Caller, arn: str, variant: Mapping[str, Any]
) -> tuple[str, int]:
    environment = dict(variant["environment"])
    model = Path(variant["path"])
    files: dict[str, bytes | Path] = {}
    submitted = environment.get("SAGEMAKER_SUBMIT_DIRECTORY", "")
    code = model / "code"
    if submitted.startswith(("s3://", "https://")):
        bucket, key = split_uri(submitted)
        code = desk.workspace.home / "sagemaker" / "models" / desk.objects.get(bucket, key).file
        if not (code / "whole").exists():
            shutil.rmtree(code, ignore_errors=True)
            archive = fetched(desk, submitted, code.with_name(f"{code.name}-{new_id()}.tgz"))
            unpack(archive, code)
            archive.unlink()
            (code / "whole").touch()
    program = environment.get("SAGEMAKER_PROGRAM", "inference.py")
    if not (code / program).is_file():
        raise validation(
            f"The model has no {program!r} in its code, and is no model of one of loopwright's "
            "algorithms: nothing can serve it. Images cannot be pulled."
        )
    key, secret = desk.job_key
    order = {
        "model": str(model),
        "code": str(code),
        "program": program,
        "environments": str(desk.workspace.home / "environments"),
    }
    files["inference.json"] = json.dumps(order).encode()
    job = desk.workspace.compute.submit(
        JobSpec(
            key=f"sagemaker/{arn}/{variant['own']}/{new_id()}",
            name=own_name(arn),
            kind="endpoint",
            command=(sys.executable, "-P", "-m", "loopwright.sagemaker.inference_worker"),
            files=files,
            env={
                "AWS_ENDPOINT_URL": desk.url,
                "AWS_REGION": caller.region,
                "AWS_DEFAULT_REGION": caller.region,
                "AWS_ACCESS_KEY_ID": key,
                "AWS_SECRET_ACCESS_KEY": secret,
                **environment,
            },
            resources=Resources(cpus=1, memory="2 GiB"),
            counted=False,
            labels={"arn": arn, "variant": variant["name"]},
        )
    )
    return job.id, _port_of(desk, job.id)


def _port_of(desk: Desk, job_id: str) -> int:
    """Return the port of a script's process once it answers `/ping`."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        job = desk.workspace.compute.get(job_id)
        if job.state.has_ended:
            last = desk.workspace.compute.log(job_id, tail_bytes=4096).strip().splitlines()
            said = f" Its last line: {last[-1]}" if last else ""
            raise ApiError("ValidationException", f"The process of the model ended.{said}")
        told = read_json(job.folder / "serving.json")
        if told is not None:
            with urllib.request.urlopen(f"http://127.0.0.1:{told['port']}/ping", timeout=10) as got:
                if got.status == 200:
                    return int(told["port"])
        time.sleep(0.02)
    desk.workspace.compute.stop(job_id, grace_s=2.0)
    raise ApiError(
        "ValidationException",
        "The primary container for production variant did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint.",
    )


def stop(desk: Desk, arn: str, live: Mapping[str, Any] | None) -> None:
    """End the processes of an endpoint, those that nobody noted too."""
    for job_id in live["jobs"] if live else ():
        desk.workspace.compute.stop(job_id, grace_s=10.0)
    _stop_strays(desk, arn, ())
    if live is None or live["kind"] == "bundle":
        shutil.rmtree(desk.workspace.endpoint_folder(own_name(arn)), ignore_errors=True)


def _stop_strays(desk: Desk, arn: str, known: Collection[str]) -> None:
    """End processes that a server started for an endpoint, and was killed before it noted them."""
    for job in desk.workspace.compute.list_(kind="endpoint", labels={"arn": arn}):
        if job.id not in known and not job.state.has_ended:
            desk.workspace.compute.stop(job.id, grace_s=5.0)


def is_alive(desk: Desk, live: Mapping[str, Any]) -> bool:
    """Tell whether all processes of an endpoint run."""
    return all(not desk.workspace.compute.get(each).state.has_ended for each in live["jobs"])
