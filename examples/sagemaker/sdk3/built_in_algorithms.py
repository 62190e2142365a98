"""Built-in XGBoost, KNN and Linear Learner by their images; tuning; batch transform; the resources."""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.core.parameter import ContinuousParameter, IntegerParameter
from sagemaker.core.resources import Endpoint, EndpointConfig, Model, TrainingJob
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant
from sagemaker.core.transformer import Transformer
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData
from sagemaker.train.tuner import HyperparameterTuner

session = Session()
role = get_execution_role(session)
bucket = session.default_bucket()
region = session.boto_region_name
folder = Path(tempfile.mkdtemp())
random = np.random.default_rng(2)
columns = random.normal(size=(700, 3))
labels = (columns[:, 0] - columns[:, 1] + 0.3 * random.normal(size=700) > 0).astype(int)
rows = np.column_stack([labels, columns])
for part, kept in {"train": rows[:500], "validation": rows[500:600]}.items():
    np.savetxt(folder / f"{part}.csv", kept, delimiter=",", fmt="%.6f")
    session.upload_data(str(folder / f"{part}.csv"), bucket=bucket, key_prefix=f"v3/{part}")
np.savetxt(folder / "batch.csv", columns[600:], delimiter=",", fmt="%.6f")
session.upload_data(str(folder / "batch.csv"), bucket=bucket, key_prefix="v3/batch")
channels = [
    InputData(channel_name=part, data_source=f"s3://{bucket}/v3/{part}/", content_type="text/csv")
    for part in ("train", "validation")
]


def trainer(algorithm, version, **hyperparameters):
    """Return the trainer of a built-in algorithm."""
    return ModelTrainer(
        sagemaker_session=session,
        role=role,
        training_image=image_uris.retrieve(algorithm, region, version=version),
        compute=Compute(instance_type="ml.m5.large", instance_count=1),
        hyperparameters=hyperparameters,
        base_job_name=f"v3-{algorithm}",
    )


def served(made):
    """Return an endpoint with the model of a trainer."""
    job = TrainingJob.get(made._latest_training_job.training_job_name)
    Model.create(
        model_name=job.training_job_name,
        primary_container=ContainerDefinition(
            image=job.algorithm_specification.training_image,
            model_data_url=job.model_artifacts.s3_model_artifacts,
        ),
        execution_role_arn=role,
    )
    variant = ProductionVariant(
        variant_name="AllTraffic",
        model_name=job.training_job_name,
        instance_type="ml.m5.large",
        initial_instance_count=1,
    )
    EndpointConfig.create(endpoint_config_name=job.training_job_name, production_variants=[variant])
    made = Endpoint.create(
        endpoint_name=job.training_job_name, endpoint_config_name=job.training_job_name
    )
    made.wait_for_status("InService", poll=1)
    return made


body = "\n".join(",".join(map(str, row)) for row in columns[600:])
xgboost = trainer("xgboost", "1.7-1", objective="binary:logistic", num_round=20, eval_metric="auc")
knn = trainer("knn", "1", k=5, sample_size=500, predictor_type="classifier", feature_dim=3)
linear = trainer(
    "linear-learner", "1", predictor_type="binary_classifier", feature_dim=3, mini_batch_size=100
)
for made, shares in ((xgboost, channels), (knn, channels[:1]), (linear, channels)):
    made.train(input_data_config=shares)
    endpoint = served(made)
    text = endpoint.invoke(body=body, content_type="text/csv").body.read().decode()
    if made is xgboost:
        answers = [float(each) > 0.5 for each in text.replace("\n", ",").split(",") if each]
    else:
        answers = [each["predicted_label"] for each in json.loads(text)["predictions"]]
    right = (np.array(answers) == labels[600:]).mean()
    print(made.base_job_name, right)
    assert right > 0.8
    endpoint.delete()

tuner = HyperparameterTuner(
    model_trainer=xgboost,
    objective_metric_name="validation:auc",
    hyperparameter_ranges={
        "eta": ContinuousParameter(0.05, 0.5),
        "max_depth": IntegerParameter(2, 6),
    },
    max_jobs=3,
    max_parallel_jobs=2,
)
tuner.tune(inputs=channels, wait=True)
best = TrainingJob.get(tuner.best_training_job())
print(best.training_job_name, best.hyper_parameters)
assert 0.05 <= float(best.hyper_parameters["eta"]) <= 0.5

name = f"v3-batch-{int(time.time())}"
Model.create(
    model_name=name,
    primary_container=ContainerDefinition(
        image=best.algorithm_specification.training_image,
        model_data_url=best.model_artifacts.s3_model_artifacts,
    ),
    execution_role_arn=role,
)
transformer = Transformer(
    model_name=name,
    instance_count=1,
    instance_type="ml.m5.large",
    output_path=f"s3://{bucket}/v3/transformed",
    assemble_with="Line",
    accept="text/csv",
    sagemaker_session=session,
)
transformer.transform(
    f"s3://{bucket}/v3/batch/", content_type="text/csv", split_type="Line", wait=True
)
text = session.read_s3_file(bucket, "v3/transformed/batch.csv.out")
answers = [float(each) > 0.5 for each in text.split()]
assert len(answers) == 100
assert (np.array(answers) == labels[600:]).mean() > 0.8
