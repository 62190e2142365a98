"""How the entry point was started, as far as scripts ask."""

from __future__ import annotations

import json
import os
import socket


def _wait_hostname_resolution() -> None:
    """Return when all hosts of the job can be found by name."""
    for host in json.loads(os.environ.get("SM_HOSTS", "[]")):
        socket.gethostbyname(host)
