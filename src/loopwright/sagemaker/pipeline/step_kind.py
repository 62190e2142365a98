"""The types of steps: which operation each carries out, and where its end is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class StepKind:
    """A type of step that an operation of the API carries out.

    Parameters
    ----------
    create, describe, stop
        Operations; `stop` is empty where there is nothing to stop.
    name
        The member that names what is made; empty where the operation names it.
    longest
        How long that name may be.
    arn
        The member of an answer that holds the ARN.
    status
        The member of a description that tells how it is; empty where it is done at once.
    done, failed, stopped
        Values of it that are an end.
    told
        The member of a step's metadata.
    has_experiment
        Whether a request takes an `ExperimentConfig`.
    """

    create: str
    describe: str
    name: str
    arn: str
    told: str
    longest: int = 63
    stop: str = ""
    status: str = ""
    done: str = "Completed"
    failed: str = "Failed"
    stopped: str = "Stopped"
    has_experiment: bool = field(default=False)

    @property
    def described_by(self) -> str:
        """The member of the request that asks for a description."""
        return self.name or "ModelPackageName"


def _job(kind: str, *, told: str = "", longest: int = 63, has_experiment: bool = True) -> StepKind:
    return StepKind(
        create=f"Create{kind}",
        describe=f"Describe{kind}",
        stop=f"Stop{kind}",
        name=f"{kind}Name",
        arn=f"{kind}Arn",
        status=f"{kind}Status",
        told=told or kind,
        longest=longest,
        has_experiment=has_experiment,
    )


KINDS: Mapping[str, StepKind] = {
    "Training": _job("TrainingJob"),
    "Processing": _job("ProcessingJob"),
    "QualityCheck": _job("ProcessingJob", told="QualityCheck"),
    "ClarifyCheck": _job("ProcessingJob", told="ClarifyCheck"),
    "Transform": _job("TransformJob"),
    "Tuning": _job("HyperParameterTuningJob", told="TuningJob", longest=32, has_experiment=False),
    "Model": StepKind(
        create="CreateModel",
        describe="DescribeModel",
        name="ModelName",
        arn="ModelArn",
        told="Model",
    ),
    "RegisterModel": StepKind(
        create="CreateModelPackage",
        describe="DescribeModelPackage",
        name="",
        arn="ModelPackageArn",
        told="RegisterModel",
    ),
    "EndpointConfig": StepKind(
        create="CreateEndpointConfig",
        describe="DescribeEndpointConfig",
        name="EndpointConfigName",
        arn="EndpointConfigArn",
        told="EndpointConfig",
    ),
    "Endpoint": StepKind(
        create="CreateEndpoint",
        describe="DescribeEndpoint",
        name="EndpointName",
        arn="EndpointArn",
        status="EndpointStatus",
        done="InService",
        told="Endpoint",
    ),
}
CHECKS: Mapping[str, tuple[str, ...]] = {
    "QualityCheck": ("DATA_QUALITY", "MODEL_QUALITY"),
    "ClarifyCheck": ("DATA_BIAS", "MODEL_BIAS", "MODEL_EXPLAINABILITY"),
}
"""The types that compare with a baseline, and what each can check."""
OWN = ("Condition", "Fail", "Callback", "Lambda")
"""The types that this server carries out by itself."""
