"""The endpoint described in OpenAPI 3.1, made from the model's input signature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loopwright.deploy.answer_form import FORMS
from loopwright.deploy.code_settings import OWN_CODE
from loopwright.deploy.model import Served, ServedModel
from loopwright.deploy.openapi_protocol import (
    PROTOCOL_SCHEMAS,
    postponed_paths,
    protocol_paths,
    variant_parameters,
)
from loopwright.deploy.rows import READERS


def openapi(
    model: ServedModel,
    *,
    version: int | str,
    endpoint: str,
    needs_token: bool,
    variants: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the description of an endpoint that serves a model, among `variants` if it has some."""
    row = model.signature.json_schema()
    example = row.get("example")
    invocations = _invocations(example, sorted(model.extras))
    if variants:
        invocations["parameters"] += variant_parameters(variants)
    explained = {**invocations, "summary": "Predict, and give the reasons for every answer."}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": endpoint, "version": str(version)},
        "paths": {
            "/invocations": {"post": invocations},
            "/explain": {"post": explained},
            **postponed_paths(invocations),
            **protocol_paths(Served(model=model, version=version), example, variants),
            "/labels": {"post": _labels()},
            "/ping": {"get": _simple("Whether the endpoint is ready to answer.")},
            "/metrics": {"get": _simple("Counters in the Prometheus text format.", "text/plain")},
            "/openapi.json": {"get": _simple("This description.")},
            "/": {"get": _simple("The model and the routes.")},
        },
        "components": {
            "schemas": {
                "Row": row,
                "Answer": _answer_schema(model),
                "Label": {
                    "type": "object",
                    "required": ["label"],
                    "oneOf": [{"required": ["inference_id"]}, {"required": ["key"]}],
                    "additionalProperties": False,
                    "properties": {
                        "inference_id": {"type": "string"},
                        "key": {
                            "type": ["string", "integer"],
                            "description": "A business key, in place of the id.",
                        },
                        "label": _value_schema(model),
                    },
                },
                "Error": _ERROR,
                **PROTOCOL_SCHEMAS,
            }
        },
    }
    if model.task == OWN_CODE:
        _describe_own_code(document["paths"])
    if needs_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _describe_own_code(paths: dict[str, Any]) -> None:
    """Leave what only a user's own code knows open, and leave out what it does not answer."""
    for path in [path for path in paths if path.startswith("/v2/models") or path == "/explain"]:
        del paths[path]
    anything: dict[str, Any] = {"*/*": {}}
    for path in ("/invocations", "/async-invocations"):
        post = paths[path]["post"]
        post["requestBody"] = {"required": True, "content": anything}
    paths["/invocations"]["post"] |= {
        "summary": "Ask the code of this endpoint; it reads what it likes.",
        "responses": {
            "200": {"description": "What the code answers.", "content": anything},
            "500": {"description": "The code failed or ended."},
            "503": {"description": "Too many requests wait, or the code does not run."},
            "504": {"description": "The code took too long."},
        },
    }


def _value_schema(model: ServedModel) -> dict[str, Any]:
    if model.task == "regression":
        return {"type": "number"}
    return {"enum": list(model.classes)} if model.classes else {}


def _answer_schema(model: ServedModel) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "prediction": _value_schema(model),
        "inference_id": {"type": "string"},
        "model_version": {},
    }
    share = {"type": "number", "minimum": 0, "maximum": 1}
    if model.task == "binary":
        properties["probability"] = share
    elif model.task == "multiclass":
        properties["probabilities"] = {"type": "object", "additionalProperties": share}
    properties |= {name: dict(schema) for name, schema in model.extras.items()}
    return {"type": "object", "properties": properties}


def _invocations(example: Any, extras: list[str]) -> dict[str, Any]:
    row = {"$ref": "#/components/schemas/Row"}
    rows = {"type": "array", "items": row}
    answer = {"$ref": "#/components/schemas/Answer"}
    answers = {
        "type": "object",
        "properties": {"predictions": {"type": "array", "items": answer}, "model_version": {}},
    }
    table = {
        "type": "object",
        "required": ["columns", "data"],
        "properties": {
            "columns": {"type": "array", "items": {"type": "string"}},
            "data": {"type": "array", "items": {"type": "array"}},
        },
    }
    instances = {"type": "object", "required": ["instances"], "properties": {"instances": rows}}
    return {
        "summary": "Predict for one row or several.",
        "parameters": [
            {
                "name": "X-Inference-Id",
                "in": "header",
                "description": "Joins the prediction with its ground truth; made when absent.",
                "schema": {"type": "string", "maxLength": 256},
            },
            _ERRORS_PARAMETER,
            *([_with_parameter(extras)] if extras else []),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [row, rows, instances, table]},
                    "example": example,
                },
                **{
                    name.decode(): {"schema": {"type": "string"}}
                    for name in READERS
                    if name != b"application/json"
                },
            },
        },
        "responses": _answers({"anyOf": [answer, answers]}),
    }


def _answers(schema: dict[str, Any]) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    responses = _responses("200", "The predictions.", schema)
    for form in FORMS:
        responses["200"]["content"].setdefault(form.decode(), {"schema": {"type": "string"}})
    refused = {"description": "Answers do not come in a form that is accepted.", "content": error}
    return {**responses, "406": refused}


_ERRORS_PARAMETER = {
    "name": "errors",
    "in": "query",
    "description": "row: a bad row gets its error in its place; all: it refuses the request.",
    "schema": {"enum": ["all", "row"], "default": "all"},
}


def _with_parameter(extras: list[str]) -> dict[str, Any]:
    return {
        "name": "with",
        "in": "query",
        "description": "What to add to every answer, divided by commas.",
        "style": "form",
        "explode": False,
        "schema": {"type": "array", "items": {"enum": extras}},
    }


def _labels() -> dict[str, Any]:
    label = {"$ref": "#/components/schemas/Label"}
    return {
        "summary": "Take in what turned out to be true, by inference id.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [label, {"type": "array", "items": label}]}
                }
            },
        },
        "responses": _responses("202", "The labels are on the disk.", {"type": "object"}),
    }


def _responses(status: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        status: {"description": text, "content": {"application/json": {"schema": schema}}},
        "400": {"description": "The input cannot be used; nothing was done.", "content": error},
        "413": {"description": "The request is too large.", "content": error},
        "415": {"description": "The content type is not one of those above.", "content": error},
        "503": {"description": "Too many requests wait; see Retry-After.", "content": error},
    }


def _simple(text: str, content_type: str = "application/json") -> dict[str, Any]:
    return {
        "summary": text,
        "responses": {"200": {"description": text, "content": {content_type: {}}}},
    }


_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "required": ["message"],
            "properties": {
                "message": {"type": "string"},
                "hint": {"type": "string"},
                "row": {"type": ["integer", "null"]},
                "field": {"type": ["string", "null"]},
                "value": {},
                "expected": {},
            },
        }
    },
}
