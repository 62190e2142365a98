from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loopwright.cli.main import cli


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(
        "import os, sys\n"
        "print('args', sys.argv[1:], os.environ.get('GREETING'))\n"
        "for n in (4, 2, 1): print('rmse:', n / 8)\n"
        "if '--fail' in sys.argv: raise SystemExit('it cannot be done')\n"
        "open(os.environ['SM_MODEL_DIR'] + '/m.txt', 'w').write('m')\n"
    )
    return path


def loopwright(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        cli, ["--home", str(folder / "home"), *arguments], catch_exceptions=False
    )


SMALL = ("--cpus", "0.5", "--memory", "400 MiB", "--metric", "rmse=rmse: ([0-9.]+)")


def test_a_script_is_trained_with_its_log_and_what_became_of_it(
    tmp_path: Path, script: Path
) -> None:
    done = loopwright(
        tmp_path,
        "train",
        str(script),
        *SMALL,
        "--hp",
        "n=3",
        "--hp",
        "s=x y",
        "--env",
        "GREETING=hi",
    )

    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "args ['-n', '3', '-s', 'x y'] hi"
    assert "train: succeeded in" in done.stderr
    assert "rmse: 0.125" in done.stderr
    model = Path(done.stderr.rpartition("model: ")[2].strip())
    with tarfile.open(model) as archive:
        assert archive.getnames() == ["m.txt"]


def test_a_script_is_told_about_as_json_and_found_among_the_jobs(
    tmp_path: Path, script: Path
) -> None:
    told = json.loads(loopwright(tmp_path, "train", str(script), *SMALL, "--json").stdout)

    assert (told["state"], told["metrics"], told["warnings"]) == ("succeeded", {"rmse": 0.125}, [])
    (job,) = json.loads(loopwright(tmp_path, "jobs", "--json").stdout)
    assert (job["id"], job["kind"], job["metrics"]) == (told["id"], "script", {"rmse": 0.125})
    assert "rmse 0.125" in loopwright(tmp_path, "jobs").stdout
    assert "rmse: 0.5\n" in loopwright(tmp_path, "logs", told["id"]).stdout
    followed = loopwright(tmp_path, "logs", "-f", told["id"]).stdout
    assert followed == loopwright(tmp_path, "logs", told["id"]).stdout


def test_a_script_that_fails_ends_with_1_and_its_reason(tmp_path: Path, script: Path) -> None:
    done = loopwright(tmp_path, "train", str(script), *SMALL, "--hp", "fail=1")

    assert done.exit_code == 1
    assert "The script train.py exited with code 1: it cannot be done" in done.stderr
    assert "it cannot be done" in loopwright(tmp_path, "jobs").stdout


def test_a_script_that_failed_is_tried_again_with_its_checkpoints(
    tmp_path: Path, script: Path
) -> None:
    script.write_text(
        "import os, sys\n"
        "if not os.path.exists('/opt/ml/checkpoints/a'):\n"
        "    open('/opt/ml/checkpoints/a', 'w').close()\n"
        "    sys.exit(3)\n"
        "print('went on', os.environ['API_KEY'])\n"
    )
    told = json.loads(
        loopwright(tmp_path, "train", str(script), *SMALL, "--json", "--env", "API_KEY=1").stdout
    )

    refused = loopwright(tmp_path, "retry", told["id"])
    again = loopwright(tmp_path, "retry", told["id"], "--env", "API_KEY=2")

    assert (told["state"], told["exit_code"]) == ("failed", 3)
    assert refused.exit_code == 2
    assert "environment variable 'API_KEY', whose value is not recorded" in refused.stderr
    assert (again.exit_code, again.stdout.splitlines()[0]) == (0, "went on 2")


def test_a_script_can_be_left_to_itself(tmp_path: Path, script: Path) -> None:
    done = loopwright(tmp_path, "train", str(script), *SMALL, "--detach")

    assert done.exit_code == 0
    job = json.loads(loopwright(tmp_path, "jobs", "--json").stdout)[0]
    assert f"logs -f {job['id']}" in done.stdout or "succeeded" in done.stdout
    assert "rmse: 0.125" in loopwright(tmp_path, "logs", "-f", job["id"]).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hp", "depth"], "--hp 'depth' is no NAME=VALUE"),
        (["--channel", "train="], "--channel 'train=' is no NAME=VALUE"),
        (["--hp", "a=1", "--hp", "a=2"], "--hp gives 'a' more than once"),
        (["--channel", "train=nowhere"], "'nowhere', which does not exist"),
        (["--metric", "m=no group"], "Put parentheses around the number"),
        (["--time-limit", "soon"], "time_limit is 'soon'"),
        (["--env", "NOT_SET_ANYWHERE"], "'NOT_SET_ANYWHERE' is not set"),
        (["--algorithm", "xgboost"], "algorithm is for built-in algorithms, not a script"),
        (["--workers", "2"], "workers is for built-in algorithms, not a script"),
        (["--limit", "log=much"], "limits.log is 'much'"),
        (["--cpus", "4000"], "4000 CPUs"),
    ],
)
def test_wrong_use_ends_with_2_and_starts_nothing(
    tmp_path: Path, script: Path, arguments: list[str], message: str
) -> None:
    done = loopwright(tmp_path, "train", str(script), *arguments)

    assert done.exit_code == 2
    assert message in done.stderr
    jobs = tmp_path / "home" / "jobs"
    assert not jobs.exists() or not [p for p in jobs.iterdir() if (p / "job.json").exists()]


def test_a_script_that_is_not_there_is_named(tmp_path: Path, script: Path) -> None:
    done = loopwright(tmp_path, "train", str(script.with_name("trian.py")))

    assert done.exit_code == 2
    assert "does not exist" in done.stderr
    assert "Did you mean 'train.py'?" in done.stderr
