"""The real tables of `bench_auto.py`: which they are, how they are divided, how answers are judged.

Needs NumPy, pandas and scikit-learn alone, so that every tool's own Python can import it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

DATASETS = Path(
    os.environ.get("LOOPWRIGHT_DATASETS", Path(__file__).parents[2] / "shared" / "datasets")
)
METRIC = {"regression": "rmse", "binary": "roc_auc", "multiclass": "log_loss"}
SHARE_TO_LEARN = 0.8
# table, target, task, columns that would give the answer away or name the row
TABLES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "berka_loan": ("status", "multiclass", ("loan_id", "account_id")),
    "ames": ("Sale_Price", "regression", ()),
    "wine_quality": ("quality", "multiclass", ()),
    "telco_churn": ("Churn", "binary", ("customerID",)),
    "bikeshare_hourly": ("bikers", "regression", ("casual", "registered")),
    "lending_club": ("Class", "binary", ()),
    "hotel_rates": ("avg_price_per_room", "regression", ()),
    "kc_house": ("price", "regression", ("id",)),
    "uci_credit_card_default": ("default.payment.next.month", "binary", ("ID",)),
    "adult": ("income", "binary", ()),
    "diamonds": ("price", "regression", ()),
    "nycflights13_flights": ("arr_delay", "regression", ("arr_time",)),
}


def rows(name: str, seed: int) -> tuple[Any, Any, str, str]:
    """Return rows to learn from and rows to answer, as pandas tables, the target and the task."""
    import numpy as np
    import pandas as pd

    target, task, left_out = TABLES[name]
    frame = pd.read_parquet(DATASETS / f"{name}.parquet").dropna(subset=[target])
    frame = frame.drop(columns=[c for c in left_out if c in frame])
    # a row that stands among both parts would measure memory, not learning
    frame = frame.drop_duplicates().reset_index(drop=True)
    if task != "regression":
        counts = frame[target].value_counts()
        frame = frame[frame[target].isin(counts[counts >= 10].index)].reset_index(drop=True)
        frame[target] = frame[target].astype(str)
    order = np.random.default_rng(seed).permutation(len(frame))
    cut = int(SHARE_TO_LEARN * len(frame))
    return frame.iloc[order[:cut]], frame.iloc[order[cut:]], target, task


def truth_of(task: str, y: Any, classes: list[str]) -> Any:
    """Return the truth as numbers: values, or places among the classes."""
    import numpy as np

    if task == "regression":
        return np.asarray(y, dtype=float)
    places = {name: float(place) for place, name in enumerate(classes)}
    return np.array([places[str(each)] for each in y])


def error_of(task: str, y: Any, raw: Any, spread: float) -> float:
    """Return the error: RMSE by the spread of the target, 1 - AUC, or the logarithmic loss.

    By scikit-learn, not by the metrics of any of the tools.
    """
    import numpy as np
    from sklearn.metrics import log_loss, roc_auc_score

    if task == "regression":
        return float(np.sqrt(np.mean((y - raw) ** 2)) / spread)
    if task == "binary":
        return float(1 - roc_auc_score(y == 1, raw))
    clipped = np.clip(raw, 1e-15, 1)
    return float(
        log_loss(y, clipped / clipped.sum(axis=1, keepdims=True), labels=range(raw.shape[1]))
    )


def digest_of(y: Any) -> str:
    """Return a digest of the truth: tools that answered other rows do not compare."""
    return hashlib.sha256(y.tobytes()).hexdigest()[:16]
