from __future__ import annotations

import json
from typing import Any

import pytest

from loopwright.train.script_contract import (
    ScriptOrder,
    arguments,
    config_files,
    contract_variables,
)


def order(**fields: Any) -> ScriptOrder:
    given: dict[str, Any] = {
        "name": "iris",
        "entry_point": "pkg/train.py",
        "python": "python",
        "environments": "/tmp",  # noqa: S108 not used
    }
    return ScriptOrder(**given | fields)


@pytest.mark.parametrize(
    ("hyperparameters", "expected"),
    [
        # as `sagemaker-training` writes them: its own example, and one of every type
        (
            {"model_dir": "/opt/ml/model", "batch_size": 25},
            "--batch_size 25 --model_dir /opt/ml/model",
        ),
        ({"a": 1, "flag": True, "rate": 1e-05}, "-a 1 --flag True --rate 1e-05"),
        ({"sizes": [1, 2]}, "--sizes|[1, 2]"),
        ({"grid": {"b": 2, "a": 1}}, "--grid a=1,b=2"),
        ({"nothing": None}, "--nothing|"),
        ({"text": "two words"}, "--text|two words"),
    ],
)
def test_hyperparameters_become_the_arguments_that_the_toolkit_makes(
    hyperparameters: dict[str, Any], expected: str
) -> None:
    found = arguments(hyperparameters)

    assert found == expected.split("|" if "|" in expected else " ")


def test_variables_name_channels_and_hyperparameters_in_capitals() -> None:
    found = contract_variables(
        order(channels={"train": "/a", "my-test": "/b"}, hyperparameters={"n-trees": 3, "f": True})
    )

    assert found["SM_CHANNELS"] == '["my-test","train"]'
    assert found["SM_CHANNEL_TRAIN"] == "/opt/ml/input/data/train"
    assert found["SM_CHANNEL_MY-TEST"] == "/opt/ml/input/data/my-test"
    assert (found["SM_HP_N-TREES"], found["SM_HP_F"]) == ("3", "true")
    assert json.loads(found["SM_HPS"]) == {"n-trees": 3, "f": True}
    assert json.loads(found["SM_USER_ARGS"]) == ["-f", "True", "--n-trees", "3"]


def test_every_variable_that_the_toolkit_sets_is_there() -> None:
    # the list of `sagemaker-training` 5.1.4, and those the third SDK adds
    expected = [
        "HOSTS",
        "NETWORK_INTERFACE_NAME",
        "HPS",
        "USER_ENTRY_POINT",
        "FRAMEWORK_PARAMS",
        "RESOURCE_CONFIG",
        "INPUT_DATA_CONFIG",
        "OUTPUT_DATA_DIR",
        "CHANNELS",
        "CURRENT_HOST",
        "CURRENT_INSTANCE_TYPE",
        "CURRENT_INSTANCE_GROUP",
        "CURRENT_INSTANCE_GROUP_HOSTS",
        "INSTANCE_GROUPS",
        "INSTANCE_GROUPS_DICT",
        "DISTRIBUTION_INSTANCE_GROUPS",
        "IS_HETERO",
        "MODULE_NAME",
        "LOG_LEVEL",
        "FRAMEWORK_MODULE",
        "INPUT_DIR",
        "INPUT_CONFIG_DIR",
        "OUTPUT_DIR",
        "NUM_CPUS",
        "NUM_GPUS",
        "NUM_NEURONS",
        "MODEL_DIR",
        "MODULE_DIR",
        "TRAINING_ENV",
        "USER_ARGS",
        "OUTPUT_INTERMEDIATE_DIR",
        "HOST_COUNT",
        "CURRENT_HOST_RANK",
        "MASTER_ADDR",
        "MASTER_PORT",
        "SOURCE_DIR",
        "ENTRY_SCRIPT",
        "OUTPUT_FAILURE",
    ]

    found = contract_variables(order(cpus=4, gpus=1))

    assert {f"SM_{name}" for name in expected} <= found.keys()
    assert (found["SM_NUM_CPUS"], found["SM_NUM_GPUS"], found["SM_LOG_LEVEL"]) == ("4", "1", "20")
    assert (found["SM_CURRENT_HOST"], found["SM_HOSTS"]) == ("algo-1", '["algo-1"]')
    assert (found["SM_MODULE_NAME"], found["SM_USER_ENTRY_POINT"]) == ("pkg/train", "pkg/train.py")
    assert found["TRAINING_JOB_NAME"] == "iris"
    environment = json.loads(found["SM_TRAINING_ENV"])
    assert environment["model_dir"] == found["SM_MODEL_DIR"] == "/opt/ml/model"
    assert environment["job_name"] == "iris"


def test_paths_follow_the_base_folder() -> None:
    found = contract_variables(order(channels={"train": "/a"}), base="/jobs/1/ml")

    assert not [each for each in found.values() if "/opt/ml" in each]
    assert found["SM_CHANNEL_TRAIN"] == "/jobs/1/ml/input/data/train"


def test_settings_of_the_toolkit_are_no_hyperparameters_of_the_script() -> None:
    found = contract_variables(
        order(hyperparameters={"depth": 2, "sagemaker_program": "t.py", "sagemaker_mpi": True})
    )

    assert json.loads(found["SM_HPS"]) == {"depth": 2}
    assert json.loads(found["SM_USER_ARGS"]) == ["--depth", "2"]
    assert json.loads(found["SM_FRAMEWORK_PARAMS"]) == {"sagemaker_mpi": True}


def test_the_files_of_settings_hold_texts_as_a_request_does() -> None:
    files = config_files(
        order(channels={"train": "/a"}, hyperparameters={"k": 3, "on": True, "metric": "rmse"})
    )

    assert json.loads(files["hyperparameters.json"]) == {"k": "3", "on": "true", "metric": "rmse"}
    assert json.loads(files["inputdataconfig.json"])["train"]["TrainingInputMode"] == "File"
    resources = json.loads(files["resourceconfig.json"])
    assert (resources["current_host"], resources["hosts"]) == ("algo-1", ["algo-1"])


def test_an_order_survives_its_file() -> None:
    given = order(channels={"train": "/a"}, executables=("run.sh",), metrics={"m": "(.)"})

    assert ScriptOrder.from_json(json.loads(json.dumps(given.to_json()))) == given
