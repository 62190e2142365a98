"""A monitor report as an HTML fragment with its plots inside."""

from __future__ import annotations

from html import escape

from loopwright.monitor.report import MonitorReport, StreamDrift, told_figure

_WIDTH, _HEIGHT = 320, 90
_N_PLOTS = 4
_STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2rem;color:#1b1f24}"
    "table{border-collapse:collapse}th,td{padding:.25rem .75rem;text-align:right;"
    "border-bottom:1px solid #d8dce1}th:first-child,td:first-child{text-align:left}"
    "figure{display:inline-block;margin:1rem 1rem 0 0}"
)


def to_html(report: MonitorReport) -> str:
    """Return a `<section>` without scripts or outside resources, for a notebook or a page.

    Everything that comes from the data, such as column names, is escaped.
    """
    parts = [
        '<section class="loopwright-monitor">',
        f"<h3>Monitor: {escape(report.verdict.replace('_', ' '))}</h3>",
        f"<p>{escape(report.reason)}</p>",
        f"<p>{escape(report.action)}</p>",
        f"<p>Version {escape(report.version)}: {report.n_predictions:,} predictions, "
        f"{report.n_labelled:,} labelled ({report.coverage:.0%}), "
        f"{report.n_windows:,} windows.</p>",
        _list([finding.message for finding in report.findings]),
        _list([alarm.message for alarm in report.alarms]),
        _list([told_figure(figure) for figure in report.figures]),
        _table(report.drift),
        *[_plot(drift) for drift in report.drift[:_N_PLOTS] if drift.effect.n_rows],
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def monitor_page(report: MonitorReport) -> str:
    """Return the same as a whole page that needs nothing else."""
    title = f"Monitor: version {escape(report.version)}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{to_html(report)}\n</body></html>\n"
    )


def _list(lines: list[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _table(drifts: tuple[StreamDrift, ...]) -> str:
    rows = "".join(
        f"<tr><td>{escape(drift.stream)}</td><td>{drift.state}</td>"
        f"<td>{drift.effect.distance:.3f}</td><td>{drift.floor_ratio:.1f}</td>"
        f"<td>{drift.effect.missing_share:.1%}</td><td>{drift.effect.n_rows:,}</td></tr>"
        for drift in drifts
    )
    head = "".join(
        f"<th>{name}</th>"
        for name in ("stream", "state", "distance", "times noise floor", "missing", "rows")
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _plot(drift: StreamDrift) -> str:
    """Reference shares as grey bars, live shares as a blue outline over them."""
    tallest = max((*drift.live_shares, *drift.reference_shares)) or 1.0
    width = _WIDTH / len(drift.bins)
    bars = []
    for index, name in enumerate(drift.bins):
        live, before = drift.live_shares[index], drift.reference_shares[index]
        title = f"<title>{escape(name)}: {before:.1%} before, {live:.1%} live</title>"
        bars.append(_bar(index * width, width, before / tallest, 'fill="#c8ccd2"', title))
        bars.append(
            _bar(index * width, width, live / tallest, 'fill="none" stroke="#1565c0"', title)
        )
    label = f"{escape(drift.stream)}: reference (grey) and live (blue)"
    return (
        f'<figure><figcaption>{label}</figcaption><svg role="img" aria-label="{label}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        f"{''.join(bars)}</svg></figure>"
    )


def _bar(x: float, width: float, share: float, style: str, title: str) -> str:
    height = share * (_HEIGHT - 4)
    return (
        f'<rect x="{x + 0.5:.1f}" y="{_HEIGHT - height:.1f}" width="{max(width - 1, 0.5):.1f}" '
        f'height="{height:.1f}" {style}>{title}</rect>'
    )
