"""`python -m benchmarks.sdi` as a user calls it."""

import os
import subprocess
import sys

import pytest

from benchmarks.environment import ALLOCATOR, ROOT
from benchmarks.sdi import cases, command, result, stored


def run(*arguments):
    environment = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    command = [sys.executable, "-m", "benchmarks.sdi", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_an_unknown_case_is_reported_in_one_line():
    result = run("--cases", "2d-stage")
    assert result.returncode == 2
    assert result.stderr.startswith("benchmarks.sdi: error: benchmark: unknown case '2d-stage'. Expected")
    assert result.stderr.count("\n") == 1


def test_it_starts_itself_again_with_the_allocator_settings_and_records_them(tmp_path):
    file = tmp_path / "results" / "out.json"
    done = run("--cases", "2d-level2-32", "--threads", "1", "--no-compile", "--json", str(file))
    assert done.returncode == 0, done.stderr
    written = result.from_json(file.read_text())
    assert {name: written.environment[name] for name in ALLOCATOR} == ALLOCATOR
    assert written.command.startswith("python -m benchmarks.sdi --cases 2d-level2-32")
    assert "2d-level2-32" in done.stdout
    assert list(stored.problems(written)) == []


@pytest.mark.parametrize(
    ("options", "threads", "named"),
    [
        ("--quick", (2,), (*cases.QUICK, *cases.DECODER, *cases.SCALING)),
        ("--decoder", (2,), cases.DECODER),
        ("", (1, 2), cases.FULL),
        ("--cases 2d-stage-32 --threads 3 1", (3, 1), ("2d-stage-32",)),
    ],
    ids=["quick", "decoder", "full", "cases"],
)
def test_the_options_say_what_is_measured(options, threads, named):
    arguments = command.parser().parse_args(options.split())
    assert command.settings(arguments, 2, False).threads == threads
    assert command.names(arguments) == list(named)


@pytest.mark.parametrize("threads", ["0", "two"])
def test_a_number_of_threads_is_one_or_more(threads, capsys):
    with pytest.raises(SystemExit):
        command.parser().parse_args(["--threads", threads])
    assert f"expected a number of threads, 1 or more, got '{threads}'" in capsys.readouterr().err


def test_a_gpu_is_measured_at_one_number_of_threads_unless_the_cpu_is_asked_for():
    parse = command.parser().parse_args
    assert command.settings(parse([]), 8, True).threads == (8,)
    assert command.settings(parse([]), 8, True).device == "cuda"
    assert command.settings(parse(["--cpu"]), 8, True).device == "cpu"
