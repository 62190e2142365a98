"""A processing job with a script; experiments with runs, loaded again."""

import tempfile
import time
from pathlib import Path

import numpy as np
from sagemaker.core import image_uris
from sagemaker.core.experiments.run import Run, load_run
from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.core.processing import ScriptProcessor
from sagemaker.core.resources import Experiment, ProcessingJob
from sagemaker.core.shapes import (
    ProcessingInput,
    ProcessingOutput,
    ProcessingS3Input,
    ProcessingS3Output,
)

PREPARE = """
import argparse

import pandas as pd

parser = argparse.ArgumentParser()
parser.add_argument("--share", type=float)
rows = pd.read_csv("/opt/ml/processing/input/rows.csv")
rows.sample(frac=parser.parse_args().share, random_state=1).to_csv(
    "/opt/ml/processing/train/train.csv", index=False
)
"""

session = Session()
role = get_execution_role(session)
bucket = session.default_bucket()
name = f"v3-processing-{int(time.time())}"
folder = Path(tempfile.mkdtemp())
numbers = np.random.default_rng(5).normal(5, 2, (200, 3))
np.savetxt(folder / "rows.csv", numbers, delimiter=",", header="a,b,c", comments="")
session.upload_data(str(folder / "rows.csv"), bucket=bucket, key_prefix=f"{name}/raw")
(folder / "prepare.py").write_text(PREPARE)
processor = ScriptProcessor(
    role=role,
    image_uri=image_uris.retrieve("sklearn", session.boto_region_name, version="1.2-1"),
    command=["python3"],
    instance_count=1,
    instance_type="ml.m5.large",
    sagemaker_session=session,
)
processor.run(
    code=str(folder / "prepare.py"),
    arguments=["--share", "0.25"],
    job_name=name,
    inputs=[
        ProcessingInput(
            input_name="rows",
            s3_input=ProcessingS3Input(
                s3_uri=f"s3://{bucket}/{name}/raw",
                local_path="/opt/ml/processing/input",
                s3_data_type="S3Prefix",
                s3_input_mode="File",
            ),
        )
    ],
    outputs=[
        ProcessingOutput(
            output_name="train",
            s3_output=ProcessingS3Output(
                s3_uri=f"s3://{bucket}/{name}/train",
                local_path="/opt/ml/processing/train",
                s3_upload_mode="EndOfJob",
            ),
        )
    ],
)
job = ProcessingJob.get(name)
lines = session.read_s3_file(bucket, f"{name}/train/train.csv").splitlines()
print(job.processing_job_status, len(lines))
assert job.processing_job_status == "Completed"
assert len(lines) == 51

for depth in (2, 3):
    with Run(experiment_name=name, run_name=f"depth-{depth}", sagemaker_session=session) as run:
        run.log_parameter("depth", depth)
        for step in range(3):
            run.log_metric(name="loss", value=1.0 / (depth + step), step=step)
with load_run(experiment_name=name, run_name="depth-3", sagemaker_session=session) as run:
    print(run._trial_component.parameters)
    assert run._trial_component.parameters["depth"] == 3.0
assert Experiment.get(name).experiment_name == name
