"""The cache that counts bytes."""

from typing import NamedTuple

from sdi_plugin.ops.cache import bounded


class Held(NamedTuple):
    nbytes: int


def counted(limit):
    made = []

    @bounded(limit)
    def function(name: str, nbytes: int) -> Held:
        made.append(name)
        return Held(nbytes)

    return function, made


def test_the_least_recently_used_go_first():
    function, made = counted(100)
    for name in "abaca":  # a is used between the others
        function(name, 40)
    function("b", 40)
    assert made == ["a", "b", "c", "b"]


def test_an_entry_larger_than_the_limit_is_kept_alone():
    function, made = counted(100)
    for name in "abb":
        function(name, 1000)
    function("a", 1000)
    assert made == ["a", "b", "a"]
