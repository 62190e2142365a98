"""The Open Inference Protocol, and requests that are answered later, described in OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loopwright.deploy.inference_protocol import model_metadata
from loopwright.deploy.model import Served

_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string"},
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    },
}
PROTOCOL_SCHEMAS: dict[str, Any] = {
    "Tensor": _TENSOR,
    "ProtocolError": {"type": "object", "properties": {"error": {"type": "string"}}},
}


def variant_parameters(variants: Sequence[str]) -> list[dict[str, Any]]:
    """Return the headers by which a caller has a say in which variant answers."""
    return [
        {
            "name": "X-Amzn-SageMaker-Target-Variant",
            "in": "header",
            "description": "The variant that is to answer; chosen by the weights when absent.",
            "schema": {"enum": list(variants)},
        },
        {
            "name": "X-Sticky-Key",
            "in": "header",
            "description": "What your requests have in common: one variant answers them all.",
            "schema": {"type": "string"},
        },
    ]


def protocol_paths(served: Served, example: Any, variants: Sequence[str] = ()) -> dict[str, Any]:
    """Return the paths of the protocol; `example` is an example of a row."""
    paths: dict[str, Any] = {
        "/v2": {"get": _read("The server and its version.")},
        "/v2/health/live": {"get": _read("Whether the endpoint runs.")},
        "/v2/health/ready": {"get": _read("Whether the endpoint is ready to answer.")},
    }
    for prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        parameters = [_parameter(part) for part in ("name", "version") if f"{{{part}}}" in prefix]
        paths |= {
            prefix: {"parameters": parameters, "get": _read("The model's inputs and outputs.")},
            f"{prefix}/ready": {
                "parameters": parameters,
                "get": _read("Whether the model is ready to answer."),
            },
            f"{prefix}/infer": {
                "parameters": [*parameters, *(variant_parameters(variants) if variants else ())],
                "post": _infer(served, example),
            },
        }
    return paths


def postponed_paths(invocations: dict[str, Any]) -> dict[str, Any]:
    """Return the paths of requests that are answered later, given what `/invocations` takes."""
    accepted = {
        "type": "object",
        "required": ["id", "inference_id", "location"],
        "properties": {name: {"type": "string"} for name in ("id", "inference_id", "location")},
    }
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    taken = {
        **invocations,
        "summary": "Keep a request on the disk and answer it later.",
        "responses": {
            "202": {
                "description": "The request is on the disk; `location` will have its answer.",
                "content": {"application/json": {"schema": accepted}},
            },
            "409": {"description": "Another request has this inference id.", "content": error},
            "429": {"description": "Too many requests wait; see Retry-After.", "content": error},
        },
    }
    looked = {
        "summary": "The answer to a request that was kept; with the status it would have had.",
        "responses": {
            "200": {"description": "What /invocations would have answered."},
            "202": {"description": "There is no answer yet; see Retry-After."},
            "404": {"description": "The id is not known, or forgotten.", "content": error},
        },
    }
    return {
        "/async-invocations": {"post": taken},
        "/async-invocations/{id}": {"parameters": [_parameter("id")], "get": looked},
    }


def _infer(served: Served, example: Any) -> dict[str, Any]:
    tensors = {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/ProtocolError"}}}
    body: dict[str, Any] = {
        "schema": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string"},
                "parameters": {"type": "object"},
                "inputs": tensors,
                "outputs": {"type": "array", "items": {"type": "object"}},
            },
        }
    }
    if isinstance(example, dict):
        body["example"] = {
            "inputs": [
                {**each, "shape": [1], "data": [example.get(each["name"])]}
                for each in model_metadata(served)["inputs"]
            ]
        }
    answer = {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": tensors,
        },
    }
    return {
        "summary": "Predict for tensors: one for each column, or a matrix of numbers.",
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {
            "200": {
                "description": "The predictions.",
                "content": {"application/json": {"schema": answer}},
            },
            "400": {"description": "The tensors cannot be used.", "content": error},
            "404": {"description": "There is no such model or version.", "content": error},
        },
    }


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _read(text: str) -> dict[str, Any]:
    return {
        "summary": text,
        "responses": {"200": {"description": text, "content": {"application/json": {}}}},
    }
