"""What a job of Clarify needs of this server: its model, and what its configuration names in S3."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core.errors import LoopwrightError
from loopwright.sagemaker.clarify.layout import FOLDER, ORDER_FILE, VARIABLES
from loopwright.sagemaker.container import MULTI_MODEL, containers_of, data_uri, host_of
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.endpoint import ENDPOINTS
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.model_place import code_settings, model_of
from loopwright.sagemaker.model_record import MODELS
from loopwright.sagemaker.staging import prefix_entries, stage

_MOST_CONFIG = 4 << 20
_ACCEPT = "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"
_URIS = ("dataset_uri", "facet_dataset_uri", "predicted_label_dataset_uri")


def prepare_clarify(
    desk: Desk, caller: Caller, folder: Path, config_place: Path, *, dataset: bool
) -> dict[str, str]:
    """Put into a folder what a job of Clarify will look for, and return variables for its process.

    What is missing is told to the job, which fails with it: SageMaker's own container finds it
    out as late as that.

    Parameters
    ----------
    folder
        Of the data of the job; everything lands in `clarify` below it.
    config_place
        Where the input with the configuration lies.
    dataset
        Whether the job has an input with the data set.
    """
    own = folder / FOLDER
    own.mkdir(parents=True, exist_ok=True)
    variables: dict[str, str] = {}
    order: dict[str, Any] = {"places": {}}
    try:
        config = _config(config_place)
        for number, uri in enumerate(_named(config, dataset=dataset)):
            place = f"{FOLDER}/{number}"
            if not stage_uri(desk, uri, folder / place):
                raise validation(f"No S3 objects found under S3 URL {uri!r}.")
            order["places"][uri] = place
        about = config.get("predictor")
        if isinstance(about, dict):
            order["model"] = _model(desk, caller, about, variables)
    except (ApiError, LoopwrightError, OSError) as error:
        order["failure"] = error.message if isinstance(error, ApiError) else str(error)
    (own / ORDER_FILE).write_text(json.dumps(order))
    return variables


def stage_uri(desk: Desk, uri: str, place: Path) -> int:
    """Put what lies at an S3 URI into a folder; return how many files."""
    entries = list(prefix_entries(desk, uri))
    stage(desk, entries, place)
    return len(entries)


def _config(place: Path) -> dict[str, Any]:
    """Return the configuration, as far as it is one: the job says what is wrong with it."""
    paths = sorted(each for each in place.rglob("*") if each.is_file())
    if not paths or paths[0].stat().st_size > _MOST_CONFIG:
        return {}
    try:
        found = json.loads(paths[0].read_bytes())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _named(config: Mapping[str, Any], *, dataset: bool) -> Iterator[str]:
    methods = config.get("methods")
    shap = methods.get("shap") if isinstance(methods, dict) else None
    uris = [config.get(name) for name in _URIS if name != "dataset_uri" or not dataset]
    uris.append(shap.get("baseline") if isinstance(shap, dict) else None)
    for each in uris:
        if isinstance(each, str):
            yield each


def _model(
    desk: Desk, caller: Caller, about: Mapping[str, Any], variables: dict[str, str]
) -> dict[str, Any] | None:
    """Return the model, as the worker serves or asks it; None where the analysis has none."""
    endpoint, name = about.get("endpoint_name"), about.get("model_name")
    if endpoint:
        return _live(desk, caller, str(endpoint))
    if not name:
        return None
    containers = []
    for place, given in enumerate(containers_of(MODELS.get(desk, caller, str(name)))):
        model = model_of(desk, _one_of_many(given, about.get("target_model")))
        found = {
            **{key: model[key] for key in ("kind", "path", "digest", "settings")},
            "own": f"v{place}",
            "host": host_of(given, place),
            "accept": given.get("Environment", {}).get(_ACCEPT, ""),
        }
        code = code_settings(desk, caller, model)
        if code is not None:
            # its values may be secret: they are in the environment alone
            prefix = f"{VARIABLES}_{place}_"
            variables |= {f"{prefix}{key}": value for key, value in code.variables.items()}
            found["code"] = {**msgspec.to_builtins(code), "variables": {}}
        containers.append(found)
    return {"containers": containers}


def _one_of_many(container: Mapping[str, Any], target: Any) -> Mapping[str, Any]:
    if container.get("Mode") != MULTI_MODEL:
        return container
    if not target:
        raise validation("predictor.target_model must say which model of the container is meant.")
    uri = f"{data_uri(container).rstrip('/')}/{str(target).lstrip('/')}"
    kept = {key: each for key, each in container.items() if key != "ModelDataSource"}
    return {**kept, "ModelDataUrl": uri, "Mode": "SingleModel"}


def _live(desk: Desk, caller: Caller, name: str) -> dict[str, Any]:
    """Return the variant of an endpoint that has most of its traffic."""
    record = ENDPOINTS.get(desk, caller, name)
    live = record.body.get("live") or {}
    variants = [each for each in live.get("variants", ()) if not each.get("shadow")]
    if not variants:
        raise validation(f"The endpoint {name} is not in service.")
    best = max(variants, key=lambda each: float(each["weight"]))
    containers = best.get("containers") or [{**best, "host": best["name"], "accept": ""}]
    if any(each["kind"] == "models" for each in containers):
        raise validation(
            f"The endpoint {name} has many models; name the model itself with model_name and "
            "target_model."
        )
    kept = ("own", "host", "accept", "kind", "settings")
    return {
        "port": best["port"],
        "containers": [{key: each.get(key) for key in kept} for each in containers],
    }
