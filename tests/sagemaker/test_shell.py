"""The environment that `loopwright env` prints, in a shell of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from loopwright.sagemaker import shell

from .conftest import Server

PROGRAM = """
import json, os, boto3
plain = boto3.client("sts").get_caller_identity()["Arn"]
# as the SageMaker SDKs have it written into them
fixed = boto3.client("sts", endpoint_url="https://sts.us-east-1.amazonaws.com")
own = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).meta.endpoint_url
role = boto3.client("iam").get_role(RoleName="loopwright")["Role"]
print(json.dumps([plain, fixed.get_caller_identity()["Account"], own, role["Arn"]]))
"""


def test_the_two_fixed_addresses_lead_here_as_well(server: Server) -> None:
    said = subprocess.run(
        [
            sys.executable,
            "-m",
            "loopwright",
            "--home",
            str(server.home),
            "env",
            "--url",
            server.url,
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LOOPWRIGHT_USER": "ann"},
    ).stdout
    script = f"{said}\nexec {sys.executable} -c '{PROGRAM}'"

    found = subprocess.run(
        ["/bin/bash", "-c", script], capture_output=True, text=True, check=True, timeout=60
    )

    plain, account, own, role = json.loads(found.stdout)
    assert plain == "arn:aws:sts::123456789012:assumed-role/loopwright/ann"
    assert (account, own) == ("123456789012", server.url)
    assert role == "arn:aws:iam::123456789012:role/loopwright"
    settings = next(line for line in said.splitlines() if "SAGEMAKER_USER_CONFIG_OVERRIDE" in line)
    with open(settings.partition("=")[2]) as file:  # noqa: PTH123
        modules = json.load(file)["SageMaker"]["PythonSDK"]["Modules"]
    assert modules["TelemetryOptOut"] is True


def test_the_same_person_gets_the_same_key_again(server: Server) -> None:
    command = [sys.executable, "-m", "loopwright", "--home", str(server.home), "env"]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )

    assert first == second
    assert "AWS_ACCESS_KEY_ID=LWKA" in first


def test_a_shell_may_hold_the_variables_of_several_homes(tmp_path: Path) -> None:
    shim = Path(shell.__file__).parent / "inside" / "sitecustomize.py"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copyfile(shim, tmp_path / name / "sitecustomize.py")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("print('own')\n")
    folders = [str(tmp_path / name) for name in ("one", "two", "one", "own")]

    done = subprocess.run(
        [sys.executable, "-c", "print('done')"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
    )

    # what they hide runs once
    assert (done.stdout.splitlines(), done.stderr) == (["own", "done"], "")
