from __future__ import annotations

from pathlib import Path

from loopwright.deploy.metrics import EndpointMetrics, loop_gauges


def test_the_histogram_is_cumulative_and_ends_with_all() -> None:
    metrics = EndpointMetrics()
    for latency_s in (0.00005, 0.0001, 0.003, 100.0):
        metrics.count_request("/invocations", 200, latency_s)

    lines = metrics.text(gauges={}, model={}).decode().splitlines()

    buckets = [line.rsplit(" ", 1)[1] for line in lines if "_bucket" in line]
    assert [int(count) for count in buckets] == [2, 2, 2, 2, 2] + [3] * 10 + [4]
    assert "loopwright_endpoint_invocation_seconds_count 4" in lines


def test_values_of_labels_are_escaped() -> None:
    metrics = EndpointMetrics()
    metrics.count_predictions('a"b\\c\nd', 3)

    text = metrics.text(gauges={"open_connections": 2.0}, model={"name": "x"}).decode()

    assert 'predictions_total{version="a\\"b\\\\c\\nd"} 3' in text
    assert "loopwright_endpoint_open_connections 2.0" in text
    assert 'loopwright_endpoint_model_info{name="x"} 1' in text
    assert text.endswith("\n")


def test_every_family_has_help_and_type_once() -> None:
    lines = EndpointMetrics().text(gauges={"a": 1.0}, model={}).decode().splitlines()

    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert [line.split()[2] for line in lines if line.startswith("# HELP")] == names


def test_what_the_loop_wrote_is_shown_unless_it_is_torn_or_endless(tmp_path: Path) -> None:
    path = tmp_path / "loop.prom"
    assert loop_gauges(None) == loop_gauges(path) == b""

    path.write_bytes(b"loopwright_alarms_open 1\n")
    assert loop_gauges(path) == b"loopwright_alarms_open 1\n"
    path.write_bytes(b"loopwright_alarms_op")
    assert loop_gauges(path) == b""
    path.write_bytes(b"a 1\n" * 100_000)
    assert loop_gauges(path) == b""
