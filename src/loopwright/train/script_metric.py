"""Metrics that a script prints: found in its log by regular expressions, while it runs.

Standard library only, since the process that starts the script imports it.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

# a line longer than this is matched in part
_LONGEST_LINE = 8 << 10
_ENDS = re.compile(rb"[\r\n]+")


class MetricFinder:
    """Looks at what a script prints and writes every metric it finds to a file of JSON lines.

    A line of the file has `step` (the how-manieth value of this metric, from 0), `name`, `value`
    (null for what is not finite) and `at` (seconds since 1970).

    Parameters
    ----------
    patterns
        Regular expressions by metric; the first group is the number.
    file
        Where the metrics go.
    """

    def __init__(self, patterns: Mapping[str, str], file: TextIO) -> None:
        self._patterns = {name: re.compile(pattern) for name, pattern in patterns.items()}
        self._file = file
        self._steps: Counter[str] = Counter()
        self._rest = b""
        self.latest: dict[str, float | None] = {}

    def beside(self) -> MetricFinder:
        """Return a finder for another log, whose metrics are written and counted with these."""
        other = MetricFinder({}, self._file)
        other._patterns, other._steps, other.latest = self._patterns, self._steps, self.latest
        return other

    def see(self, data: bytes) -> None:
        """Take in the next piece of the log."""
        if not self._patterns:
            return
        *lines, rest = _ENDS.split(self._rest + data)
        for line in lines:
            self._look(line)
        # a line without end must not be kept without end
        self._rest = rest[:_LONGEST_LINE]

    def close(self) -> None:
        """Look at a last line that has no end."""
        self._look(self._rest)
        self._rest = b""

    def _look(self, line: bytes) -> None:
        text = line[:_LONGEST_LINE].decode(errors="replace")
        for name, pattern in self._patterns.items():
            match = pattern.search(text)
            if match is None or match[1] is None:
                continue
            try:
                number = float(match[1])
            except ValueError:
                continue
            value = number if math.isfinite(number) else None
            self.latest[name] = value
            said = {"step": self._steps[name], "name": name, "value": value}
            self._steps[name] += 1
            self._file.write(json.dumps({**said, "at": round(time.time(), 3)}) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the metrics in a file of JSON lines, which a job may be writing just now."""
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):  # else it is being written
            found.append(json.loads(line))
    return found
