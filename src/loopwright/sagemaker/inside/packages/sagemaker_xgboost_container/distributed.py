"""Training on several hosts, which scripts import and use when there are several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def rabit_run(
    exec_fun: Callable[..., Any],
    args: Mapping[str, Any],
    include_in_training: bool,
    hosts: Sequence[str],
    current_host: str,
    **_: Any,
) -> Any:
    """Run the training function on this host, when it is the only one.

    Raises
    ------
    RuntimeError
        If there are several: the rabit of old XGBoost releases is not here.
    """
    if len(hosts) > 1:
        raise RuntimeError(
            f"rabit_run is for old releases of XGBoost and is not here; {current_host} is one of "
            f"{len(hosts)} hosts. Use xgboost.collective, or one instance."
        )
    return exec_fun(**{**args, "is_master": True}) if include_in_training else None
