"""boto3 alone: a script and built-in XGBoost trained, deployed, asked, updated, deleted."""

import io
import json
import tarfile
import time

import boto3

ROLE = "arn:aws:iam::123456789012:role/service-role/AmazonSageMaker-ExecutionRole"
REGISTRY = "683313688378.dkr.ecr.us-east-1.amazonaws.com"
SCRIPT = """
import json
import os

import numpy as np

if __name__ == "__main__":
    rows = np.loadtxt(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "train.csv"), delimiter=",")
    model = np.linalg.lstsq(rows[:, 1:], rows[:, 0], rcond=None)[0]
    print("mse: %.6f" % np.mean((rows[:, 1:] @ model - rows[:, 0]) ** 2))
    with open(os.path.join(os.environ["SM_MODEL_DIR"], "model.json"), "w") as file:
        json.dump(model.tolist(), file)


def model_fn(model_dir):
    with open(os.path.join(model_dir, "model.json")) as file:
        return np.array(json.load(file))


def predict_fn(rows, model):
    return np.atleast_2d(rows) @ model
"""

s3, sagemaker = boto3.client("s3"), boto3.client("sagemaker")
runtime, logs = boto3.client("sagemaker-runtime"), boto3.client("logs")
stamp = int(time.time())
bucket = f"boto3-{stamp}"
s3.create_bucket(Bucket=bucket)
packed = io.BytesIO()
with tarfile.open(fileobj=packed, mode="w:gz") as archive:
    member = tarfile.TarInfo("train.py")
    member.size = len(SCRIPT)
    archive.addfile(member, io.BytesIO(SCRIPT.encode()))
s3.put_object(Bucket=bucket, Key="source.tar.gz", Body=packed.getvalue())
numbers = [(a, b) for a in range(20) for b in range(20)]
rows = "\n".join(f"{2 * a - b},{a},{b}" for a, b in numbers)
s3.put_object(Bucket=bucket, Key="train/train.csv", Body=rows.encode())
binary = "\n".join(f"{int(a > b)},{a},{b}" for a, b in numbers)
s3.put_object(Bucket=bucket, Key="binary/train.csv", Body=binary.encode())


def trained(name, image, prefix, hyperparameters, **more):
    """Train, wait, and return the job's description."""
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/{prefix}"}
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={
            "TrainingImage": f"{REGISTRY}/{image}",
            "TrainingInputMode": "File",
            **more,
        },
        RoleArn=ROLE,
        HyperParameters=hyperparameters,
        InputDataConfig=[
            {
                "ChannelName": "train",
                "DataSource": {"S3DataSource": source},
                "ContentType": "text/csv",
            }
        ],
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    found = sagemaker.describe_training_job(TrainingJobName=name)
    assert found["TrainingJobStatus"] == "Completed", found
    return found


scripted = trained(
    f"script-{stamp}",
    "sagemaker-scikit-learn:1.2-1-cpu-py3",
    "train/",
    {
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": f"s3://{bucket}/source.tar.gz",
    },
    MetricDefinitions=[{"Name": "mse", "Regex": "mse: ([0-9.]+)"}],
)
assert scripted["FinalMetricDataList"][0]["Value"] < 1e-9
group = "/aws/sagemaker/TrainingJobs"
(stream,) = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"script-{stamp}/")[
    "logStreams"
]
events = logs.get_log_events(
    logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
)["events"]
assert any("mse: 0.000000" in each["message"] for each in events)
boosted = trained(
    f"xgboost-{stamp}",
    "sagemaker-xgboost:1.7-1",
    "binary/",
    {"objective": "binary:logistic", "num_round": "20"},
)


def modelled(name, job, environment):
    """Make a model of what a job has left, and a configuration of an endpoint."""
    sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": job["AlgorithmSpecification"]["TrainingImage"],
            "ModelDataUrl": job["ModelArtifacts"]["S3ModelArtifacts"],
            "Environment": environment,
        },
    )
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": name,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])


names = {"script": f"script-{stamp}", "xgboost": f"xgboost-{stamp}"}
modelled(
    names["script"],
    scripted,
    {
        "SAGEMAKER_PROGRAM": "train.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": f"s3://{bucket}/source.tar.gz",
    },
)
modelled(names["xgboost"], boosted, {})
endpoint = f"endpoint-{stamp}"
serving = sagemaker.get_waiter("endpoint_in_service")
sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=names["script"])
serving.wait(EndpointName=endpoint, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
answer = runtime.invoke_endpoint(
    EndpointName=endpoint, Body=b"3,1\n5,5", ContentType="text/csv", Accept="application/json"
)
told = json.loads(answer["Body"].read())
print(told, answer["InvokedProductionVariant"])
assert [round(each, 6) for each in told] == [5, 5]
sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=names["xgboost"])
serving.wait(EndpointName=endpoint, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
answer = runtime.invoke_endpoint(EndpointName=endpoint, Body=b"9,1", ContentType="text/csv")
score = float(answer["Body"].read())
print(score)
assert score > 0.5
sagemaker.delete_endpoint(EndpointName=endpoint)
gone = sagemaker.get_waiter("endpoint_deleted")
gone.wait(EndpointName=endpoint, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
for name in names.values():
    sagemaker.delete_endpoint_config(EndpointConfigName=name)
    sagemaker.delete_model(ModelName=name)
