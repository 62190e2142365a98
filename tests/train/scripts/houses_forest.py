"""A script as people write them for SageMaker's scikit-learn container; nothing here knows loopwright."""

from __future__ import annotations

import argparse
import os

import joblib
import pandas as pd
from sklearn.ensemble import RandomForestRegressor


def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))  # noqa: PTH118


def read_all(folder):
    files = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]  # noqa: PTH118, PTH208
    if not files:
        raise ValueError(f"There are no files in {folder}.")
    return pd.concat([pd.read_csv(name) for name in files])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--n-estimators", type=int, default=10)
    parser.add_argument("--min-samples-leaf", type=int, default=3)
    parser.add_argument("--features", type=str)
    parser.add_argument("--target", type=str)
    parser.add_argument("--model-dir", type=str, default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--output-data-dir", type=str, default=os.environ["SM_OUTPUT_DATA_DIR"])
    parser.add_argument("--train", type=str, default=os.environ["SM_CHANNEL_TRAIN"])
    parser.add_argument("--test", type=str, default=os.environ.get("SM_CHANNEL_TEST"))
    args, _ = parser.parse_known_args()

    train, test = read_all(args.train), read_all(args.test)
    features = args.features.split()
    model = RandomForestRegressor(
        n_estimators=args.n_estimators, min_samples_leaf=args.min_samples_leaf, random_state=0
    )
    model.fit(train[features], train[args.target])

    errors = (model.predict(test[features]) - test[args.target]).abs()
    for share in (0.1, 0.5, 0.9):
        print(f"AE-at-{100 * share:.0f}th-percentile: {errors.quantile(share)}")
    errors.to_csv(os.path.join(args.output_data_dir, "errors.csv"), index=False)  # noqa: PTH118
    joblib.dump(model, os.path.join(args.model_dir, "model.joblib"))  # noqa: PTH118
