"""What scripts import of SageMaker's own containers is there, in jobs and behind endpoints."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loopwright.sagemaker
from loopwright.sagemaker.image import is_before

from .conftest import archive, channel, image

INSIDE = Path(loopwright.sagemaker.__file__).parent / "inside"
SCRIPT = """
import os, pickle
import xgboost as xgb
from sagemaker_containers.beta.framework import content_types, encoders, env, worker
from sagemaker_xgboost_container import checkpointing
from sagemaker_xgboost_container.data_utils import get_dmatrix

rows = get_dmatrix(os.environ["SM_CHANNEL_TRAIN"], "text/csv")
booster = checkpointing.train(
    {
        "params": {"objective": "reg:squarederror"},
        "dtrain": rows,
        "num_boost_round": 4,
        "evals": [(rows, "validation")],
    },
    checkpoint_dir="/opt/ml/checkpoints",
)
print("kept", sorted(os.listdir("/opt/ml/checkpoints")), env.training_env().hyperparameters)
with open(os.path.join(os.environ["SM_MODEL_DIR"], "xgboost-model"), "wb") as file:
    pickle.dump(booster, file)
"""


def said(code: str, **variables: str) -> str:
    """Return what Python prints with what a job has."""
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(INSIDE), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_script_of_xgboost_finds_its_container_and_can_be_tuned_by_what_it_prints(
    train: Callable[..., Any], s3: Any, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="xgb/code.tar.gz", Body=archive({"train.py": SCRIPT}))
    s3.put_object(Bucket=bucket, Key="xgb/train/a.csv", Body=b"1,2,3\n2,3,\n3,4,5\n" * 5)

    found = train(
        AlgorithmSpecification=image("sagemaker-xgboost:1.7-1"),
        InputDataConfig=[channel("train", f"s3://{bucket}/xgb/train", ContentType="text/csv")],
        CheckpointConfig={"S3Uri": f"s3://{bucket}/xgb/checkpoints"},
        HyperParameters={
            "sagemaker_program": '"train.py"',
            "sagemaker_submit_directory": f'"s3://{bucket}/xgb/code.tar.gz"',
            "depth": "3",
        },
    )

    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    names = {each["MetricName"] for each in found["FinalMetricDataList"]}
    assert "validation:rmse" in names


def test_checkpoints_go_on_where_they_were_and_old_ones_go(tmp_path: Path) -> None:
    code = """
    import numpy as np, os, sys, xgboost
    from sagemaker_xgboost_container import checkpointing
    folder = os.environ["FOLDER"]
    X = np.arange(20.0).reshape(10, 2)
    given = {"params": {}, "dtrain": xgboost.DMatrix(X, label=X[:, 0])}
    first = checkpointing.train({**given, "num_boost_round": 7}, checkpoint_dir=folder)
    kept = sorted(os.listdir(folder))
    path, rounds = checkpointing.load_checkpoint(folder)
    second = checkpointing.train({**given, "num_boost_round": 9}, checkpoint_dir=folder)
    print(kept, rounds, second.num_boosted_rounds())
    """

    found = said(code, FOLDER=str(tmp_path / "checkpoints"))

    names = [f"xgboost-checkpoint.{each}" for each in range(2, 7)]
    assert found.strip() == f"{names} 7 9"


def test_a_checkpoint_that_is_torn_is_passed_over(tmp_path: Path) -> None:
    code = """
    import numpy as np, os, xgboost
    from sagemaker_xgboost_container import checkpointing
    folder = os.environ["FOLDER"]
    X = np.arange(20.0).reshape(10, 2)
    given = {"params": {}, "dtrain": xgboost.DMatrix(X, label=X[:, 0]), "num_boost_round": 2}
    checkpointing.train(given, checkpoint_dir=folder)
    open(os.path.join(folder, "xgboost-checkpoint.5"), "wb").write(b"torn")
    print(checkpointing.load_checkpoint(folder)[1])
    """

    assert said(code, FOLDER=str(tmp_path)).strip() == "2"


def test_rows_are_read_from_csv_libsvm_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,0.5,2,\n0,1.5,3,4\n")
    (tmp_path / "a.libsvm").write_text("1 0:2 2:4\n0 1:3\n")
    code = """
    import os, pyarrow, pyarrow.parquet
    from sagemaker_xgboost_container.data_utils import get_dmatrix
    folder = os.environ["FOLDER"]
    table = pyarrow.table({"y": [1.0, 0.0], "x": [2.0, 3.0]})
    pyarrow.parquet.write_table(table, f"{folder}/a.parquet")
    for name, kind, weights in (
        ("a.csv", "text/csv", 0), ("a.csv", "csv;label_size=1", 1),
        ("a.libsvm", "libsvm", 0), ("a.parquet", "application/x-parquet", 0),
    ):
        rows = get_dmatrix(f"{folder}/{name}", kind, csv_weights=weights)
        print(rows.num_row(), rows.num_col(), rows.get_label().tolist(), rows.get_weight().tolist())
    print(get_dmatrix(f"{folder}/nothing", "csv"))
    """

    lines = said(code, FOLDER=str(tmp_path)).splitlines()

    assert lines == [
        "2 3 [1.0, 0.0] []",
        "2 2 [1.0, 0.0] [0.5, 1.5]",
        "2 3 [1.0, 0.0] []",
        "2 1 [1.0, 0.0] []",
        "None",
    ]


def test_arrays_are_written_and_read_in_the_toolkits_media_types() -> None:
    code = """
    import numpy as np
    from sagemaker_containers.beta.framework import content_types, encoders, worker
    from sagemaker_inference import decoder, encoder, errors
    array = np.array([[1.5, 2.0], [3.0, 4.0]])
    for kind in (content_types.JSON, content_types.CSV, content_types.NPY):
        print((decoder.decode(encoder.encode(array, kind), kind) == array).all())
    print(repr(encoders.encode([1, 2], "text/csv")))
    print(worker.Response("x", mimetype="text/csv").mimetype)
    try:
        encoder.encode(array, "image/png")
    except errors.UnsupportedFormatError as error:
        print(error)
    """

    assert said(code).splitlines() == [
        "True",
        "True",
        "True",
        "'1\\n2\\n'",
        "text/csv",
        "Content type image/png is not supported by this framework.",
    ]


def test_what_a_script_brings_itself_is_found_first(tmp_path: Path) -> None:
    own = tmp_path / "sagemaker_inference"
    own.mkdir()
    (own / "__init__.py").write_text("mine = True\n")

    found = said(
        "import sagemaker_inference as s; print(getattr(s, 'mine', False))",
        PYTHONPATH=os.pathsep.join([str(INSIDE), str(tmp_path)]),
    )

    assert found.strip() == "True"


def test_the_address_of_sts_leads_here_from_within_a_job() -> None:
    code = """
    import boto3
    client = boto3.client("sts", region_name="us-east-1",
                          endpoint_url="https://sts.us-east-1.amazonaws.com")
    print(client.meta.endpoint_url)
    """

    assert said(code, AWS_ENDPOINT_URL="http://127.0.0.1:9").strip() == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("tag", "is_old"),
    [("1", True), ("latest", True), ("0.90-2-cpu-py3", True), ("1.2-1", True), ("1.2-2", False)],
)
def test_images_of_xgboost_are_told_by_their_tags(tag: str, is_old: bool) -> None:
    assert is_before(tag, (1, 2, 2)) is is_old
