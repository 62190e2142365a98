"""The metrics of a job as small curves, drawn without a library."""

from __future__ import annotations

import html
from collections.abc import Sequence

_WIDTH, _HEIGHT, _MARGIN = 260, 90, 6
_MOST_POINTS = 400
_MOST_CURVES = 12


def curve_svg(rows: Sequence[tuple[str, int, float | None]]) -> str:
    """Return a curve for every metric, with its least, greatest and last value.

    Parameters
    ----------
    rows
        Name, step and value; None for a value that was not finite.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for name, step, value in rows:
        points = found.setdefault(name, [])
        if value is not None:
            points.append((step, value))
    drawn = [_one(name, points) for name, points in list(found.items())[:_MOST_CURVES] if points]
    return f"<div style='display:flex;flex-wrap:wrap;gap:12px'>{''.join(drawn)}</div>"


def _one(name: str, points: Sequence[tuple[int, float]]) -> str:
    every = max(1, len(points) // _MOST_POINTS)
    shown = [*points[:-1][::every], points[-1]]
    values = [value for _, value in points]
    low, high = min(values), max(values)
    first, last = shown[0][0], shown[-1][0]
    wide, tall = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    places = " ".join(
        f"{_MARGIN + wide * (step - first) / max(1, last - first):.1f},"
        f"{_MARGIN + tall * (1 - _share(value, low, high)):.1f}"
        for step, value in shown
    )
    title = html.escape(name)
    return (
        f"<figure style='margin:0'><svg role='img' aria-label='{title}' width='{_WIDTH}' "
        f"height='{_HEIGHT}' style='border:1px solid #8884;border-radius:4px'>"
        f"<polyline fill='none' stroke='currentColor' stroke-width='1.5' points='{places}'/></svg>"
        f"<figcaption style='font-size:smaller'>{title}: {values[-1]:.5g} "
        f"<span style='opacity:.7'>({low:.5g} to {high:.5g})</span></figcaption></figure>"
    )


def _share(value: float, low: float, high: float) -> float:
    """Return where a value stands between the least and the greatest one, 0 to 1."""
    return (value - low) / (high - low) if high > low else 0.5
