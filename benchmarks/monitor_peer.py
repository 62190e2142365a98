"""Runs Evidently or NannyML on windows of `bench_monitor.py`, in their own Python.

    python monitor_peer.py evidently|nannyml FOLDER [time]

reads `reference.parquet` and `windows.parquet` (column `window`), and prints one line of JSON: which
windows alarm by each of the tool's rules, and the CPU seconds it took.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")


def main() -> None:
    """Answer the command line."""
    import pandas as pd

    tool, folder = sys.argv[1], Path(sys.argv[2])
    reference = pd.read_parquet(folder / "reference.parquet")
    windows = pd.read_parquet(folder / "windows.parquet")
    run = {"evidently": _evidently, "nannyml": _nannyml}[tool]
    began = time.process_time()
    flags = run(reference, windows)
    print(json.dumps({"flags": flags, "cpu_s": time.process_time() - began}))


def _evidently(reference: Any, windows: Any) -> dict[str, list[bool]]:
    from evidently import Dataset, Report
    from evidently.presets import DataDriftPreset

    columns = [c for c in reference.columns if c not in ("truth", "window")]
    before = Dataset.from_pandas(reference[columns])
    any_column, half = [], []
    for _, rows in windows.groupby("window"):
        now = Dataset.from_pandas(rows[columns].reset_index(drop=True))
        found = Report([DataDriftPreset()]).run(now, before).dict()["metrics"]
        count = found[0]["value"]
        any_column.append(count["count"] > 0)
        half.append(count["share"] >= 0.5)
    return {"any column": any_column, "half of the columns": half}


def _nannyml(reference: Any, windows: Any) -> dict[str, list[bool]]:
    import nannyml as nml

    columns = [c for c in reference.columns if c not in ("truth", "window")]
    size = int((windows["window"] == windows["window"].iloc[0]).sum())
    univariate = nml.UnivariateDriftCalculator(
        column_names=columns,
        continuous_methods=["jensen_shannon"],
        categorical_methods=["jensen_shannon"],
        chunk_size=size,
    ).fit(reference[columns])
    frame = univariate.calculate(windows[columns]).filter(period="analysis").to_df(multilevel=False)
    alerts = [c for c in frame.columns if c.endswith("_alert")]
    flags = {"univariate, any column": frame[alerts].any(axis=1).tolist()}
    if "truth" in windows and "time" not in sys.argv[3:]:
        flags |= _nannyml_performance(nml, reference, windows, size)
    return flags


def _nannyml_performance(nml: Any, reference: Any, windows: Any, size: int) -> dict[str, Any]:
    both = []
    for frame in (reference, windows):
        held = frame[["score", "truth"]].copy()
        held["answer"] = (held["score"] > 0.5).astype(int)
        both.append(held)
    realised = nml.PerformanceCalculator(
        y_pred_proba="score",
        y_pred="answer",
        y_true="truth",
        problem_type="classification_binary",
        metrics=["roc_auc", "f1", "accuracy"],
        chunk_size=size,
    ).fit(both[0])
    frame = realised.calculate(both[1]).filter(period="analysis").to_df(multilevel=False)
    alerts = [c for c in frame.columns if c.endswith("_alert")]
    return {"realised performance, any of 3": frame[alerts].any(axis=1).tolist()}


if __name__ == "__main__":
    main()
