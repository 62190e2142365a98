"""The report of an analysis: one page that needs nothing else, and a notebook of tables."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopwright.monitor.sheet import page_template
from loopwright.sagemaker.clarify.analysis import Analysis
from loopwright.sagemaker.clarify.config import AnalysisConfig

_MOST_BARS = 20
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 360.0, 190.0, 46.0, 26.0
_SECTIONS = (
    ("pre_training_bias_metrics", "Bias in the data", "before training"),
    ("post_training_bias_metrics", "Bias in the predictions", "after training"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A value as a bar: `start` and `width` in percent of the room."""

    name: str
    note: str
    value: str
    start: float
    width: float
    is_below: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The measures of one group of a facet."""

    facet: str
    value: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A partial dependence as a picture: lines, or bars for categories, over shares of rows."""

    name: str
    lines: tuple[tuple[str, str], ...]
    shares: tuple[tuple[float, float, float, float], ...]
    ticks: tuple[tuple[float, str], ...]
    low: str
    high: str
    error: str = ""


def told(value: Any) -> str:
    """Return a figure as people read it.

    Examples
    --------
    >>> told(0.123456), told("Infinity"), told(None), told(0)
    ('0.1235', 'Infinity', '–', '0')
    """
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return f"{value:.4g}"


def report_page(title: str, config: AnalysisConfig, found: Analysis, *, n_rows: int) -> str:
    """Return the page.

    Parameters
    ----------
    n_rows
        How many rows were analysed.
    """
    explained = found.told.get("explanations", {})
    return page_template("loopwright.sagemaker.clarify", "report.html.j2").render(
        title=title,
        n_rows=n_rows,
        sections=list(_bias_sections(found.told)),
        attributions=[
            {
                "label": label,
                "bars": _attribution_bars(about),
                "base": told(about["expected_value"]),
            }
            for label, about in explained.get("kernel_shap", {}).items()
        ],
        method=config.methods.shap.agg_method if config.methods.shap else "",
        curves=[_curve(each) for each in explained.get("pdp", ())],
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        bottom=_BOTTOM,
    )


def _bias_sections(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, title, when in _SECTIONS:
        if name in found:
            about = found[name]
            groups = [
                Group(facet=facet, value=each["value_or_threshold"], bars=_bias_bars(each))
                for facet, entries in about["facets"].items()
                for each in entries
            ]
            yield {
                "title": title,
                "when": when,
                "label": about["label"],
                "value": about["label_value_or_threshold"],
                "groups": groups,
            }


def _bias_bars(group: Mapping[str, Any]) -> tuple[Bar, ...]:
    """Return the measures; their bars go from 0 in the middle to 1 at either end."""
    found = []
    for each in group["metrics"]:
        number = float(each["value"]) if each["value"] is not None else 0.0
        width = 50 * min(1.0, abs(number))
        found.append(
            Bar(
                name=each["name"],
                note=each.get("error") or each["description"],
                value=told(each["value"]),
                start=50 - width if number < 0 else 50.0,
                width=width,
                is_below=number < 0,
            )
        )
    return tuple(found)


def _attribution_bars(about: Mapping[str, Any]) -> tuple[Bar, ...]:
    pairs = sorted(about["global_shap_values"].items(), key=lambda pair: -abs(pair[1]))
    most = max((abs(value) for _, value in pairs), default=0.0) or 1.0
    return tuple(
        Bar(
            name=name,
            note="",
            value=told(value),
            start=0.0,
            width=100 * abs(value) / most,
            is_below=value < 0,
        )
        for name, value in pairs[:_MOST_BARS]
    )


def _curve(each: Mapping[str, Any]) -> Curve:
    if "error" in each:
        return Curve(
            name=each["feature_name"],
            lines=(),
            shares=(),
            ticks=(),
            low="",
            high="",
            error=each["error"],
        )
    values, shares = each["feature_values"], each["data_distribution"]
    known = [p for line in each["model_predictions"] for p in line if math.isfinite(p)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    reach = high - low or 1.0
    room, tall = _WIDTH - _LEFT, _HEIGHT - _BOTTOM
    step = room / max(1, len(values))
    middles = [_LEFT + step * (at + 0.5) for at in range(len(values))]
    lines = tuple(
        (
            str(header),
            " ".join(
                f"{x:.1f},{(tall - 10) * (1 - (p - low) / reach) + 6:.1f}"
                for x, p in zip(middles, line, strict=True)
            ),
        )
        for header, line in zip(each["label_headers"], each["model_predictions"], strict=True)
    )
    most = max(shares, default=1.0) or 1.0
    bars = tuple(
        (x - step * 0.4, tall - 0.4 * tall * share / most, step * 0.8, 0.4 * tall * share / most)
        for x, share in zip(middles, shares, strict=True)
    )
    every = max(1, math.ceil(len(values) / 6))
    ticks = tuple(
        (x, _short(value))
        for at, (x, value) in enumerate(zip(middles, values, strict=True))
        if at % every == 0
    )
    return Curve(
        name=each["feature_name"],
        lines=lines,
        shares=bars,
        ticks=ticks,
        low=told(low),
        high=told(high),
    )


def _short(value: Any) -> str:
    text = told(value) if isinstance(value, float) else str(value)
    return text if len(text) <= 9 else f"{text[:8]}…"


def notebook(title: str, found: Mapping[str, Any]) -> str:
    """Return a static notebook with the same figures as tables."""
    cells = [f"# {title}\n", *_tables(found)]
    return json.dumps(
        {
            "cells": [
                {"cell_type": "markdown", "id": f"cell-{at}", "metadata": {}, "source": text}
                for at, text in enumerate(cells)
            ],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        },
        indent=1,
    )


def _tables(found: Mapping[str, Any]) -> Iterator[str]:
    for section in _bias_sections(found):
        yield (
            f"## {section['title']}\n\nLabel {_plain(section['label'])}, favourable: "
            f"{_plain(section['value'])}"
        )
        for group in section["groups"]:
            rows = [(each.name, each.note, each.value) for each in group.bars]
            head = f"### {_plain(group.facet)}: {_plain(group.value)}\n\n"
            yield head + _table(("measure", "meaning", "value"), rows)
    for label, about in found.get("explanations", {}).get("kernel_shap", {}).items():
        values = [(each.name, each.value) for each in _attribution_bars(about)]
        yield f"## Attributions: {_plain(label)}\n\n" + _table(("feature", "SHAP value"), values)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(_plain(each) for each in line)} |" for line in lines)


def _plain(text: Any) -> str:
    """Return a text that is nothing but text in Markdown."""
    found = str(text).replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return found.replace("|", "\\|").replace("`", "'").replace("[", "\\[")
