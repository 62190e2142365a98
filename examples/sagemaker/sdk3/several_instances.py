"""One model from two instances: each reads its part of the files, and they talk to each other."""

import json
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.core.resources import TrainingJob
from sagemaker.core.shapes import S3DataSource
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, SourceCode

SCRIPT = """
import json
import os
import socket
import time
from pathlib import Path

import numpy as np

host, hosts = os.environ["SM_CURRENT_HOST"], json.loads(os.environ["SM_HOSTS"])
place = os.environ["SM_MASTER_ADDR"], int(os.environ["SM_MASTER_PORT"])
files = sorted(Path(os.environ["SM_CHANNEL_TRAIN"]).iterdir())
rows = np.vstack([np.loadtxt(each, delimiter=",") for each in files])
X, y = rows[:, 1:], rows[:, 0]
# the sums that least squares needs, and nothing else, leave the instance
own = [len(rows), (X.T @ X).tolist(), (X.T @ y).tolist()]
print(f"{host} read {len(files)} files, rows: {len(rows)}", flush=True)


def connected():
    while True:
        try:
            return socket.create_connection(place, timeout=30)
        except ConnectionRefusedError:
            time.sleep(0.1)


if host == hosts[0]:
    parts = [own]
    with socket.create_server(place) as listening:
        for _ in hosts[1:]:
            connection, _ = listening.accept()
            with connection, connection.makefile() as file:
                parts.append(json.loads(file.readline()))
    n = sum(each[0] for each in parts)
    weights = np.linalg.solve(sum(np.array(p[1]) for p in parts), sum(np.array(p[2]) for p in parts))
    with open(os.path.join(os.environ["SM_MODEL_DIR"], "model.json"), "w") as file:
        json.dump({"rows": n, "weights": weights.tolist()}, file)
else:
    with connected() as connection:
        connection.sendall(json.dumps(own).encode() + b"\\n")
with open(os.path.join(os.environ["SM_MODEL_DIR"], f"{host}.json"), "w") as file:
    json.dump([each.name for each in files], file)
"""

session = Session()
role = get_execution_role(session)
bucket = session.default_bucket()
folder = Path(tempfile.mkdtemp())
source, data = folder / "source", folder / "data"
for each in (source, data):
    each.mkdir()
(source / "train.py").write_text(SCRIPT)
random = np.random.default_rng(3)
X = random.normal(size=(500, 3))
y = X @ [1.5, -2.0, 0.5] + random.normal(scale=0.1, size=500)
for number in range(5):
    part = np.column_stack([y, X])[number * 100 : (number + 1) * 100]
    np.savetxt(data / f"part-{number}.csv", part, delimiter=",")
uri = session.upload_data(str(data), bucket=bucket, key_prefix="several-instances/data")

trainer = ModelTrainer(
    sagemaker_session=session,
    role=role,
    training_image=image_uris.retrieve("sklearn", session.boto_region_name, version="1.2-1"),
    source_code=SourceCode(source_dir=str(source), entry_script="train.py"),
    compute=Compute(instance_type="ml.m5.large", instance_count=2),
    base_job_name="several-instances",
)
shards = S3DataSource(
    s3_data_type="S3Prefix", s3_uri=f"{uri}/", s3_data_distribution_type="ShardedByS3Key"
)
trainer.train(input_data_config=[InputData(channel_name="train", data_source=shards)])
job = TrainingJob.get(trainer._latest_training_job.training_job_name)
print(job.training_job_status, job.resource_config.instance_count)

archive = folder / "model.tar.gz"
place = job.model_artifacts.s3_model_artifacts.removeprefix(f"s3://{bucket}/")
session.boto_session.client("s3").download_file(bucket, place, str(archive))
with tarfile.open(archive) as packed:
    packed.extractall(folder / "model", filter="data")
told = {each.name: json.loads(each.read_text()) for each in (folder / "model").iterdir()}
print(told)
assert told["algo-1.json"] == ["part-0.csv", "part-2.csv", "part-4.csv"]
assert told["algo-2.json"] == ["part-1.csv", "part-3.csv"]
assert told["model.json"]["rows"] == 500
assert np.allclose(told["model.json"]["weights"], np.linalg.lstsq(X, y, rcond=None)[0])
