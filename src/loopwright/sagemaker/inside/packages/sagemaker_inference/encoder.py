"""Arrays as the body of an answer."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from . import content_types, errors


def encode(array_like: Any, content_type: str) -> Any:
    """Return an array as JSON or CSV (text), or as `.npy` (bytes).

    Raises
    ------
    UnsupportedFormatError
        If the media type is another one.
    """
    if content_type == content_types.JSON:
        return json.dumps(array_like, default=_listed)
    if content_type == content_types.CSV:
        text = io.StringIO()
        np.savetxt(text, _plain(array_like), delimiter=",", fmt="%s")
        return text.getvalue()
    if content_type == content_types.NPY:
        buffer = io.BytesIO()
        np.save(buffer, array_like, allow_pickle=False)
        return buffer.getvalue()
    raise errors.UnsupportedFormatError(content_type)


def _listed(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is not JSON")


def _plain(value: Any) -> Any:
    return value.toarray() if hasattr(value, "toarray") else value
