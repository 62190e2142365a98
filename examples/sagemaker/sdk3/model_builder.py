"""ModelBuilder: a trained model is built, deployed, asked and deleted."""

import tempfile
from pathlib import Path

import numpy as np
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.serve import ModelBuilder
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData

session = Session()
role = get_execution_role(session)
bucket = session.default_bucket()
image = image_uris.retrieve("xgboost", session.boto_region_name, version="1.7-1")
folder = Path(tempfile.mkdtemp())
random = np.random.default_rng(2)
columns = random.normal(size=(500, 3))
labels = (columns[:, 0] - columns[:, 1] > 0).astype(int)
np.savetxt(folder / "train.csv", np.column_stack([labels, columns]), delimiter=",", fmt="%.6f")
session.upload_data(str(folder / "train.csv"), bucket=bucket, key_prefix="v3-builder")
trainer = ModelTrainer(
    sagemaker_session=session,
    role=role,
    training_image=image,
    compute=Compute(instance_type="ml.m5.large", instance_count=1),
    hyperparameters={"objective": "binary:logistic", "num_round": 20},
    base_job_name="v3-builder",
)
trainer.train(
    input_data_config=[
        InputData(
            channel_name="train", data_source=f"s3://{bucket}/v3-builder/", content_type="text/csv"
        )
    ]
)
builder = ModelBuilder(
    image_uri=image,
    s3_model_data_url=trainer._latest_training_job.model_artifacts.s3_model_artifacts,
    role_arn=role,
    sagemaker_session=session,
    instance_type="ml.m5.large",
)
model = builder.build()
endpoint = builder.deploy(initial_instance_count=1)
answer = endpoint.invoke(body="2.0,-2.0,0.0", content_type="text/csv")
found = float(answer.body.read())
print(model.model_name, found)
assert found > 0.5
endpoint.delete()
