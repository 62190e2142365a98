"""Takes a model bundle, puts it behind an HTTP endpoint, and keeps what it was asked and answered."""

from __future__ import annotations

from loopwright.deploy.address import check_port, free_port, token_digest
from loopwright.deploy.capture import (
    CapturedPrediction,
    CapturePage,
    captured_inputs,
    read_capture,
    read_capture_lines,
)
from loopwright.deploy.client import EndpointClient
from loopwright.deploy.code_settings import CodeSettings, checked_code
from loopwright.deploy.endpoint import (
    ActualState,
    CaptureSettings,
    DesiredState,
    Endpoint,
    read_actual,
    read_desired,
    wait_until_serving,
    write_desired,
)
from loopwright.deploy.labels import Label, LabelLog, LabelPage, add_labels, read_labels
from loopwright.deploy.plan import DeployPlan, checked_deploy
from loopwright.deploy.rollout import Alarms, Rollout, RolloutState
from loopwright.deploy.scale import Scale, most_workers
from loopwright.deploy.segment import Cursor, end_of_log, has_more
from loopwright.deploy.variant import Variant

__all__ = [
    "ActualState",
    "Alarms",
    "CapturePage",
    "CaptureSettings",
    "CapturedPrediction",
    "CodeSettings",
    "Cursor",
    "DeployPlan",
    "DesiredState",
    "Endpoint",
    "EndpointClient",
    "Label",
    "LabelLog",
    "LabelPage",
    "Rollout",
    "RolloutState",
    "Scale",
    "Variant",
    "add_labels",
    "captured_inputs",
    "check_port",
    "checked_code",
    "checked_deploy",
    "end_of_log",
    "free_port",
    "has_more",
    "most_workers",
    "read_actual",
    "read_capture",
    "read_capture_lines",
    "read_desired",
    "read_labels",
    "token_digest",
    "wait_until_serving",
    "write_desired",
]
