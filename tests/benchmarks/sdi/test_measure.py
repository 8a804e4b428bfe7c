"""Timing in turns."""

import pytest

from benchmarks.sdi import measure


def test_a_timing_is_the_median_and_the_quartiles():
    assert measure.Timing.of([5.0, 1.0, 4.0, 2.0, 3.0]) == measure.Timing(median=3.0, q25=2.0, q75=4.0)


def test_contenders_take_turns_and_the_order_reverses(monkeypatch):
    monkeypatch.setattr(measure, "_SAMPLE_MS", 0.0)  # one call per sample
    called = []
    functions = {name: lambda name=name: called.append(name) for name in "abc"}
    timings, rounds = measure.interleave(functions, rounds=3, seconds=0)
    assert rounds == 3
    assert list(timings) == ["a", "b", "c"]
    assert "".join(called).endswith("abc" + "cba" + "abc")


def test_short_calls_are_timed_many_at_a_time(monkeypatch):
    clock = {"now": 0.0}
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock["now"])

    def takes(seconds):
        def function():
            clock["now"] += seconds

        return function

    timings, rounds = measure.interleave({"fast": takes(0.001), "slow": takes(0.004)}, rounds=2, seconds=1.0)
    # A round: 1 + 20 calls of 1 ms, and 1 + 5 of 4 ms.
    assert rounds == 23
    assert timings["fast"].median == pytest.approx(1.0)
    assert timings["slow"].median == pytest.approx(4.0)
