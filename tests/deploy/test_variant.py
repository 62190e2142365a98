from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.deploy import Variant, read_actual, read_capture
from loopwright.deploy.endpoint import DesiredState, read_desired, write_desired
from loopwright.deploy.message import Request
from loopwright.deploy.model import Served
from loopwright.deploy.variant import Fleet, checked_variants, draw

Run = Callable[..., Any]


def variants(site: Any, weights: dict[str, float], **slopes: float) -> dict[str, Any]:
    """Return what a desired state needs to serve a variant with a weight for each name."""
    found = tuple(
        Variant(
            name=name,
            bundle=str(
                site.standin.write_bundle(
                    site.folder / f"{name}.json", slope=slopes.get(name, 1.0 + place)
                )
            ),
            version=f"of-{name}",
            weight=weight,
        )
        for place, (name, weight) in enumerate(weights.items())
    )
    return {"bundle": "", "version": "", "variants": found}


def fleet(*weights: float) -> Fleet:
    listed = [
        Variant(name=f"v{place}", bundle="/m", version=place, weight=weight)
        for place, weight in enumerate(weights)
    ]
    served = [Served(model=None, version=each.version, variant=each.name) for each in listed]  # type: ignore[arg-type]
    return Fleet.of(listed, served)


def asked(**headers: str) -> Request:
    named = {
        name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()
    }
    return Request(method=b"POST", target=b"/invocations", headers=named)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0, 1e-3]), min_size=2, max_size=5))
def test_each_variant_gets_its_part_of_the_keys_and_one_of_weight_0_none(
    weights: list[float],
) -> None:
    if not sum(weights):
        weights[0] = 1.0
    chosen = fleet(*weights)

    counts = Counter(chosen.chosen(asked(x_sticky_key=f"k{n}")).version for n in range(2000))

    for place, weight in enumerate(weights):
        part = weight / sum(weights)
        assert abs(counts[place] / 2000 - part) < 0.06
        assert weight or counts[place] == 0


def test_whoever_had_the_new_variant_keeps_it_while_its_weight_grows() -> None:
    keys = [asked(x_amzn_sagemaker_session_id=f"customer {n}") for n in range(500)]

    had = [
        {n for n, key in enumerate(keys) if fleet(1 - part, part).chosen(key).version == 1}
        for part in (0.0, 0.1, 0.5, 1.0)
    ]

    assert had[0] == set()
    assert had[0] < had[1] < had[2] < had[3] == set(range(500))


def test_draws_of_keys_lie_below_1_and_a_key_draws_the_same_every_time() -> None:
    draws = [draw(f"{n}".encode()) for n in range(1000)]

    assert all(0 <= each < 1 for each in draws)
    assert draws == [draw(f"{n}".encode()) for n in range(1000)]
    assert len(set(draws)) == 1000


def test_a_request_sent_twice_under_one_id_in_its_row_has_one_variant() -> None:
    chosen = fleet(1, 1)
    bodies = [b'{"area": 1, "inference_id": "%d"}' % n for n in range(100)]

    def choose(body: bytes) -> Any:
        request = asked()
        request.body = body
        return chosen.chosen(request).version

    first = [choose(body) for body in bodies]

    assert first == [choose(body) for body in bodies]
    assert set(first) == {0, 1}


def test_a_request_can_name_its_variant_also_one_of_weight_0() -> None:
    chosen = fleet(1, 0)

    assert chosen.chosen(asked(x_amzn_sagemaker_target_variant="v1")).version == 1
    with pytest.raises(InvalidInputError, match=r"No variant 'x' answers here; there are v0, v1"):
        chosen.chosen(asked(x_amzn_sagemaker_target_variant="x"))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ([{"name": "a"}, {"name": "a"}], "Two variants are called 'a'"),
        ([{"name": "A b"}], "cannot name a variant"),
        ([{"name": "a", "weight": -1.0}], "no part of the requests"),
        ([{"name": "a", "weight": float("nan")}], "no part of the requests"),
        ([{"name": "a", "weight": 0.0}], "No variant would answer"),
        ([{"name": "a", "shadow": True}], "No variant would answer"),
    ],
)
def test_variants_that_cannot_be_served_are_refused(
    changes: list[dict[str, Any]], text: str
) -> None:
    listed = [Variant(**({"bundle": "/m", "version": 1} | each)) for each in changes]

    with pytest.raises(InvalidInputError, match=text):
        checked_variants(listed)


def test_a_desired_file_of_the_old_form_is_one_variant_called_main(tmp_path: Any) -> None:
    text = '{"name": "prices", "bundle": "/m", "version": 3, "generation": 1}'
    (tmp_path / "desired.json").write_text(text)

    desired = read_desired(tmp_path)

    assert desired.all_variants == (Variant(name="main", bundle="/m", version=3),)
    assert desired.primary.version == 3


