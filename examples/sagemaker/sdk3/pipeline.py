"""A pipeline with a condition, which registers a model; the model is approved, and deployed."""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.core.processing import ScriptProcessor
from sagemaker.core.resources import ModelPackage
from sagemaker.core.shapes import (
    ProcessingInput,
    ProcessingOutput,
    ProcessingS3Input,
    ProcessingS3Output,
)
from sagemaker.core.workflow.conditions import ConditionGreaterThanOrEqualTo
from sagemaker.core.workflow.functions import Join, JsonGet
from sagemaker.core.workflow.parameters import ParameterFloat, ParameterInteger
from sagemaker.core.workflow.pipeline_context import PipelineSession
from sagemaker.core.workflow.properties import PropertyFile
from sagemaker.mlops.workflow.condition_step import ConditionStep
from sagemaker.mlops.workflow.fail_step import FailStep
from sagemaker.mlops.workflow.model_step import ModelStep
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.steps import ProcessingStep, TrainingStep
from sagemaker.serve import ModelBuilder
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData

EXAMINE = """
import json
import tarfile

import pandas as pd
import xgboost
from sklearn.metrics import roc_auc_score

with tarfile.open("/opt/ml/processing/model/model.tar.gz") as packed:
    packed.extractall(".", filter="data")
model = xgboost.Booster()
model.load_model("xgboost-model")
rows = pd.read_csv("/opt/ml/processing/test/test.csv", header=None)
answers = model.predict(xgboost.DMatrix(rows.iloc[:, 1:].to_numpy()))
with open("/opt/ml/processing/evaluation/evaluation.json", "w") as file:
    json.dump({"auc": {"value": roc_auc_score(rows[0], answers)}}, file)
"""

plain = Session()
session = PipelineSession()
role = get_execution_role(plain)
bucket = plain.default_bucket()
name = f"V3Quality{int(time.time())}"
folder = Path(tempfile.mkdtemp())
(folder / "examine.py").write_text(EXAMINE)
random = np.random.default_rng(6)
columns = random.normal(size=(600, 3))
labels = (columns[:, 0] - columns[:, 1] + 0.3 * random.normal(size=600) > 0).astype(int)
rows = np.column_stack([labels, columns])
for part, kept in {"train": rows[:400], "test": rows[400:]}.items():
    np.savetxt(folder / f"{part}.csv", kept, delimiter=",", fmt="%.6f")
    plain.upload_data(str(folder / f"{part}.csv"), bucket=bucket, key_prefix=f"{name}/{part}")
image = image_uris.retrieve("xgboost", plain.boto_region_name, version="1.7-1")


def put_in(title, uri):
    """Return an input of a processing job."""
    return ProcessingInput(
        input_name=title,
        s3_input=ProcessingS3Input(
            s3_uri=uri,
            local_path=f"/opt/ml/processing/{title}",
            s3_data_type="S3Prefix",
            s3_input_mode="File",
        ),
    )


rounds = ParameterInteger("Rounds", default_value=20)
wanted = ParameterFloat("WantedAuc", default_value=0.8)
trainer = ModelTrainer(
    sagemaker_session=session,
    role=role,
    training_image=image,
    compute=Compute(instance_type="ml.m5.large", instance_count=1),
    hyperparameters={"objective": "binary:logistic", "num_round": rounds},
    base_job_name="v3-piped",
)
train = TrainingStep(
    name="Train",
    step_args=trainer.train(
        input_data_config=[
            InputData(
                channel_name="train",
                data_source=f"s3://{bucket}/{name}/train",
                content_type="text/csv",
            )
        ]
    ),
)
model_data = train.properties.ModelArtifacts.S3ModelArtifacts
report = PropertyFile(name="Report", output_name="evaluation", path="evaluation.json")
processor = ScriptProcessor(
    role=role,
    image_uri=image_uris.retrieve("sklearn", plain.boto_region_name, version="1.2-1"),
    command=["python3"],
    instance_count=1,
    instance_type="ml.m5.large",
    sagemaker_session=session,
)
examine = ProcessingStep(
    name="Examine",
    step_args=processor.run(
        code=str(folder / "examine.py"),
        inputs=[put_in("model", model_data), put_in("test", f"s3://{bucket}/{name}/test")],
        outputs=[
            ProcessingOutput(
                output_name="evaluation",
                s3_output=ProcessingS3Output(
                    s3_uri=f"s3://{bucket}/{name}/evaluation",
                    local_path="/opt/ml/processing/evaluation",
                    s3_upload_mode="EndOfJob",
                ),
            )
        ],
    ),
    property_files=[report],
)
builder = ModelBuilder(
    image_uri=image, s3_model_data_url=model_data, role_arn=role, sagemaker_session=session
)
register = ModelStep(
    name="Register",
    step_args=builder.register(
        model_package_group_name=name,
        content_types=["text/csv"],
        response_types=["text/csv"],
        inference_instances=["ml.m5.large"],
        transform_instances=["ml.m5.large"],
        approval_status="PendingManualApproval",
    ),
)
auc = JsonGet(step_name=examine.name, property_file=report, json_path="auc.value")
enough = ConditionStep(
    name="GoodEnough",
    conditions=[ConditionGreaterThanOrEqualTo(left=auc, right=wanted)],
    if_steps=[register],
    else_steps=[FailStep(name="TooPoor", error_message=Join(on=" ", values=["AUC below", wanted]))],
)
pipeline = Pipeline(
    name=name,
    parameters=[rounds, wanted],
    steps=[train, examine, enough],
    sagemaker_session=session,
)
pipeline.upsert(role_arn=role)
execution = pipeline.start()
execution.wait(delay=2)
states = {each["StepName"]: each["StepStatus"] for each in execution.list_steps()}
print(states)
assert execution.describe()["PipelineExecutionStatus"] == "Succeeded"
(package,) = ModelPackage.get_all(model_package_group_name=name)
package = ModelPackage.get(package.model_package_arn)
assert package.model_approval_status == "PendingManualApproval"
package.update(model_approval_status="Approved")
assert ModelPackage.get(package.model_package_arn).model_approval_status == "Approved"

second = pipeline.start(parameters={"WantedAuc": 1.1})
try:
    second.wait(delay=2)
except Exception as error:
    print(error)
states = {each["StepName"]: each["StepStatus"] for each in second.list_steps()}
print(json.dumps(states))
assert states["TooPoor"] == "Failed"
pipeline.delete()
