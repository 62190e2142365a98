"""The analysis configuration of Clarify, read and checked: what `analysis_config.json` may say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from loopwright.core.errors import InvalidInputError

Where = str | int
CAPTURED = "application/sagemakercapturejson"
_TABLES = (
    "text/csv",
    "application/jsonlines",
    "application/json",
    "application/x-parquet",
    CAPTURED,
)
_PREDICTED = ("text/csv", "application/jsonlines", "application/json")


class Facet(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sensitive attribute, and the values or the threshold that name its group."""

    name_or_index: Where
    value_or_threshold: list[int | float | str] | None = None


class Measures(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which measures of bias are wanted."""

    methods: str | list[str] = "all"

    def names(self) -> list[str]:
        """Return their names; `all` may be one."""
        return [self.methods] if isinstance(self.methods, str) else list(self.methods)


class Shap(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How attributions are computed."""

    baseline: str | list[Any] | dict[str, Any] | None = None
    num_clusters: int | None = None
    use_logit: bool = False
    num_samples: int | None = None
    agg_method: Literal["mean_abs", "median", "mean_sq"] = "mean_abs"
    save_local_shap_values: bool = True
    seed: int | None = None
    features_to_explain: list[Where] | None = None
    text_config: dict[str, Any] | None = None
    image_config: dict[str, Any] | None = None


class Dependence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which features the partial dependence is computed, and how finely."""

    grid_resolution: int = 15
    features: list[Where] | None = None
    top_k_features: int = 10


class ReportNames(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The name of the report's file and its title."""

    name: str = "report"
    title: str = "Analysis Report"


class Methods(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wanted of an analysis."""

    pre_training_bias: Measures | None = None
    post_training_bias: Measures | None = None
    shap: Shap | None = None
    pdp: Dependence | None = None
    report: ReportNames | None = None
    asymmetric_shapley_value: dict[str, Any] | None = None


class Predictor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model, how it is asked, and where in its answers labels and scores lie."""

    model_name: str | None = None
    endpoint_name: str | None = None
    endpoint_name_prefix: str | None = None
    instance_type: str | None = None
    initial_instance_count: int | None = None
    accelerator_type: str | None = None
    target_model: str | None = None
    content_type: str | None = None
    accept_type: str | None = None
    label: Where | None = None
    probability: Where | None = None
    label_headers: list[Where] | Where | None = None
    content_template: str | dict[str, str] | None = None
    record_template: str | None = None
    custom_attributes: str | None = None
    time_series_predictor_config: dict[str, Any] | None = None

    def headers(self) -> list[str]:
        """Return the names of the scores; empty where there are none."""
        found = self.label_headers
        if found is None:
            return []
        return [str(each) for each in (found if isinstance(found, list) else [found])]


class AnalysisConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of `analysis_config.json`."""

    version: str = "1.0"
    dataset_type: str = "text/csv"
    dataset_uri: str | None = None
    headers: list[str] | None = None
    label: Where | None = None
    predicted_label: Where | None = None
    features: str | None = None
    label_values_or_threshold: list[int | float | str] = []
    probability_threshold: float | None = None
    facet: list[Facet] = []
    facet_dataset_uri: str | None = None
    facet_headers: list[str] | None = None
    predicted_label_dataset_uri: str | None = None
    predicted_label_headers: list[str] | None = None
    excluded_columns: list[Where] = []
    joinsource_name_or_index: Where | None = None
    group_variable: Where | None = None
    segment_config: list[dict[str, Any]] | None = None
    time_series_data_config: dict[str, Any] | None = None
    methods: Methods = Methods()
    predictor: Predictor | None = None


def read_config(content: bytes | str) -> AnalysisConfig:
    """Return a configuration that can be carried out.

    Raises
    ------
    InvalidInputError
        If it is no JSON, a member is not known or of a wrong type, or it wants what is not here.
    """
    try:
        return checked(json.loads(content))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidInputError(f"analysis_config.json is no JSON: {error}.") from error


def checked(value: Any) -> AnalysisConfig:
    """Return a configuration that is JSON already; see `read_config`."""
    try:
        config = msgspec.convert(_lowered(value), AnalysisConfig)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"The analysis configuration is invalid: {error}.") from error
    _refuse_missing(config)
    _check_data(config)
    _check_methods(config)
    return config


def _lowered(value: Any) -> Any:
    """Return it with media types in small letters, as Clarify takes them."""
    if not isinstance(value, Mapping):
        return value
    found = dict(value)
    if isinstance(found.get("dataset_type"), str):
        found["dataset_type"] = found["dataset_type"].lower()
    return found


def _refuse_missing(config: AnalysisConfig) -> None:
    shap = config.methods.shap
    for what, is_wanted in (
        ("Time series", config.time_series_data_config or config.methods.asymmetric_shapley_value),
        ("Features of text (text_config)", shap and shap.text_config),
        ("Images (image_config)", shap and shap.image_config),
        ("Segments (segment_config)", config.segment_config),
        ("Images (application/x-image)", config.dataset_type == "application/x-image"),
    ):
        if is_wanted:
            raise InvalidInputError(f"{what} are not supported yet by loopwright's Clarify.")


def _check_data(config: AnalysisConfig) -> None:
    if config.dataset_type not in _TABLES:
        raise InvalidInputError(
            f"The dataset type {config.dataset_type!r} is none of {', '.join(_TABLES)}."
        )
    model = config.predictor
    if config.dataset_type == "application/json" and config.features is None:
        raise InvalidInputError("A data set of application/json needs the JMESPath features.")
    for name in ("content_type", "accept_type"):
        kind = getattr(model, name) if model else None
        if kind is not None and kind.lower() not in _PREDICTED:
            raise InvalidInputError(f"{name} {kind!r} is none of {', '.join(_PREDICTED)}.")


def _check_methods(config: AnalysisConfig) -> None:
    methods = config.methods
    biases = methods.pre_training_bias or methods.post_training_bias
    if not (biases or methods.shap or methods.pdp):
        raise InvalidInputError(
            "No method is configured: give at least one of pre_training_bias, post_training_bias, "
            "shap and pdp."
        )
    if biases:
        for name in ("label_values_or_threshold", "facet"):
            if not getattr(config, name):
                raise InvalidInputError(f"{name} is needed for an analysis of bias.")
    is_explained = methods.shap or methods.pdp
    has_model = config.predictor and (config.predictor.model_name or config.predictor.endpoint_name)
    if is_explained and not has_model and config.dataset_type != CAPTURED:
        raise InvalidInputError("predictor with a model_name or an endpoint_name is needed.")
    if methods.pdp and not methods.shap and not methods.pdp.features:
        raise InvalidInputError("pdp needs features where shap is not wanted.")
    if methods.pdp and methods.pdp.grid_resolution < 1:
        raise InvalidInputError("grid_resolution must be at least 1.")
    _check_shap(methods.shap)


def _check_shap(shap: Shap | None) -> None:
    if shap is None:
        return
    if shap.baseline is not None and shap.num_clusters is not None:
        raise InvalidInputError("baseline and num_clusters cannot both be given.")
    for name in ("num_samples", "num_clusters"):
        value = getattr(shap, name)
        if value is not None and value < 1:
            raise InvalidInputError(f"{name} must be at least 1, not {value}.")
    if isinstance(shap.baseline, list) and not shap.baseline:
        raise InvalidInputError("baseline needs at least one row.")
