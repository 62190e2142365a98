"""The compiled kernel, where it was built; whoever uses it has a way without it."""

from __future__ import annotations

import os
from functools import lru_cache
from types import ModuleType

# of what the kernel and its callers agree on; see VERSION in kernel/module.c
_VERSION = 2


@lru_cache(maxsize=1)
def find_kernel() -> ModuleType | None:
    """Return the module `loopwright.core._kernel`, or None where it is not there or not wanted.

    `LOOPWRIGHT_KERNEL=off` says that it is not wanted. A kernel that was built from other sources
    is not used.
    """
    if os.environ.get("LOOPWRIGHT_KERNEL", "").lower() == "off":
        return None
    try:
        from loopwright.core import _kernel
    except ImportError:
        return None
    return _kernel if getattr(_kernel, "VERSION", 0) == _VERSION else None
