"""What the endpoint sees now against what the model was made with: in go rows, out comes a report."""

from loopwright.monitor.alarm import Alarm
from loopwright.monitor.detector import DetectorState, alarm_threshold, start_detector, step
from loopwright.monitor.effect import Effect, measured_effect
from loopwright.monitor.finding import DataFinding
from loopwright.monitor.label import Joined, Maturity, join_labels, label_maturity
from loopwright.monitor.page import monitor_page, to_html
from loopwright.monitor.plan import LabelPlan, MonitorPlan
from loopwright.monitor.quality import LiveFigure, live_figure, live_figures
from loopwright.monitor.reference import Reference, StreamReference, bin_counts, build_reference
from loopwright.monitor.report import MonitorReport, StreamDrift, summary
from loopwright.monitor.watch import WatchState, acknowledge, start_watch, watch

__all__ = [
    "Alarm",
    "DataFinding",
    "DetectorState",
    "Effect",
    "Joined",
    "LabelPlan",
    "LiveFigure",
    "Maturity",
    "MonitorPlan",
    "MonitorReport",
    "Reference",
    "StreamDrift",
    "StreamReference",
    "WatchState",
    "acknowledge",
    "alarm_threshold",
    "bin_counts",
    "build_reference",
    "join_labels",
    "label_maturity",
    "live_figure",
    "live_figures",
    "measured_effect",
    "monitor_page",
    "start_detector",
    "start_watch",
    "step",
    "summary",
    "to_html",
    "watch",
]
