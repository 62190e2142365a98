"""A scikit-learn script of one's own: trained with ModelTrainer, deployed, asked, deleted."""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.core.resources import Endpoint, EndpointConfig, Model, TrainingJob
from sagemaker.core.shapes import ContainerDefinition, MetricDefinition, ProductionVariant
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, SourceCode

SCRIPT = """
import argparse
import json
import os

import numpy as np
from sklearn.linear_model import LogisticRegression

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--strength", type=float)
    asked = parser.parse_args()
    rows = np.loadtxt(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "train.csv"), delimiter=",")
    model = LogisticRegression(C=asked.strength).fit(rows[:, 1:], rows[:, 0])
    print(f"accuracy: {model.score(rows[:, 1:], rows[:, 0]):.4f}", flush=True)
    folder = os.environ["SM_MODEL_DIR"]
    with open(os.path.join(folder, "model.json"), "w") as file:
        json.dump([model.coef_[0].tolist(), model.intercept_[0]], file)
    os.makedirs(os.path.join(folder, "code"))
    with open(os.path.join(folder, "code", "inference.py"), "w") as file:
        file.write(open("inference.py").read())
"""
SERVING = """
import json
import os

import numpy as np


def model_fn(model_dir):
    with open(os.path.join(model_dir, "model.json")) as file:
        return json.load(file)


def predict_fn(rows, model):
    return 1 / (1 + np.exp(-(np.atleast_2d(rows) @ model[0] + model[1])))
"""

session = Session()
role = get_execution_role(session)
bucket = session.default_bucket()
image = image_uris.retrieve("sklearn", session.boto_region_name, version="1.2-1")
folder = Path(tempfile.mkdtemp())
(folder / "train.py").write_text(SCRIPT)
(folder / "inference.py").write_text(SERVING)
random = np.random.default_rng(1)
labels = random.integers(0, 2, 400)
points = random.normal(size=(400, 3)) + labels[:, None] * [2.0, -1.0, 0.0]
data = folder / "train.csv"
np.savetxt(data, np.column_stack([labels, points]), delimiter=",", fmt="%.6f")
session.upload_data(str(data), bucket=bucket, key_prefix="v3-script")
data.unlink()

trainer = ModelTrainer(
    sagemaker_session=session,
    role=role,
    training_image=image,
    source_code=SourceCode(source_dir=str(folder), entry_script="train.py"),
    compute=Compute(instance_type="ml.m5.large", instance_count=1),
    hyperparameters={"strength": 0.5},
    base_job_name="v3-script",
).with_metric_definitions([MetricDefinition(name="accuracy", regex="accuracy: ([0-9.]+)")])
trainer.train(
    input_data_config=[InputData(channel_name="train", data_source=f"s3://{bucket}/v3-script/")]
)
job = TrainingJob.get(trainer._latest_training_job.training_job_name)
(metric,) = job.final_metric_data_list
print(job.training_job_status, metric.metric_name, metric.value)
assert metric.value > 0.8

name = f"v3-script-{int(time.time())}"
model = Model.create(
    model_name=name,
    primary_container=ContainerDefinition(
        image=image, model_data_url=job.model_artifacts.s3_model_artifacts
    ),
    execution_role_arn=role,
)
config = EndpointConfig.create(
    endpoint_config_name=name,
    production_variants=[
        ProductionVariant(
            variant_name="AllTraffic",
            model_name=name,
            instance_type="ml.m5.large",
            initial_instance_count=1,
        )
    ],
)
endpoint = Endpoint.create(endpoint_name=name, endpoint_config_name=name)
endpoint.wait_for_status("InService", poll=1)
answer = endpoint.invoke(body="2,-1,0\n0,0,0", content_type="text/csv", accept="application/json")
told = np.array(json.loads(answer.body.read()))
print(told)
assert told[0] > 0.5 > told[1]
endpoint.delete()
endpoint.wait_for_delete(poll=1)
config.delete()
model.delete()
