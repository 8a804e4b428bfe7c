"""Splits: sequences stay whole, nothing of the test lists trains, and parts are nested."""

import pytest

from benchmarks.study import splits
from benchmarks.study.splits import Image


def test_validation_takes_whole_sequences_and_blocks(data):
    train, validation = splits.training("polyps", data)
    clinic = {image.id for image in validation["clinicdb"]}
    assert clinic == {"200", "203"}  # sequence 10: frames 200 to 205
    assert {image.id for image in validation["kvasir"]} == {f"k{i:03d}" for i in range(100, 125)}
    assert {image.id for image in train if image.folder == "clinicdb"} == {"1", "2", "199"}
    assert len(train) == 130 - 25 + 3
    assert not {*train} & {image for images in validation.values() for image in images}


@pytest.mark.parametrize("name", ["polyps", "isic2018"])
def test_nothing_of_the_test_sets_trains_or_chooses(data, name):
    train, validation = splits.training(name, data)
    tested = {image for images in splits.test(name, data).values() for image in images}
    assert not tested & {*train, *(image for images in validation.values() for image in images)}


@pytest.mark.parametrize(
    ("frame", "expected"), [(1, 1), (25, 1), (26, 2), (199, 9), (200, 10), (205, 10), (206, 11), (612, 29)]
)
def test_frames_of_clinicdb_know_their_sequence(frame, expected):
    assert splits.sequence(frame) == expected


def test_a_frame_that_clinicdb_does_not_have_is_an_error():
    with pytest.raises(ValueError, match="from 1 to 612, got 613"):
        splits.sequence(613)


def test_a_share_is_in_order_nested_and_the_seeds_own():
    images = [Image("kvasir", str(i)) for i in range(200)]
    parts = [splits.share(images, percent, 0) for percent in (5, 10, 100)]
    assert [len(part) for part in parts] == [10, 20, 200]
    assert set(parts[0]) < set(parts[1])
    assert parts[2] == images
    assert parts[1] == sorted(parts[1], key=images.index)
    assert splits.share(images, 10, 1) != parts[1]


def test_the_real_lists_are_of_the_sizes_that_the_page_states(shared_data):
    train, validation = splits.training("polyps", shared_data)
    assert (len(train), {name: len(images) for name, images in validation.items()}) == (
        1185,
        {"kvasir": 175, "clinicdb": 87},
    )
    assert [len(images) for images in splits.test("polyps", shared_data).values()] == [100, 62, 380, 60]
