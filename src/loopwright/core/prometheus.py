"""Figures in the text format that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def family(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    """Yield the lines of one metric.

    Parameters
    ----------
    kind
        `gauge`, `counter` or `histogram`.
    text
        What it tells, in a sentence without line breaks.
    samples
        What follows the name, as `labels` gives it, and the value.
    """
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for suffix, value in samples:
        yield f"{name}{suffix} {value}"


def labels(values: Mapping[str, str]) -> str:
    """Return labels in braces; nothing for none.

    Examples
    --------
    >>> labels({"loop": "churn", "kind": 'a "b"'})
    '{loop="churn",kind="a \\\\"b\\\\""}'
    """
    pairs = ",".join(f'{key}="{_escaped(word)}"' for key, word in values.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
