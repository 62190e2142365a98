"""What the endpoint sees now against what the model was made with: in go rows, out comes a report."""

from loopwright.monitor.alarm import Alarm
from loopwright.monitor.attribution import Attribution
from loopwright.monitor.detector import alarm_threshold, start_detector, step
from loopwright.monitor.effect import Effect, measured_effect
from loopwright.monitor.estimate import Estimate
from loopwright.monitor.estimate_check import EstimateCheck
from loopwright.monitor.evidence import DetectorState
from loopwright.monitor.finding import DataFinding
from loopwright.monitor.ground_truth import GroundTruth, told_truth
from loopwright.monitor.hourly import LiveStatistics, WindowKey
from loopwright.monitor.insight import Insight
from loopwright.monitor.label import Joined, Maturity, join_labels, label_maturity
from loopwright.monitor.label_rule import HeldBatch, LabelCounts
from loopwright.monitor.learning import build_reference
from loopwright.monitor.ledger import Ledger
from loopwright.monitor.ledger_row import LedgerAbout
from loopwright.monitor.page import monitor_page, to_html
from loopwright.monitor.plan import LabelPlan, MonitorPlan
from loopwright.monitor.quality import LiveFigure, live_figure, live_figures
from loopwright.monitor.reference import Reference, StreamReference, bin_counts
from loopwright.monitor.report import MonitorReport, StreamDrift, summary, with_insight
from loopwright.monitor.source_history import SourceHistory
from loopwright.monitor.suspect import Suspect, judged_batches
from loopwright.monitor.watch import WatchState, acknowledge, start_watch, watch
from loopwright.monitor.year import Timing

__all__ = [
    "Alarm",
    "Attribution",
    "DataFinding",
    "DetectorState",
    "Effect",
    "Estimate",
    "EstimateCheck",
    "GroundTruth",
    "HeldBatch",
    "Insight",
    "Joined",
    "LabelCounts",
    "LabelPlan",
    "Ledger",
    "LedgerAbout",
    "LiveFigure",
    "LiveStatistics",
    "Maturity",
    "MonitorPlan",
    "MonitorReport",
    "Reference",
    "SourceHistory",
    "StreamDrift",
    "StreamReference",
    "Suspect",
    "Timing",
    "WatchState",
    "WindowKey",
    "acknowledge",
    "alarm_threshold",
    "bin_counts",
    "build_reference",
    "join_labels",
    "judged_batches",
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
    "told_truth",
    "watch",
    "with_insight",
]
