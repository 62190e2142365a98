"""Jobs of several instances, really run: hosts that find each other, and their parts of the data."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import Server, archive, channel, image, until

OWN = "own-image:1"
Train = Callable[..., dict[str, Any]]
TALK = """
import json, os, socket, sys, time
hosts, own = json.loads(os.environ["SM_HOSTS"]), os.environ["SM_CURRENT_HOST"]
about = json.load(open("/opt/ml/input/config/resourceconfig.json"))
assert about["hosts"] == hosts and about["current_host"] == own, about
assert socket.gethostname() == own
# each listens on one port of its own name
listening = socket.create_server((own, 7777))
files = sorted(os.listdir("/opt/ml/input/data/train"))
everywhere = sorted(os.listdir("/opt/ml/input/data/all"))
if own == os.environ["MASTER_ADDR"]:
    got = {own: files}
    for _ in hosts[1:]:
        connection, _ = listening.accept()
        with connection, connection.makefile("rw") as file:
            name, theirs = json.loads(file.readline())
            got[name] = theirs
            file.write("thanks\\n")
    json.dump(got, open("/opt/ml/model/files.json", "w"))
else:
    for _ in range(100):
        try:
            connection = socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])))
            break
        except OSError:
            time.sleep(0.05)
    with connection, connection.makefile("rw") as file:
        file.write(json.dumps([own, files]) + "\\n")
        file.flush()
        print(file.readline().strip(), flush=True)
