"""One right request for every operation that creates something, by the name that it asks for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from .conftest import REGISTRY, ROLE, archive

BUCKET = "creations"
ARN = "arn:aws:sagemaker:us-east-1:123456789012"
CLUSTER = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
FAILING = json.dumps(
    {
        "Version": "2020-12-01",
        "Steps": [{"Name": "No", "Type": "Fail", "Arguments": {"ErrorMessage": "no"}}],
    }
)
WAITING = json.dumps(
    {
        "Version": "2020-12-01",
        "Steps": [
            {
                "Name": "Wait",
                "Type": "Callback",
                "SqsQueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/none",
                "Arguments": {},
                "OutputParameters": [],
            }
        ],
    }
)
SERVING = """
def model_fn(model_dir):
    return 2

def transform_fn(model, body, content_type, accept):
    return body, "text/csv"
"""
_MONITORED = {
    "EndpointName": "made",
    "LocalPath": "/opt/ml/processing/input",
}


def prepare(sagemaker: Any, s3: Any) -> None:
    """Make what the requests name: a bucket, a model, an endpoint and others."""
    if BUCKET in {each["Name"] for each in s3.list_buckets()["Buckets"]}:
        return
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(
        Bucket=BUCKET,
        Key="m.tar.gz",
        Body=archive({"code/inference.py": SERVING, "train.py": "print('loss=1')"}),
    )
    s3.put_object(Bucket=BUCKET, Key="rows/x.csv", Body=b"1,2\n" * 20)
    sagemaker.create_model(**CREATIONS["CreateModel"]("made"))
    sagemaker.create_endpoint_config(**CREATIONS["CreateEndpointConfig"]("made"))
    sagemaker.create_endpoint(**CREATIONS["CreateEndpoint"]("made"))
    sagemaker.create_model_package_group(ModelPackageGroupName="made")
    sagemaker.create_experiment(ExperimentName="made")
    sagemaker.create_pipeline(**CREATIONS["CreatePipeline"]("made"))
    sagemaker.create_data_quality_job_definition(
        **CREATIONS["CreateDataQualityJobDefinition"]("made")
    )


def _monitor(name: str, kind: str, image_of: str, **about: Any) -> dict[str, Any]:
    return {
        "JobDefinitionName": name,
        f"{kind}AppSpecification": {
            "ImageUri": f"156813124566.dkr.ecr.us-east-1.amazonaws.com/{image_of}",
            **about,
        },
        f"{kind}JobOutputConfig": {
            "MonitoringOutputs": [
                {
                    "S3Output": {
                        "S3Uri": f"s3://{BUCKET}/reports",
                        "LocalPath": "/opt/ml/processing/output",
                    }
                }
            ]
        },
        "JobResources": {"ClusterConfig": CLUSTER},
        "RoleArn": ROLE,
    }


def _training(command: str) -> dict[str, Any]:
    return {
        "AlgorithmSpecification": {
            "TrainingImage": f"{REGISTRY}/anything:1",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["/bin/bash", "-c"],
            "ContainerArguments": [command],
        },
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "ResourceConfig": CLUSTER,
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }


def _lineage(name: str, kind: str) -> dict[str, Any]:
    return {
        f"{kind}Name": name,
        "Source": {"SourceUri": f"s3://{BUCKET}/{name}"},
        f"{kind}Type": "Test",
    }


CREATIONS: dict[str, Callable[[str], dict[str, Any]]] = {
    "CreateAction": lambda name: _lineage(name, "Action"),
    "CreateContext": lambda name: _lineage(name, "Context"),
    "CreateDataQualityJobDefinition": lambda name: {
        **_monitor(name, "DataQuality", "sagemaker-model-monitor-analyzer"),
        "DataQualityJobInput": {"EndpointInput": _MONITORED},
    },
    "CreateEndpoint": lambda name: {"EndpointName": name, "EndpointConfigName": "made"},
    "CreateEndpointConfig": lambda name: {
        "EndpointConfigName": name,
        "ProductionVariants": [
            {
                "VariantName": "All",
                "ModelName": "made",
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
        ],
        "DataCaptureConfig": {
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": f"s3://{BUCKET}/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}],
        },
    },
    "CreateExperiment": lambda name: {"ExperimentName": name},
    "CreateHyperParameterTuningJob": lambda name: {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 1},
            "ParameterRanges": {
                "ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "1"}]
            },
        },
        "TrainingJobDefinition": {
            **_training(""),
            "AlgorithmSpecification": {
                "TrainingImage": f"{REGISTRY}/sagemaker-scikit-learn:0.23-1-cpu-py3",
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}],
            },
            "StaticHyperParameters": {
                "sagemaker_program": "train.py",
                "sagemaker_submit_directory": f"s3://{BUCKET}/m.tar.gz",
            },
        },
    },
    "CreateModel": lambda name: {
        "ModelName": name,
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {
            "Image": f"{REGISTRY}/x:1",
            "ModelDataUrl": f"s3://{BUCKET}/m.tar.gz",
        },
    },
    "CreateModelPackage": lambda name: {
        "ModelPackageName": name,
        "InferenceSpecification": {
            "Containers": [{"Image": "x.dkr.ecr.us-east-1.amazonaws.com/own:1"}],
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
        },
    },
    "CreateModelPackageGroup": lambda name: {"ModelPackageGroupName": name},
    "CreateModelQualityJobDefinition": lambda name: {
        **_monitor(
            name,
            "ModelQuality",
            "sagemaker-model-monitor-analyzer",
            ProblemType="BinaryClassification",
        ),
        "ModelQualityJobInput": {
            "EndpointInput": {**_MONITORED, "InferenceAttribute": "0"},
            "GroundTruthS3Input": {"S3Uri": f"s3://{BUCKET}/truth"},
        },
    },
    "CreateMonitoringSchedule": lambda name: {
        "MonitoringScheduleName": name,
        "MonitoringScheduleConfig": {
            "ScheduleConfig": {"ScheduleExpression": "cron(0 0 ? * * *)"},
            "MonitoringJobDefinitionName": "made",
            "MonitoringType": "DataQuality",
        },
    },
    "CreatePipeline": lambda name: {
        "PipelineName": name,
        "PipelineDefinition": FAILING,
        "ClientRequestToken": token(name),
        "RoleArn": ROLE,
    },
    "CreateProcessingJob": lambda name: {
        "ProcessingJobName": name,
        "RoleArn": ROLE,
        "AppSpecification": {
            "ImageUri": f"{REGISTRY}/sagemaker-scikit-learn:0.23-1-cpu-py3",
            "ContainerEntrypoint": ["/bin/bash", "-c", "true"],
        },
        "ProcessingResources": {"ClusterConfig": CLUSTER},
    },
    "CreateTrainingJob": lambda name: {"TrainingJobName": name, **_training("true")},
    "CreateTransformJob": lambda name: {
        "TransformJobName": name,
        "ModelName": "made",
        "TransformInput": {
            "DataSource": {
                "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/rows"}
            },
            "ContentType": "text/csv",
        },
        "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/predicted"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    },
    "CreateTrial": lambda name: {"TrialName": name, "ExperimentName": "made"},
    "CreateTrialComponent": lambda name: {"TrialComponentName": name},
}


def token(name: str) -> str:
    """Return a token that no other call has."""
    return f"{name}-{time.time_ns()}-{threading.get_ident()}".ljust(32, "-")
