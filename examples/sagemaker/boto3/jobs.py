"""boto3 alone: processing, tuning, batch transform, the registry, and a pipeline with a condition."""

import json
import time

import boto3

ROLE = "arn:aws:iam::123456789012:role/service-role/AmazonSageMaker-ExecutionRole"
REGISTRY = "683313688378.dkr.ecr.us-east-1.amazonaws.com"
XGBOOST = f"{REGISTRY}/sagemaker-xgboost:1.7-1"
SKLEARN = f"{REGISTRY}/sagemaker-scikit-learn:1.2-1-cpu-py3"
ONE = {"InstanceType": "ml.m5.large", "InstanceCount": 1}
PREPARE = """
import csv
import json

with open("/opt/ml/processing/input/rows.csv") as file:
    rows = list(csv.reader(file))
for name, part in {"train": rows[::2], "validation": rows[1::2]}.items():
    with open(f"/opt/ml/processing/{name}/{name}.csv", "w") as file:
        csv.writer(file).writerows(part)
with open("/opt/ml/processing/report/report.json", "w") as file:
    json.dump({"rows": len(rows)}, file)
"""

s3, sagemaker = boto3.client("s3"), boto3.client("sagemaker")
stamp = int(time.time())
bucket = f"boto3-jobs-{stamp}"
s3.create_bucket(Bucket=bucket)
place = f"s3://{bucket}"
numbers = [(a, b, (a * 7 + b * 3) % 5) for a in range(20) for b in range(20)]
rows = "\n".join(f"{int(a + c > b)},{a},{b},{c}" for a, b, c in numbers)
s3.put_object(Bucket=bucket, Key="raw/rows.csv", Body=rows.encode())
s3.put_object(Bucket=bucket, Key="code/prepare.py", Body=PREPARE.encode())
batch = "\n".join(f"{a},{b},{c}" for a, b, c in numbers)
s3.put_object(Bucket=bucket, Key="batch/rows.csv", Body=batch.encode())


def until(look, name, running=("InProgress", "Stopping", "Executing", "Pending", "Stopped")):
    """Return a description whose state is a last one."""
    for _ in range(240):
        found = look()
        if found[name] not in running:
            return found
        time.sleep(0.5)
    raise TimeoutError(found)


def put_in(name, uri):
    """Return an input of a processing job."""
    path = f"/opt/ml/processing/{name}"
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri": uri,
            "LocalPath": path,
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
        },
    }


def put_out(name, uri):
    """Return an output of a processing job."""
    path = f"/opt/ml/processing/{name}"
    return {
        "OutputName": name,
        "S3Output": {"S3Uri": uri, "LocalPath": path, "S3UploadMode": "EndOfJob"},
    }


def channel(name, uri):
    """Return a channel of CSV."""
    source = {"S3DataType": "S3Prefix", "S3Uri": uri}
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": source},
        "ContentType": "text/csv",
    }


preparation = {
    "AppSpecification": {
        "ImageUri": SKLEARN,
        "ContainerEntrypoint": ["python3", "/opt/ml/processing/code/prepare.py"],
    },
    "RoleArn": ROLE,
    "ProcessingResources": {"ClusterConfig": {**ONE, "VolumeSizeInGB": 10}},
    "ProcessingInputs": [
        put_in("input", f"{place}/raw/"),
        put_in("code", f"{place}/code/prepare.py"),
    ],
    "ProcessingOutputConfig": {
        "Outputs": [
            put_out(name, f"{place}/prepared/{name}") for name in ("train", "validation", "report")
        ]
    },
}
sagemaker.create_processing_job(ProcessingJobName=f"prepare-{stamp}", **preparation)
found = until(
    lambda: sagemaker.describe_processing_job(ProcessingJobName=f"prepare-{stamp}"),
    "ProcessingJobStatus",
)
assert found["ProcessingJobStatus"] == "Completed", found

resources = {**ONE, "VolumeSizeInGB": 10}
sagemaker.create_hyper_parameter_tuning_job(
    HyperParameterTuningJobName=f"tune-{stamp}",
    HyperParameterTuningJobConfig={
        "Strategy": "Random",
        "HyperParameterTuningJobObjective": {
            "Type": "Maximize",
            "MetricName": "validation:auc",
        },
        "ResourceLimits": {"MaxNumberOfTrainingJobs": 3, "MaxParallelTrainingJobs": 2},
        "ParameterRanges": {
            "ContinuousParameterRanges": [{"Name": "eta", "MinValue": "0.1", "MaxValue": "0.5"}]
        },
    },
    TrainingJobDefinition={
        "StaticHyperParameters": {
            "objective": "binary:logistic",
            "num_round": "20",
            "eval_metric": "auc",
        },
        "AlgorithmSpecification": {"TrainingImage": XGBOOST, "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "InputDataConfig": [
            channel(name, f"{place}/prepared/{name}") for name in ("train", "validation")
        ],
        "OutputDataConfig": {"S3OutputPath": f"{place}/tuned"},
        "ResourceConfig": resources,
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    },
)
found = until(
    lambda: sagemaker.describe_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=f"tune-{stamp}"
    ),
    "HyperParameterTuningJobStatus",
)
assert found["TrainingJobStatusCounters"]["Completed"] == 3, found
best = sagemaker.describe_training_job(TrainingJobName=found["BestTrainingJob"]["TrainingJobName"])
listed = sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
    HyperParameterTuningJobName=f"tune-{stamp}",
    SortBy="FinalObjectiveMetricValue",
    SortOrder="Descending",
)["TrainingJobSummaries"]
metric = "FinalHyperParameterTuningJobObjectiveMetric"
assert listed[0][metric]["Value"] == found["BestTrainingJob"][metric]["Value"]

