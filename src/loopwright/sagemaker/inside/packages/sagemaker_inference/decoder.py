"""Arrays from the body of a request."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from . import content_types, errors


def decode(obj: Any, content_type: str) -> Any:
    """Return the array in a body of JSON, CSV or `.npy`.

    Raises
    ------
    UnsupportedFormatError
        If the media type is another one.
    """
    if content_type == content_types.NPY:
        return np.load(io.BytesIO(obj), allow_pickle=False)
    text = obj.decode() if isinstance(obj, (bytes, bytearray)) else obj
    if content_type == content_types.JSON:
        return np.array(json.loads(text))
    if content_type == content_types.CSV:
        return np.genfromtxt(io.StringIO(text), delimiter=",")
    raise errors.UnsupportedFormatError(content_type)
