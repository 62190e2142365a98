"""What NannyML estimates on rows in a folder; run by `bench_estimate.py` in a Python of its own."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path


def main() -> None:
    """Print the estimates of the live rows, and what they cost, as the last line, JSON."""
    import nannyml
    import pandas as pd

    logging.disable(logging.CRITICAL)
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    reference, live = (pd.read_parquet(folder / f"{n}.parquet") for n in ("reference", "live"))
    started = time.process_time()
    if kind == "numbers":
        metrics = ["mae", "rmse", "mape"]
        columns = [name for name in reference.columns if not name.startswith("__")]
        estimator = nannyml.DLE(
            feature_column_names=columns,
            y_pred="__said",
            y_true="__y",
            metrics=metrics,
            chunk_number=1,
        )
    else:
        metrics = ["accuracy", "recall", "precision", "f1", "roc_auc"]
        estimator = nannyml.CBPE(
            y_pred_proba="__said",
            y_pred="__class",
            y_true="__y",
            problem_type="classification_binary",
            metrics=metrics,
            chunk_number=1,
        )
    estimator.fit(reference)
    found = estimator.estimate(live).filter(period="analysis").to_df()
    estimates = {name: float(found[(name, "value")].iloc[0]) for name in metrics}
    print(json.dumps({"estimates": estimates, "cpu_s": time.process_time() - started}))


if __name__ == "__main__":
    main()
