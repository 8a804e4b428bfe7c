"""The GPU's half of `device`, on a stand-in for torch.cuda: no GPU is needed, and none measures anything here."""

import contextlib
import time
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu.device import CudaDevice, DryDevice, median_seconds
from benchmarks.gpu.timing import times


class Event:
    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at = time.perf_counter()

    def synchronize(self):
        pass

    def elapsed_time(self, other):
        return 1e3 * (other.at - self.at)


class Graph:
    def __init__(self):
        self.replays = 0

    def replay(self):
        self.replays += 1
        time.sleep(1e-3)


class Stream:
    def wait_stream(self, stream):
        assert isinstance(stream, Stream)


@contextlib.contextmanager
def capture(graph, stream):
    assert isinstance(graph, Graph)
    assert isinstance(stream, Stream)
    yield


@pytest.fixture
def device(monkeypatch):
    stand_ins = {
        "Event": Event,
        "CUDAGraph": Graph,
        "Stream": Stream,
        "current_stream": Stream,
        "stream": contextlib.nullcontext,
        "graph": capture,
        "synchronize": lambda: None,
        "reset_peak_memory_stats": lambda: None,
        "memory_allocated": lambda: 3,
        "max_memory_allocated": lambda: 10,
        "get_device_properties": lambda index: SimpleNamespace(L2_cache_size=50),
    }
    for name, value in stand_ins.items():
        assert hasattr(torch.cuda, name), name
        monkeypatch.setattr(torch.cuda, name, value)
    return CudaDevice()


def test_the_three_times_of_a_call(device):
    called = []
    found = times(device, [lambda: called.append(0), lambda: called.append(1)])
    assert found["sets"] == 2
    assert found["replays"] >= 5
    assert found["graph_us"] >= 500  # two calls in a replay of 1 ms
    assert found["wall_us"] > 0
    assert found["host_us"] > 0
    assert set(called) == {0, 1}


def test_a_call_that_cannot_be_captured_keeps_its_other_times(device, monkeypatch):
    @contextlib.contextmanager
    def refuse(graph, stream):
        raise RuntimeError("operation not permitted when stream is capturing")
        yield

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    found = times(device, [lambda: None])
    assert "not permitted" in found["graph_error"]
    assert "wall_us" in found
    assert "graph_us" not in found


def test_the_number_of_replays_follows_their_time(device):
    assert median_seconds(device, lambda: time.sleep(0.02))[1] in range(5, 9)
    assert median_seconds(device, lambda: None)[1] == 200
    assert median_seconds(DryDevice(), lambda: None)[1] == 1


def test_peak_bytes_are_those_beyond_what_was_allocated(device):
    assert device.peak_bytes(lambda: None) == 7


def test_kernels_are_the_profilers_events_on_the_gpu(device):
    """Without a GPU the profiler has none; what is read of an event must exist."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        torch.ones(3).sum()
    event = next(iter(profiler.events() or ()))
    assert event.device_type.name == "CPU"
    assert event.is_user_annotation is False
    assert event.time_range.elapsed_us() >= 0
    device.compile(lambda: None)