open(f"/opt/ml/model/{own}.txt", "w").write(own)
open("/opt/ml/model/same.txt", "w").write(own)
open(f"/opt/ml/output/data/{own}.txt", "w").write(own)
print("seen:", len(everywhere), "rank:", os.environ["SM_CURRENT_HOST_RANK"])
print(f"files of {own}:", len(files))
print("part: 0." + str(len(files)))
"""


def script(s3: Any, bucket: str, code: str, **parameters: Any) -> dict[str, Any]:
    key = f"code/{time.time_ns()}/sourcedir.tar.gz"
    s3.put_object(Bucket=bucket, Key=key, Body=archive({"train.py": code}))
    given = {
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": f"s3://{bucket}/{key}",
        **parameters,
    }
    return {name: json.dumps(value) for name, value in given.items()}


def resources(n: int, **changes: Any) -> dict[str, Any]:
    one = {"InstanceType": "ml.m5.large", "InstanceCount": n, "VolumeSizeInGB": 1}
    return {**one, **changes}


def sharded(name: str, uri: str) -> dict[str, Any]:
    found = channel(name, uri)
    found["DataSource"]["S3DataSource"]["S3DataDistributionType"] = "ShardedByS3Key"
    return found


@pytest.fixture(scope="module")
def data(s3: Any, bucket: str) -> str:
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"parts/{number}.csv", Body=f"{number}\n".encode())
    return f"s3://{bucket}/parts/"


def printed(server: Server, group: str, name: str) -> dict[str, list[str]]:
    """Return what each host of a job has printed."""
    logs = server.client("logs")
    group = f"/aws/sagemaker/{group}"
    found = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")
    said = {}
    for each in found["logStreams"]:
        stream = each["logStreamName"]
        got = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)
        host = stream.removeprefix(f"{name}/").rpartition("-")[0]
        said[host] = [event["message"] for event in got["events"]]
    return said


def packed(s3: Any, bucket: str, key: str) -> dict[str, str]:
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    found = {}
    with tarfile.open(fileobj=io.BytesIO(body)) as opened:
        for member in opened:
            content = opened.extractfile(member)
            assert content is not None
            found[member.name] = content.read().decode()
    return found


def test_hosts_find_each_other_share_the_data_and_leave_one_model(
    server: Server, s3: Any, bucket: str, data: str, train: Train
) -> None:
    metrics = [{"Name": "part", "Regex": "part: ([0-9.]+)"}]

    job = train(
        AlgorithmSpecification={**image(OWN), "MetricDefinitions": metrics},
        HyperParameters=script(s3, bucket, TALK),
        InputDataConfig=[sharded("train", data), channel("all", data)],
        ResourceConfig=resources(3),
    )

    name = job["TrainingJobName"]
    said = printed(server, "TrainingJobs", name)
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), said)
    model = packed(s3, bucket, f"out/{name}/output/model.tar.gz")
    assert json.loads(model.pop("files.json")) == {
        "algo-1": ["0.csv", "3.csv"],
        "algo-2": ["1.csv", "4.csv"],
        "algo-3": ["2.csv"],
    }
    assert model == {
        "algo-1.txt": "algo-1",
        "algo-2.txt": "algo-2",
        "algo-3.txt": "algo-3",
        "same.txt": "algo-1",
    }
    assert sorted(packed(s3, bucket, f"out/{name}/output/output.tar.gz")) == [
        "algo-1.txt",
        "algo-2.txt",
        "algo-3.txt",
    ]
    assert {host: said[host][-2] for host in said} == {
        "algo-1": "files of algo-1: 2",
        "algo-2": "files of algo-2: 2",
        "algo-3": "files of algo-3: 1",
    } or said
    assert "thanks" in said["algo-3"]
    assert "seen: 5 rank: 1" in said["algo-2"]
    assert {each["Value"] for each in job["FinalMetricDataList"]} <= {0.2, 0.1}
    told = job["SecondaryStatusTransitions"][0]["StatusMessage"]
    assert "The 3 instances are processes on one machine." in told


def test_when_one_host_fails_the_others_are_ended_and_the_job_says_which(
    server: Server, s3: Any, bucket: str, train: Train
) -> None:
    code = (
        "import os, sys, time\n"
        "if os.environ['SM_CURRENT_HOST'] == 'algo-2':\n"
        "    open('/opt/ml/output/failure', 'w').write('no rows')\n"
        "    sys.exit(7)\n"
        "time.sleep(300)\n"
    )
    began = time.monotonic()

    job = train(
        AlgorithmSpecification=image(OWN),
        HyperParameters=script(s3, bucket, code),
        ResourceConfig=resources(3),
    )

    assert time.monotonic() - began < 60
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: no rows (on algo-2), exit code: 7"
    said = printed(server, "TrainingJobs", job["TrainingJobName"])
    assert "algo-2 has failed; algo-3 is ended." in said["algo-1"]


def test_all_hosts_are_told_when_the_job_is_stopped_and_their_models_are_kept(
    server: Server, sagemaker: Any, s3: Any, bucket: str, train: Train
) -> None:
    code = (
        "import os, signal, sys, time\n"
        "def end(*_):\n"
        "    open('/opt/ml/model/' + os.environ['SM_CURRENT_HOST'], 'w').write('x')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('ready', flush=True)\ntime.sleep(300)\n"
    )
    job = train(
        wait=False,
        AlgorithmSpecification=image(OWN),
        HyperParameters=script(s3, bucket, code),
        ResourceConfig=resources(2),
    )
    name = job["TrainingJobName"]

    def ready() -> list[str]:
        try:
            return [
                each for words in printed(server, "TrainingJobs", name).values() for each in words
            ]
        except (ClientError, KeyError):
            return []

    until(ready, lambda found: found.count("ready") == 2)

    sagemaker.stop_training_job(TrainingJobName=name)

    ended = until(
        lambda: sagemaker.describe_training_job(TrainingJobName=name),
        lambda seen: seen["TrainingJobStatus"] not in ("InProgress", "Stopping"),
    )
    assert ended["TrainingJobStatus"] == "Stopped"
    assert sorted(packed(s3, bucket, f"out/{name}/output/model.tar.gz")) == ["algo-1", "algo-2"]


def test_all_hosts_end_at_the_time_limit(s3: Any, bucket: str, train: Train) -> None:
    job = train(
        AlgorithmSpecification=image(OWN),
        HyperParameters=script(s3, bucket, "import time\ntime.sleep(300)\n"),
        ResourceConfig=resources(2),
        StoppingCondition={"MaxRuntimeInSeconds": 1},
    )

    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_instance_groups_get_the_channels_that_are_theirs(
    server: Server, s3: Any, bucket: str, data: str, train: Train
) -> None:
    code = (
        "import json, os\n"
        "about = json.load(open('/opt/ml/input/config/resourceconfig.json'))\n"
        "print(json.dumps([about['current_group_name'], about['current_instance_type'],\n"
        "  os.environ['SM_IS_HETERO'], sorted(json.loads(os.environ['SM_CHANNELS'])),\n"
        "  sorted(os.listdir('/opt/ml/input/data')),\n"
        "  os.environ['SM_CURRENT_INSTANCE_GROUP_HOSTS'], len(about['instance_groups'])]))\n"
    )
    learning = channel("rows", data)
    learning["DataSource"]["S3DataSource"]["InstanceGroupNames"] = ["learn"]

    job = train(
        AlgorithmSpecification=image(OWN),
        HyperParameters=script(s3, bucket, code),
        InputDataConfig=[learning],
        ResourceConfig={
            "InstanceGroups": [
                {"InstanceGroupName": "feed", "InstanceType": "ml.c5.large", "InstanceCount": 1},
                {"InstanceGroupName": "learn", "InstanceType": "ml.m5.large", "InstanceCount": 2},
            ],
            "VolumeSizeInGB": 1,
        },
    )

    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    said = printed(server, "TrainingJobs", job["TrainingJobName"])
    told = {host: json.loads(each[0]) for host, each in said.items()}
    learning_host = [
        "learn",
        "ml.m5.large",
        "true",
        ["rows"],
        ["rows"],
        '["algo-2","algo-3"]',
        2,
    ]
    assert told == {
        "algo-1": ["feed", "ml.c5.large", "true", [], [], '["algo-1"]', 2],
        "algo-2": learning_host,
        "algo-3": learning_host,
    }


def test_an_algorithm_of_several_instances_trains_as_one_and_says_so(
    server: Server, s3: Any, bucket: str, train: Train
) -> None:
    for number in range(4):
        rows = "".join(f"{row % 2},{row % 2 + number / 9},{row}\n" for row in range(30))
        s3.put_object(Bucket=bucket, Key=f"as-one/{number}.csv", Body=rows.encode())
    source = sharded("train", f"s3://{bucket}/as-one/")

    job = train(
        AlgorithmSpecification={**image("sagemaker-xgboost:1.7-1"), "TrainingInputMode": "Pipe"},
        HyperParameters={"num_round": "2", "objective": "binary:logistic"},
        InputDataConfig=[{**source, "ContentType": "text/csv"}],
        ResourceConfig=resources(2),
    )

    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    told = job["SecondaryStatusTransitions"][0]["StatusMessage"]
    assert "The 2 instances train as one" in told
    assert list(printed(server, "TrainingJobs", job["TrainingJobName"])) == ["algo-1"]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        (
            {"ResourceConfig": resources(21)},
            "ResourceLimitExceeded",
            "'ml.m5.large for training job usage' is 20 Instances, with current utilization of 0 "
            "Instances and a request delta of 21 Instances",
        ),
        (
            {"ResourceConfig": resources(2, InstanceType="ml.p3.2xlarge")},
            "ResourceLimitExceeded",
            "'ml.p3.2xlarge for training job usage' is 0 Instances",
        ),
        (
            {
                "ResourceConfig": resources(
                    2,
                    InstanceGroups=[
                        {
                            "InstanceGroupName": "a",
                            "InstanceType": "ml.m5.large",
                            "InstanceCount": 1,
                        }
                    ],
                )
            },
            "ValidationException",
            "InstanceGroups cannot be combined",
        ),
        (
            {"HyperParameters": {"sagemaker_mpi_enabled": "true"}, "ResourceConfig": resources(2)},
            "ValidationException",
            "sagemaker_mpi_enabled is not supported yet",
        ),
        (
            {"EnableManagedSpotTraining": True},
            "ValidationException",
            "Invalid MaxWaitTimeInSeconds",
        ),
        (
            {
                "InputDataConfig": [
                    {
                        "ChannelName": "train",
                        "DataSource": {
                            "FileSystemDataSource": {
                                "FileSystemId": "fs-12345678901",
                                "FileSystemAccessMode": "ro",
                                "FileSystemType": "EFS",
                                "DirectoryPath": "/data",
                            }
                        },
                    }
                ]
            },
            "ValidationException",
            "which loopwright does not have. Put the data into S3.",
        ),
        (
            {"CheckpointConfig": {"S3Uri": "s3://jobs/kept", "LocalPath": "/etc"}},
            "ValidationException",
            "must be a folder below /opt/ml",
        ),
    ],
)
def test_what_cannot_be_had_is_refused(
    sagemaker: Any, s3: Any, bucket: str, train: Train, changes: Any, code: str, said: str
) -> None:
    given = script(s3, bucket, "print(1)")

    with pytest.raises(ClientError) as caught:
        train(
            AlgorithmSpecification=image(OWN),
            **{**changes, "HyperParameters": {**given, **changes.get("HyperParameters", {})}},
        )

    error = caught.value.response["Error"]
    assert error["Code"] == code
    assert said in error["Message"]


def process(sagemaker: Any, words: str, n: int, **changes: Any) -> dict[str, Any]:
    """Run a processing job of several instances; return it once it has ended."""
    name = f"hosts-{time.time_ns()}"
    sagemaker.create_processing_job(
        ProcessingJobName=name,
        RoleArn="arn:aws:iam::123456789012:role/loopwright",
        AppSpecification={
            "ImageUri": "own-image:1",
            "ContainerEntrypoint": ["/bin/sh", "-c"],
            "ContainerArguments": [words],
        },
        ProcessingResources={"ClusterConfig": resources(n)},
        **changes,
    )
    found: dict[str, Any] = until(
        lambda: sagemaker.describe_processing_job(ProcessingJobName=name),
        lambda seen: seen["ProcessingJobStatus"] not in ("InProgress", "Stopping"),
    )
    return found


def test_hosts_of_a_processing_job_share_its_input_and_leave_one_output(
    server: Server, sagemaker: Any, s3: Any, bucket: str, data: str
) -> None:
    words = (
        "cd /opt/ml/processing; ls in > out/$CURRENT_HOST; echo $CURRENT_HOST | tee out/same; "
        "cp /opt/ml/config/resourceconfig.json out/$CURRENT_HOST.json"
    )
    place = "/opt/ml/processing"

    job = process(
        sagemaker,
        words,
        2,
        ProcessingInputs=[
            {
                "InputName": "in",
                "S3Input": {
                    "S3Uri": data,
                    "LocalPath": f"{place}/in",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                    "S3DataDistributionType": "ShardedByS3Key",
                },
            }
        ],
        ProcessingOutputConfig={
            "Outputs": [
                {
                    "OutputName": "out",
                    "S3Output": {
                        "S3Uri": f"s3://{bucket}/hosts-out",
                        "LocalPath": f"{place}/out",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
    )

    assert job["ProcessingJobStatus"] == "Completed", job.get("FailureReason")
    assert body(s3, bucket, "hosts-out/algo-1").split() == ["0.csv", "2.csv", "4.csv"]
    assert body(s3, bucket, "hosts-out/algo-2").split() == ["1.csv", "3.csv"]
    assert body(s3, bucket, "hosts-out/same") == "algo-1\n"
    about = json.loads(body(s3, bucket, "hosts-out/algo-2.json"))
    assert (about["current_host"], about["hosts"]) == ("algo-2", ["algo-1", "algo-2"])
    said = printed(server, "ProcessingJobs", job["ProcessingJobName"])
    assert {host: lines[-1] for host, lines in said.items()} == {
        "algo-1": "algo-1",
        "algo-2": "algo-2",
    }


def body(s3: Any, bucket: str, key: str) -> str:
    found: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return found.decode()


def test_a_host_that_fails_fails_the_processing_job(sagemaker: Any) -> None:
    words = (
        'test $CURRENT_HOST = algo-1 && sleep 300; echo "no disk" > /opt/ml/output/message; exit 3'
    )

    job = process(sagemaker, words, 2, NetworkConfig={"EnableNetworkIsolation": True})

    assert (job["ProcessingJobStatus"], job["ExitMessage"]) == ("Failed", "no disk")
    assert job["FailureReason"] == "AlgorithmError: no disk, exit code: 3"
