"""Takes a job that waits for room back from Ray: `python -m loopwright.compute.ray_withdraw ID`.

Ray's own stop leaves such a job waiting for ever, and counted as demand. It is run as a job of its
own, that asks for nothing, since only a member of the cluster may end another's actor.
"""

from __future__ import annotations

import sys
from contextlib import suppress

# as Ray's own job manager names it
_NAMESPACE = "SUPERVISOR_ACTOR_RAY_NAMESPACE"
_NAME = "_ray_internal_job_actor_{}"


def withdraw(ray_id: str) -> None:
    """End the actor that would run a job; nothing happens if there is none."""
    import ray

    ray.init(address="auto", log_to_driver=False)
    # it raises that for an actor that is not there
    with suppress(ValueError):
        ray.kill(ray.get_actor(_NAME.format(ray_id), namespace=_NAMESPACE))


if __name__ == "__main__":
    withdraw(sys.argv[1])