@pytest.mark.parametrize("changes", [{}, {"bundle": "/m", "both": True}])
def test_a_desired_state_has_either_a_bundle_or_variants(
    tmp_path: Any, changes: dict[str, Any]
) -> None:
    listed = (Variant(name="a", bundle="/m", version=1),) if changes.pop("both", False) else ()
    write_desired(tmp_path, DesiredState(name="prices", generation=1, variants=listed, **changes))

    with pytest.raises(InvalidInputError, match="must have a bundle or variants"):
        read_desired(tmp_path)


# --- behind an endpoint ---


def test_variants_answer_by_weight_and_say_who_they_are(run_endpoint: Run, site: Any) -> None:
    run_endpoint(**variants(site, {"old": 0.5, "new": 0.5}))

    with site.client() as client:
        answers = [client.invoke([{"area": 10.0}], sticky_key=f"k{n}")[0] for n in range(60)]
        again = [client.invoke([{"area": 10.0}], sticky_key=f"k{n}")[0] for n in range(60)]
        named = client.invoke([{"area": 10.0}], variant="new")[0]
        with pytest.raises(InvalidInputError, match="there are old, new"):
            client.invoke([{"area": 10.0}], variant="newest")

    right = {("old", "of-old", 10.0), ("new", "of-new", 20.0)}
    found = [(each["variant"], each["model_version"], each["prediction"]) for each in answers]
    assert set(found) == right
    assert [each["variant"] for each in again] == [each["variant"] for each in answers]
    assert (named["variant"], named["prediction"]) == ("new", 20.0)
    captured = read_capture(site.folder / "capture").frame
    assert set(zip(captured["variant"], captured["version"], strict=True)) == {
        (name, version) for name, version, _ in right
    }
    actual = read_actual(site.folder)
    assert actual is not None
    assert (actual.version, actual.variants) == ("of-old", {"old": "of-old", "new": "of-new"})


def test_a_single_row_answer_and_the_facts_name_the_variants(run_endpoint: Run, site: Any) -> None:
    run_endpoint(**variants(site, {"old": 3.0, "new": 1.0}))

    with site.dial() as line:
        wish = "X-Amzn-SageMaker-Target-Variant: new\r\n"
        answer = line.post({"area": 5.0}, headers=wish).hear()[2]
        refused = line.post({"area": "x"}, headers=wish).hear()
        facts = line.get("/ping").hear()[2]
        metrics = line.get("/metrics").hear()[2].decode()

    assert (answer["variant"], answer["prediction"]) == ("new", 10.0)
    assert refused[0] == 400
    assert [(each["name"], each["weight"]) for each in facts["variants"]] == [
        ("old", 3.0),
        ("new", 1.0),
    ]
    assert 'predictions_total{version="of-new",variant="new"} 1' in metrics
    assert 'variant_requests_total{variant="new",outcome="answered"} 1' in metrics
    assert 'variant_requests_total{variant="new",outcome="refused"} 1' in metrics
    assert 'variant_invocation_seconds_count{variant="new"} 2' in metrics


def test_an_endpoint_of_one_model_answers_to_the_name_main_alone(
    run_endpoint: Run, site: Any
) -> None:
    run_endpoint(slope=2.0)

    with site.client() as client:
        assert client.invoke([{"area": 1.0}], variant="main")[0]["prediction"] == 2.0
        with pytest.raises(InvalidInputError, match="No variant 'new' answers here"):
            client.invoke([{"area": 1.0}], variant="new")


def test_weights_move_under_load_without_a_failed_or_mixed_answer(
    run_endpoint: Run, site: Any
) -> None:
    both = variants(site, {"old": 1.0, "new": 0.0})
    run_endpoint(**both)
    is_over = threading.Event()
    faults: list[Any] = []
    seen: list[str] = []

    def ask(seed: int) -> None:
        with site.client() as client:
            number = 0
            while not is_over.is_set():
                number += 1
                try:
                    answer = client.invoke([{"area": 7.0}], sticky_key=f"{seed}-{number}")[0]
                except Exception as error:
                    faults.append(error)
                    return
                if answer["prediction"] != {"old": 7.0, "new": 14.0}[answer["variant"]]:
                    faults.append(answer)
                seen.append(answer["variant"])

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    old, new = both["variants"]
    for part in (0.1, 0.5, 1.0):
        moved = tuple(
            msgspec.structs.replace(each, weight=weight)
            for each, weight in ((old, 1 - part), (new, part))
        )
        site.desire(bundle="", version="", variants=moved)
        site.wait()
    is_over.set()
    for thread in threads:
        thread.join(10)

    assert faults == []
    assert set(seen) == {"old", "new"}
