"""The cache that counts bytes."""

from types import SimpleNamespace
from typing import Any

from sdi_plugin.ops.cache import bounded


def counted(limit):
    made = []

    @bounded(limit)
    def function(name: str, nbytes: int) -> Any:
        made.append(name)
        return SimpleNamespace(nbytes=nbytes)

    return function, made


def test_the_least_recently_used_go_first():
    function, made = counted(100)
    for name in "abaca":  # a is used between the others
        function(name, 40)
    function("b", 40)
    assert made == ["a", "b", "c", "b"]


def test_what_is_larger_than_the_limit_is_kept_alone():
    function, made = counted(100)
    for name in "abb":
        function(name, 1000)
    function("a", 1000)
    assert made == ["a", "b", "a"]
