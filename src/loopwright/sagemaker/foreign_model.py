"""Models that XGBoost left without loopwright: their archives are made bundles, once each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopwright.core.names import new_id
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.image import image_of

_LIMIT_S = 300.0
_PROGRAM = "SAGEMAKER_PROGRAM"


def is_foreign(container: Mapping[str, Any]) -> bool:
    """Return whether the image of a container would read a model that XGBoost itself has saved."""
    uri = container.get("Image", "")
    if not uri or container.get("Environment", {}).get(_PROGRAM):
        return False
    return image_of(uri).algorithm == "xgboost"


def as_bundle(archive: Path, place: Path) -> Path:
    """Return the bundle made of an archive, which is kept beside where the model will lie.

    It is made in a process of its own, whose end harms nobody.

    Raises
    ------
    ApiError
        If it is no model of XGBoost's, or one that cannot be served.
    """
    bundle = place.with_name(f"{place.name.removesuffix('.tar.gz')}-xgboost.tar.gz")
    if bundle.exists():
        return bundle
    bundle.parent.mkdir(parents=True, exist_ok=True)
    temporary = bundle.with_name(f".{bundle.name}.{new_id()}")
    command = [sys.executable, "-P", "-m", "loopwright.sagemaker.xgboost_archive"]
    try:
        ended = subprocess.run(
            [*command, str(archive), str(temporary)],
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        if ended.returncode:
            said = ended.stderr.strip().splitlines()
            reason = " ".join(said[-2:])[:600] if said else f"exit code {ended.returncode}"
            raise validation(f"The model cannot be served. {reason}")
        temporary.replace(bundle)
    except subprocess.TimeoutExpired as error:
        raise validation(
            f"The model cannot be served: it was not read within {_LIMIT_S:g} s."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return bundle
