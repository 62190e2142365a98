"""A rollout against an endpoint that runs: forward, back, and killed anywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from loopwright.core.clock import FixedClock
from loopwright.core.digest import digest_file
from loopwright.core.errors import BackendError, WrongStateError
from loopwright.deploy import (
    CaptureSettings,
    Rollout,
    RolloutState,
    add_labels,
    read_actual,
    read_desired,
)
from loopwright.deploy.rollout import Model, ShadowPlan, begun
from loopwright.loop import rollout as steps
from loopwright.loop.file import parse_loop_file
from loopwright.loop.rollout import advanced, find_rollout, wished
from loopwright.loop.shadowing import ShadowStanding, shadow_standing
from loopwright.loop.sourcing import Target
from loopwright.loop.workspace import Workspace
from loopwright.store import MemoryMetadataStore

NOW = datetime(2026, 5, 2, 9, tzinfo=UTC)
Run = Callable[..., Any]


class KilledError(BaseException):
    """Stands for a `kill -9` at this place."""


def no_verify(_variant: str) -> None:
    pass


def no_trial(_state: RolloutState) -> ShadowStanding:
    raise AssertionError("this rollout has no shadow")


def no_quality(_state: RolloutState) -> str:
    return ""


@pytest.fixture
def workspace(site: Any, run_endpoint: Run, tmp_path: Path) -> Workspace:
    """Return a workspace whose endpoint `prices` runs and answers `1 * area`."""
    folder = tmp_path / "endpoints" / "prices"
    folder.mkdir(parents=True)
    site.folder = folder
    run_endpoint(slope=1.0, capture=CaptureSettings(folder=str(folder / "capture")))
    job = SimpleNamespace(id="1", state=SimpleNamespace(has_ended=False))
    clock = FixedClock(NOW)
    return Workspace(
        home=tmp_path,
        metadata=MemoryMetadataStore(clock),
        artifacts=None,  # type: ignore[arg-type]
        compute=SimpleNamespace(find=lambda _key: job),  # type: ignore[arg-type]
        clock=clock,
        user="ann",
    )


def rollout(workspace: Workspace, site: Any, *, bundle: str = "", **plan: Any) -> RolloutState:
    """Return a rollout to a model that answers `2 * area`."""
    path = site.standin.write_bundle(site.folder / "next.json", slope=2.0)
    new = Model(bundle=bundle or str(path), version="new", bundle_digest=digest_file(path))
    wanted = Rollout(**({"kind": "canary", "steps": (0.5, 1.0), "bake": "1 minute"} | plan))
    base = read_desired(site.folder)
    return begun(wanted, loop="p", round_=2, base=base, next_=new, now=workspace.clock.now())


def go(workspace: Workspace, state: RolloutState, **how: Any) -> RolloutState:
    calls = {"verify": no_verify, "quality": no_quality, "trial": no_trial} | how
    return advanced(workspace, None, state, **calls)  # type: ignore[arg-type]


def phases(workspace: Workspace) -> list[str]:
    return [event.body["phase"] for event in workspace.metadata.list_events("loop/p")]


def answers(site: Any, n: int = 40) -> set[Any]:
    with site.client() as client:
        found = [client.invoke([{"area": 1.0}], sticky_key=f"k{k}")[0] for k in range(n)]
    return {each["model_version"] for each in found}


def test_a_canary_goes_its_steps_and_then_serves_alone_in_the_plain_form(
    workspace: Workspace, site: Any
) -> None:
    asked: list[str] = []
    state = go(workspace, rollout(workspace, site), verify=asked.append)
    half = answers(site)
    still = go(workspace, state)
    workspace.clock.advance(minutes=1)  # type: ignore[attr-defined]
    all_ = go(workspace, still)
    whole = answers(site)
    workspace.clock.advance(minutes=1)  # type: ignore[attr-defined]
    end = go(workspace, all_)

    assert asked == ["next"]
    assert (state.phase, state.share, still.step) == ("baking", 0.5, 0)
    assert half == {"v1", "new"}
    assert (all_.phase, all_.share, whole) == ("baking", 1.0, {"new"})
    assert end.phase == "done"
    desired = read_desired(site.folder)
    assert (desired.variants, desired.version) == ((), "new")
    assert find_rollout(workspace, "prices") == end
    assert phases(workspace) == ["moving", "baking", "moving", "baking", "finishing", "done"]


def test_errors_of_the_new_version_give_all_traffic_back(workspace: Workspace, site: Any) -> None:
    state = go(workspace, rollout(workspace, site))
    with site.client() as client:
        for _ in range(5):
            with pytest.raises(BackendError):
                client.invoke([{"area": 1.0, "city": "Boom"}], variant="next")
    wait_for_counts(site, 5)

    end = go(workspace, state)

    assert end.phase == "rolled back"
    assert "error_rate is over 0.01: 5 of 5 requests failed" in end.reason
    assert answers(site) == {"v1"}
    assert phases(workspace)[-2:] == ["returning", "rolled back"]


def wait_for_counts(site: Any, n: int) -> None:
    from loopwright.deploy.counts import variant_counts

    end = threading.Event()
    for _ in range(500):
        found = variant_counts(site.folder / "counts").get("next")
        if found is not None and found.n_requests >= n:
            return
        end.wait(0.01)
    raise AssertionError(variant_counts(site.folder / "counts"))


def asked_in_turn(site: Any, n: int) -> set[Any]:
    """Send requests one after the other, so that the shadow has the time to be asked too."""
    with site.client() as client:
        found = [
            client.invoke([{"area": float(k)}], inference_ids=[f"id-{k}"])[0] for k in range(n)
        ]
    return {each["model_version"] for each in found}


def test_a_shadow_is_asked_too_answers_nobody_and_goes_back_when_it_is_worse(
    workspace: Workspace, site: Any
) -> None:
    n = 60
    loop = parse_loop_file(
        b"name: p\nproblem: {target: price, task: regression, criteria: "
        b"[{metric: mae, at_most: 9}]}\ndata: {source: {kind: file, path: a.csv}}\n"
    )
    target = Target(column="price", task="regression", reason="", n_null=0)

    def trial(state: RolloutState) -> ShadowStanding:
        return shadow_standing(workspace, loop, target, state)

    asked: list[str] = []
    begun_ = rollout(workspace, site, shadow=ShadowPlan(labelled=50))
    begun_ = msgspec.structs.replace(begun_, since="2020-01-01T00:00:00+00:00")
    workspace.clock.at = datetime(2020, 1, 1, tzinfo=UTC)  # type: ignore[attr-defined]
    state = go(workspace, begun_, verify=asked.append, trial=trial)
    seen = asked_in_turn(site, n)
    wait_for_shadows(site, n)
    still = go(workspace, state, trial=trial)
    add_labels(
        site.folder,
        # what the version before says is off by a tenth, what the new one says by its double
        [(f"id-{k}", k * 1.1 + 0.01 * (k % 7)) for k in range(n)],
        task="regression",
        at=datetime.now(UTC),
        source="test",
    )
    found = trial(still)
    end = go(workspace, still, trial=trial)

    assert asked == ["next"]
    assert (state.phase, state.share, seen) == ("shadowing", 0.0, {"v1"})
    assert still.trial == "no request that both answered has a label yet"
    assert (found.verdict, found.n_rows) == ("worse", n)
    assert found.before == pytest.approx(29.5 * 0.1 + 0.03, abs=0.01)
    assert found.after == pytest.approx(29.5 * 0.9 - 0.03, abs=0.01)
    assert (end.phase, answers(site)) == ("rolled back", {"v1"})
    assert "as a shadow it was worse on 60 labelled requests" in end.reason


def wait_for_shadows(site: Any, n: int) -> None:
    from loopwright.deploy import read_capture

    end = threading.Event()
    for _ in range(500):
        if read_capture(site.folder / "capture").shadows.height >= n:
            return
        end.wait(0.01)
    raise AssertionError("the shadow was not asked")


@pytest.mark.parametrize(("verdict", "phase"), [("no worse", "baking"), ("undecided", "shadowing")])
def test_a_shadow_that_is_no_worse_goes_on_to_the_callers(
    workspace: Workspace, site: Any, verdict: Any, phase: str
) -> None:
    found = ShadowStanding(verdict=verdict, n_rows=700)

    state = go(workspace, rollout(workspace, site, shadow=ShadowPlan()), trial=lambda _state: found)

    assert state.phase == phase
    assert answers(site) == ({"v1", "new"} if phase == "baking" else {"v1"})


def test_quality_gives_all_traffic_back(workspace: Workspace, site: Any) -> None:
    end = go(workspace, rollout(workspace, site), quality=lambda _state: "mae is 9 on 200")

    assert (end.phase, end.reason) == ("rolled back", "mae is 9 on 200")
    assert answers(site) == {"v1"}


def test_a_new_version_that_does_not_open_never_gets_traffic(
    workspace: Workspace, site: Any
) -> None:
    end = go(workspace, rollout(workspace, site, bundle=str(site.folder / "missing.json")))

    assert end.phase == "rolled back"
    assert answers(site) == {"v1"}
    actual = read_actual(site.folder)
    assert actual is not None
    assert actual.error is None


def test_a_new_version_that_answers_wrongly_never_gets_traffic(
    workspace: Workspace, site: Any
) -> None:
    def verify(_variant: str) -> None:
        raise BackendError("The endpoint answers test row 3 with 5, not with 6.")

    end = go(workspace, rollout(workspace, site), verify=verify)

    assert (end.phase, end.step) == ("rolled back", 0)
    assert "moving" not in phases(workspace)
    assert answers(site) == {"v1"}


def test_a_person_aborts_or_promotes(workspace: Workspace, site: Any) -> None:
    first = go(workspace, rollout(workspace, site))
    back = go(workspace, wished(workspace, first, "abort", reason="ann asked for it"))
    second = go(workspace, rollout(workspace, site))
    on = go(workspace, wished(workspace, second, "promote", reason="ann asked for it"))

    assert (back.phase, back.reason) == ("rolled back", "ann asked for it")
    assert (on.phase, answers(site)) == ("done", {"new"})
    with pytest.raises(WrongStateError, match="cannot be changed any more"):
        wished(workspace, on, "abort", reason="")


def test_blue_green_keeps_the_version_before_loaded_until_the_end(
    workspace: Workspace, site: Any
) -> None:
    state = go(workspace, rollout(workspace, site, kind="blue_green", steps=()))

    assert (state.phase, state.share) == ("baking", 1.0)
    assert answers(site) == {"new"}
    with site.client() as client:
        assert client.invoke([{"area": 1.0}], variant="current")[0]["prediction"] == 1.0


@pytest.mark.parametrize("place", ["_keep", "write_desired", "wait_until_serving"])
@pytest.mark.parametrize("is_after", [False, True])
def test_killed_before_or_after_any_effect_it_goes_on_and_does_nothing_twice(
    workspace: Workspace,
    site: Any,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    is_after: bool,
) -> None:
    """Each effect of one kind is interrupted once, at its every call, and then gone on from."""
    real = getattr(steps, place)
    done: set[Any] = set()
    n_kills = 0

    def killed(*args: Any, **settings: Any) -> Any:
        nonlocal n_kills
        key = (
            settings.get("generation")
            or [
                (each.generation, getattr(each, "phase", ""), getattr(each, "step", 0))
                for each in args[1:]
            ].pop()
        )
        if key in done:
            return real(*args, **settings)
        done.add(key)
        if is_after:
            real(*args, **settings)
        n_kills += 1
        raise KilledError

    steps._keep(workspace, rollout(workspace, site, bake="0 s"))
    monkeypatch.setattr(steps, place, killed)
    written: list[int] = []
    for _ in range(60):
        written.append(read_desired(site.folder).generation)
        state = find_rollout(workspace, "prices")
        assert state is not None
        if state.is_over:
            break
        try:
            go(workspace, state)
        except KilledError:
            workspace.clock.advance(seconds=1)  # type: ignore[attr-defined]

    assert state.phase == "done"
    assert n_kills >= 4
    assert written == sorted(written)
    # loading, two steps and the end: four changes of the endpoint, each asked for once
    assert read_desired(site.folder).generation == 1 + 4
    assert read_actual(site.folder).version == "new"  # type: ignore[union-attr]
    seen = phases(workspace)[1:]
    assert seen == ["moving", "baking", "moving", "baking", "finishing", "done"]


def test_no_request_fails_and_none_is_answered_wrongly_while_it_goes_forward_and_back(
    workspace: Workspace, site: Any
) -> None:
    is_over = threading.Event()
    faults: list[Any] = []
    seen: set[str] = set()

    def ask(seed: int) -> None:
        with site.client() as client:
            while not is_over.is_set():
                try:
                    answer = client.invoke([{"area": 3.0}], sticky_key=f"k{seed}")[0]
                except Exception as error:
                    faults.append(error)
                    return
                if answer["prediction"] != (6.0 if answer["model_version"] == "new" else 3.0):
                    faults.append(answer)
                seen.add(answer["model_version"])

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    back = go(workspace, rollout(workspace, site), quality=lambda state: "x" * (state.step > 0))
    workspace.clock.advance(minutes=1)  # type: ignore[attr-defined]
    back = go(workspace, back, quality=lambda state: "mae" * (state.step > 0))
    there = go(workspace, rollout(workspace, site, bake="0 s"))
    is_over.set()
    for thread in threads:
        thread.join(10)

    assert faults == []
    assert (back.phase, there.phase) == ("rolled back", "done")
    assert seen == {"v1", "new"}
