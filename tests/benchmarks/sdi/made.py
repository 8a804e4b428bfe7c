"""A result as a run of a command would give it, with times set by one rule: nothing is measured."""

from benchmarks import environment
from benchmarks.sdi import cases, command, suite
from benchmarks.sdi.measure import Timing
from benchmarks.sdi.result import Floor, Machine, Result, timed, weighed

FLOOR = {"sgemm_gflops": 75.0, "stream_gbs": 20.0, "cache_gbs": 60.0}


def result(options="--quick", *, eager=4.0, ours=2.0):
    """On a machine of two cores; every contender but ours takes `eager` ms."""
    arguments = command.parser().parse_args(options.split())
    settings = command.settings(arguments, 2, False)
    rows = []
    for group, members in cases.groups(command.names(arguments)):
        for threads in suite.group_threads(group, settings):
            for mode in settings.modes:
                for case in members:
                    times = {
                        name: Timing(*[ours if name.startswith("ours") else eager] * 3)
                        for name in suite.timed_names(case, mode, settings)
                    }
                    row = timed(case, group, mode, threads, times, settings.rounds, Floor(threads=threads, **FLOOR))
                    saved = {
                        name: 2**20 if name.startswith("ours") else 2**21
                        for name in suite.built_names(case, "forward+backward", settings)
                    }
                    peaks = {name: saved[name] for name in suite.peak_names(case, settings)}
                    error = None if case.is_network else {"output": {"eager": 2e-6, "ours": 1e-6}}
                    rows.append(weighed(row, saved, peaks, error))
    return Result(
        versions={"torch": "2.14.1"},
        machine=Machine("a-processor-2-cores", "A processor", 2, ("avx2",), "Linux", 0.1, ()),
        command=f"python -m benchmarks.sdi {options}",
        commit="0123456789ab",
        environment=environment.settings(),
        backends={"cpu": {"available": True, "reason": ""}},
        settings=settings,
        seconds=240.0,
        floors=tuple(Floor(threads=threads, **FLOOR) for threads in settings.threads),
        cases=tuple(rows),
    )
