from __future__ import annotations

import sys
from importlib.metadata import version

import pytest

from loopwright.sagemaker import image_packages as module
from loopwright.sagemaker.image_packages import image_packages

REGISTRY = "683313688378.dkr.ecr.us-east-1.amazonaws.com"


def uri(tag: str, repository: str = "sagemaker-scikit-learn") -> str:
    return f"{REGISTRY}/{repository}:{tag}"


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="scikit-learn 1.2 has no wheels for it")
def test_a_script_gets_the_scikit_learn_of_its_image_and_what_that_was_compiled_for() -> None:
    found = image_packages(uri("1.2-1-cpu-py3"))

    assert "scikit-learn==1.2.*" in found
    assert "numpy<2" in found


def test_a_release_without_wheels_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "version_info", (3, 13, 1))

    assert image_packages(uri("1.2-1-cpu-py3")) == ()
    assert image_packages(uri("1.4-2-cpu-py3")) == ()
    assert "scikit-learn==1.6.*" in image_packages(uri("1.6-1-cpu-py3"))


def test_the_release_that_is_here_needs_no_environment() -> None:
    minor = ".".join(version("scikit-learn").split(".")[:2])

    assert image_packages(uri(f"{minor}-1-cpu-py3")) == ()


@pytest.mark.parametrize(
    "image",
    [uri("0.20.0-cpu-py3"), uri("1.7-1", "sagemaker-xgboost"), uri("latest"), "", "my-image"],
)
def test_of_all_other_images_a_script_gets_what_is_here(image: str) -> None:
    assert image_packages(image) == ()
