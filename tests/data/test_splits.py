"""Families of splits, and which of them is chosen."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdi_plugin.data import DataError, splits


def family(prefix, *parts):
    return {f"{prefix}{part}": [f"{prefix}{part}-{index}" for index in range(2)] for part in parts}


@pytest.mark.parametrize(
    ("there", "prefix"),
    [
        pytest.param(["", "pranet_", "official_"], "", id="unnamed-first"),
        pytest.param(["official880-120_", "pranet_", "abc_"], "pranet_", id="then-pranet"),
        pytest.param(["abc_", "official880-120_"], "official880-120_", id="then-official"),
        pytest.param(["repo_", "abc_"], "abc_", id="then-by-name"),
    ],
)
def test_preference_among_families(there, prefix):
    found = {name: ids for each in there for name, ids in family(each, "train", "val", "test").items()}
    assert splits.choose(found) == tuple(found[f"{prefix}{part}"] for part in ("train", "val", "test"))


def test_named_family_wins_and_unknown_one_is_an_error():
    found = family("pranet_", "train", "test") | family("b_", "train", "test") | {"all": ["x"]}
    assert splits.choose(found, "b")[0] == found["b_train"]
    with pytest.raises(DataError, match=r"splits of 'c', found the splits all, .* \(families: 'b', 'pranet'\)"):
        splits.choose(found, "c")


def test_the_validation_split_is_the_test_split_where_there_is_none():
    found = family("official_", "train", "val")
    assert splits.choose(found) == (found["official_train"], [], found["official_val"])


def test_families_without_training_or_test_do_not_count():
    found = family("pranet_", "test") | family("", "train") | family("z_", "train", "test")
    assert splits.choose(found)[2] == found["z_test"]


def test_without_a_family_the_fallback_or_an_error():
    found = {"all": ["x"], "cvc300_test60_ids": ["x"]}
    assert splits.choose(found, fallback=(["x"], [], [])) == (["x"], [], [])
    with pytest.raises(DataError, match=r"found the splits all, cvc300_test60_ids .* Add splits/train\.txt"):
        splits.choose(found)


def test_shared_ids_are_an_error():
    with pytest.raises(DataError, match="separate training, validation and test splits"):
        splits.choose({"train": ["a", "b"], "test": ["b"]})


def test_read_takes_every_split_file(tmp_path):
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "pranet_train.txt").write_bytes(b"\xef\xbb\xbfa.jpg\r\nb.PNG\r\n\r\n v1.2 \r\na\r\n")
    (tmp_path / "splits" / "pranet_test.txt").write_text("c")
    (tmp_path / "train.txt").write_text("d")
    assert splits.read(tmp_path) == {"pranet_test": ["c"], "pranet_train": ["a", "b", "v1.2"]}
    assert splits.families(tmp_path) == {"pranet": {"test": ["c"], "train": ["a", "b", "v1.2"]}}
    assert splits.read(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("content", [b"../a\n", b"a/b\n", b"a\\b\n", b".hidden\n", b"a\x00b\n", b"\xff\xfe"])
def test_lines_that_are_not_ids_are_errors(content):
    with pytest.raises(DataError, match="expected"):
        splits.parse(content, "train.txt")


@settings(deadline=None, max_examples=50)
@given(st.lists(st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True), unique=True))
def test_parse_returns_what_was_written(ids):
    assert splits.parse("".join(f"{id_}\n" for id_ in ids).encode(), "all.txt") == ids


def test_shared_data_have_a_family_or_say_so(shared_data):
    assert [len(ids) for ids in splits.choose(splits.read(shared_data / "kvasir"))] == [900, 0, 100]
    assert [len(ids) for ids in splits.choose(splits.read(shared_data / "clinicdb"))] == [547, 0, 62]
    assert [len(ids) for ids in splits.choose(splits.read(shared_data / "isic2018"))] == [1600, 400, 594]
    with pytest.raises(DataError, match="cvc300_test60_ids"):
        splits.choose(splits.read(shared_data / "colondb"))
