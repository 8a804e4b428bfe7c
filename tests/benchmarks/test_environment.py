"""`benchmarks.environment`: what a result records."""

import sys

from benchmarks import environment


def test_a_command_is_recorded_without_the_places_of_the_machine(monkeypatch):
    inside, outside = str(environment.ROOT / "docs" / "gpu.md"), "/somewhere/else/out.json"
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "benchmarks.sdi", "--json", outside, inside, "--quick"])
    assert environment.command() == "python -m benchmarks.sdi --json out.json docs/gpu.md --quick"
