"""A script as people write them for a container of their own: its paths are written into it."""

from __future__ import annotations

import json
import os
import sys
import traceback

prefix = "/opt/ml/"
training_path = os.path.join(prefix, "input/data", "training")  # noqa: PTH118
param_path = os.path.join(prefix, "input/config/hyperparameters.json")  # noqa: PTH118
model_path = os.path.join(prefix, "model")  # noqa: PTH118


def train() -> None:
    try:
        with open(param_path) as file:  # noqa: PTH123
            settings = json.load(file)
        degree = int(settings.get("degree", "1"))
        rows = []
        for name in os.listdir(training_path):  # noqa: PTH208
            with open(os.path.join(training_path, name)) as file:  # noqa: PTH118, PTH123
                rows += [[float(cell) for cell in line.split(",")] for line in file]
        with open(os.path.join(model_path, "model.json"), "w") as file:  # noqa: PTH118, PTH123
            json.dump({"degree": degree, "mean": sum(row[0] for row in rows) / len(rows)}, file)
    except Exception as error:
        with open(os.path.join(prefix, "output", "failure"), "w") as file:  # noqa: PTH118, PTH123
            file.write(f"Exception during training: {error}\n{traceback.format_exc()}")
        sys.exit(255)


if __name__ == "__main__":
    train()
