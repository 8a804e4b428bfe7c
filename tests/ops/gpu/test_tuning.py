"""The choice of tiles, with times that are made up: no GPU is needed."""

from typing import Any

import pytest
import torch

from sdi_plugin.ops.gpu import schedule, tuning
from sdi_plugin.ops.gpu.entries import Geometry, Request, Tile

pytest.importorskip("triton")


def request(size=88, images=1, channels=32, levels=4, dtype=torch.bfloat16):
    return Request(
        sizes=tuple((size >> level,) * 2 for level in range(levels)),
        targets=tuple(range(levels)),
        images=images,
        channels=channels,
        out_channels=channels,
        dtype=dtype,
        last=True,
        in_place=True,
        bound=0.0,
        precision="ieee",
        strides=(9 * channels, 9, 1),
        interpreted=False,
    )


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path):
    """Nothing chosen, an empty cache, and a device with a name."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tuning, "_chosen", {})
    monkeypatch.setattr(tuning, "is_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", str)


@pytest.fixture
def timed():
    """The tiles that were measured."""
    return []


def choose(timed, of=None, kernel="multiply", device: Any = "H200", fastest=-1):
    of = of or request()
    tiles = tuning.candidates(kernel, of)

    def seconds(tile):
        timed.append(tile)
        return float(tile != tiles[fastest])

    return tuning.choose(tuning.key(kernel, of, device), tiles, seconds)


def test_the_fastest_is_chosen_once(timed):
    tiles = tuning.candidates("multiply", request())
    assert choose(timed) == tiles[-1]
    assert timed == tiles
    assert choose(timed, fastest=0) == tiles[-1]
    assert timed == tiles


def test_another_process_reads_the_choice(timed, monkeypatch):
    chosen = choose(timed)
    timed.clear()
    monkeypatch.setattr(tuning, "_chosen", {})
    assert choose(timed, fastest=0) == chosen
    assert not timed


@pytest.mark.parametrize("text", ["", "[64", "[1, 2, 3]", "{}", "null"])
def test_a_damaged_choice_is_made_anew(text, timed, monkeypatch, tmp_path):
    chosen = choose(timed)
    (file,) = tmp_path.rglob(tuning._FILE)
    file.write_text(text)
    monkeypatch.setattr(tuning, "_chosen", {})
    assert choose(timed) == chosen
    assert len(timed) == 2 * len(set(timed))


@pytest.mark.parametrize(
    "other",
    [
        {"of": request(images=16)},
        {"of": request(channels=64)},
        {"of": request(dtype=torch.float32)},
        {"of": request(levels=3)},
        {"kernel": "multiply_backward"},
        {"device": "H100"},
    ],
    ids=["pixels", "channels", "dtype", "levels", "kernel", "device"],
)
def test_another_class_is_measured_itself(other, timed):
    choose(timed)
    timed.clear()
    choose(timed, **other)
    assert timed


def test_sizes_of_one_class_share_a_choice(timed):
    choose(timed, request(88))
    timed.clear()
    choose(timed, request(72))
    assert not timed


def test_a_captured_call_is_not_measured_and_its_choice_stays(timed, monkeypatch, tmp_path):
    monkeypatch.setattr(tuning, "is_capturing", lambda: True)
    default = Geometry(request()).tile
    assert choose(timed) == default
    monkeypatch.setattr(tuning, "is_capturing", lambda: False)
    assert choose(timed) == default
    assert not timed
    assert not list(tmp_path.rglob(tuning._FILE))


def test_tuning_is_opt_in_and_off_with_deterministic_algorithms(monkeypatch):
    assert not tuning.is_on()
    monkeypatch.setattr(tuning, "AUTOTUNE", True)
    assert tuning.is_on()
    torch.use_deterministic_algorithms(True)
    assert not tuning.is_on()
    torch.use_deterministic_algorithms(False)


def test_a_tile_that_does_not_fit_is_not_chosen(monkeypatch):
    from triton import testing
    from triton.runtime.errors import OutOfResources

    def do_bench(run, **options):
        run()
        return 2.0

    def too_large():
        raise OutOfResources(1 << 20, 1 << 10, "shared memory")

    monkeypatch.setattr(testing, "do_bench", do_bench)
    assert tuning.seconds(lambda: None) == pytest.approx(2e-3)
    assert tuning.seconds(too_large) == float("inf")


@pytest.mark.parametrize("kernel", ["multiply", "multiply_backward"])
def test_a_tile_changes_its_own_launches_alone(kernel):
    """The parts that the weights' gradients are summed by stay, so their bits do not depend on a choice."""
    field = "forward" if kernel == "multiply" else "backward"
    default = schedule.make(request())
    for tile in tuning.candidates(kernel, request()):
        made = schedule.make(request()._replace(**{field: tile}))
        launch = getattr(made.chunks[0], kernel)
        assert (launch.arguments["num_warps"], launch.arguments["STAGES"]) == tile[1:]
        assert made.parts == default.parts
        assert made.pack == default.pack
        assert made.chunks[0].resize == default.chunks[0].resize
        assert made.chunks[0].gradients == default.chunks[0].gradients


def test_candidates_are_few_and_begin_with_the_default():
    for channels in (5, 32, 64, 128):
        tiles = tuning.candidates("multiply_backward", request(channels=channels))
        assert tiles[0] == Geometry(request(channels=channels)).backward_tile
        assert len(set(tiles)) == len(tiles) <= 5
        assert all(isinstance(tile, Tile) for tile in tiles)