group = f"group-{stamp}"
sagemaker.create_model_package_group(ModelPackageGroupName=group)
arn = sagemaker.create_model_package(
    ModelPackageGroupName=group,
    ModelApprovalStatus="PendingManualApproval",
    InferenceSpecification={
        "Containers": [
            {"Image": XGBOOST, "ModelDataUrl": best["ModelArtifacts"]["S3ModelArtifacts"]}
        ],
        "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["text/csv"],
    },
)["ModelPackageArn"]
sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
(approved,) = sagemaker.list_model_packages(
    ModelPackageGroupName=group, ModelApprovalStatus="Approved"
)["ModelPackageSummaryList"]
assert approved["ModelPackageVersion"] == 1
sagemaker.create_model(
    ModelName=f"best-{stamp}", ExecutionRoleArn=ROLE, Containers=[{"ModelPackageName": arn}]
)
source = {"S3DataType": "S3Prefix", "S3Uri": f"{place}/batch/"}
sagemaker.create_transform_job(
    TransformJobName=f"batch-{stamp}",
    ModelName=f"best-{stamp}",
    TransformInput={
        "DataSource": {"S3DataSource": source},
        "ContentType": "text/csv",
        "SplitType": "Line",
    },
    TransformOutput={
        "S3OutputPath": f"{place}/answers",
        "Accept": "text/csv",
        "AssembleWith": "Line",
    },
    TransformResources=ONE,
)
found = until(
    lambda: sagemaker.describe_transform_job(TransformJobName=f"batch-{stamp}"),
    "TransformJobStatus",
)
assert found["TransformJobStatus"] == "Completed", found
answers = s3.get_object(Bucket=bucket, Key="answers/rows.csv.out")["Body"].read().split()
right = [
    (float(each) > 0.5) == (a + c > b) for each, (a, b, c) in zip(answers, numbers, strict=True)
]
print(sum(right), "of", len(right))
assert len(answers) == 400
assert sum(right) > 340

rows_told = {
    "Std:JsonGet": {"PropertyFile": {"Get": "Steps.Prepare.PropertyFiles.Report"}, "Path": "rows"}
}
definition = {
    "Version": "2020-12-01",
    "Parameters": [{"Name": "Least", "Type": "Integer", "DefaultValue": 100}],
    "Steps": [
        {
            "Name": "Prepare",
            "Type": "Processing",
            "Arguments": preparation,
            "PropertyFiles": [
                {"PropertyFileName": "Report", "OutputName": "report", "FilePath": "report.json"}
            ],
        },
        {
            "Name": "Enough",
            "Type": "Condition",
            "Arguments": {
                "Conditions": [
                    {
                        "Type": "GreaterThanOrEqualTo",
                        "LeftValue": rows_told,
                        "RightValue": {"Get": "Parameters.Least"},
                    }
                ],
                "IfSteps": [
                    {
                        "Name": "Train",
                        "Type": "Training",
                        "Arguments": {
                            "AlgorithmSpecification": {
                                "TrainingImage": XGBOOST,
                                "TrainingInputMode": "File",
                            },
                            "HyperParameters": {
                                "objective": "binary:logistic",
                                "num_round": "5",
                            },
                            "RoleArn": ROLE,
                            "InputDataConfig": [channel("train", f"{place}/prepared/train")],
                            "OutputDataConfig": {"S3OutputPath": f"{place}/piped"},
                            "ResourceConfig": resources,
                            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
                        },
                    }
                ],
                "ElseSteps": [
                    {"Name": "Few", "Type": "Fail", "Arguments": {"ErrorMessage": "Too few rows"}}
                ],
            },
        },
    ],
}
pipeline = f"pipeline-{stamp}"
sagemaker.create_pipeline(
    PipelineName=pipeline,
    PipelineDefinition=json.dumps(definition),
    ClientRequestToken=f"token-{stamp}".ljust(32, "-"),
    RoleArn=ROLE,
)
for least, wanted in ((100, "Succeeded"), (1000, "Failed")):
    execution = sagemaker.start_pipeline_execution(
        PipelineName=pipeline,
        PipelineParameters=[{"Name": "Least", "Value": str(least)}],
        ClientRequestToken=f"token-{stamp}-{least}".ljust(32, "-"),
    )["PipelineExecutionArn"]
    found = until(
        lambda arn=execution: sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn),
        "PipelineExecutionStatus",
    )
    assert found["PipelineExecutionStatus"] == wanted, found
    steps = sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=execution)
    print(wanted, [each["StepName"] for each in steps["PipelineExecutionSteps"]])
sagemaker.delete_pipeline(
    PipelineName=pipeline, ClientRequestToken=f"delete-{stamp}".ljust(32, "-")
)
