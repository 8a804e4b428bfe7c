"""The test sets: read once, at the end, for networks and settings that were chosen before."""

import hashlib
import json
import time
from collections.abc import Callable

import torch

from benchmarks import environment
from benchmarks.study import network, plan, splits
from benchmarks.study.plan import Contest
from benchmarks.study.settings import Run
from benchmarks.study.store import LOG, Document, Store, read, write
from benchmarks.study.train import WEIGHTS
from benchmarks.study.work import Place, measured


def read_once(place: Place, say: Callable[[str], None] = print) -> int:
    """Measure every run of the contests on the test sets. Returns how many were measured.

    What is to be measured is written down before the first image is read: the runs, the recommended setting, and a hash
    of the validation results that it was chosen by. A call that was killed goes on with that list; after it is through,
    another call is an error.

    Raises:
        ValueError: the sets were read before; runs of the plan are missing; the validation results have changed since
            the reading began.
    """
    log = read(place.store.folder / LOG)
    if log is not None and log["finished"]:
        raise ValueError(
            f"study: the test sets were read at {log['begun']}, and are read once. Choose by validation, or make a "
            "study of your own in another --out."
        )
    if log is None:
        log = _begin(place.store)
        write(place.store.folder / LOG, log)
    if log["validation"] != _hash_of_validation(place.store, log["runs"]):
        raise ValueError("study: the validation results are not those by which the settings were chosen.")
    say(f"reading the test sets, once: {len(log['runs'])} runs, {log['recommended']} recommended, begun {log['begun']}")
    documents = {document["id"]: document for document in place.store.all()}
    count = 0
    for name in log["runs"]:
        run = Run.from_json(documents[name]["run"])
        if place.store.read_test(run) is None:
            place.store.write_test(run, _test(run, place))
            say(f"test sets: {name}")
            count += 1
    write(place.store.folder / LOG, {**log, "finished": _now()})
    return count


def _begin(store: Store) -> Document:
    choice, planned = plan.chosen(store), list(dict.fromkeys(plan.runs(store)))
    absent = [run.id for run in planned if store.read(run) is None]
    if absent or not choice.complete:
        raise ValueError(
            f"study: the test sets are read at the end, and {len(absent)} runs of the plan are missing ({absent[:1]} "
            "...). Make them, or take them out of the plan."
        )
    contested = {
        (entry.protocol, seed) for entry in plan.SEQUENCE if isinstance(entry, Contest) for seed in range(entry.seeds)
    }
    names = [
        run.id
        for run in planned
        if (run.protocol, run.seed) in contested
        and (run.network != "unetv2" or run.setting in (plan.PAPER, choice.setting))
        and (store.read(run) or {}).get("diverged") is None
    ]
    return {
        "begun": _now(),
        "finished": None,
        "recommended": choice.setting.title(),
        "commit": environment.commit(),
        "validation": _hash_of_validation(store, names),
        "runs": names,
    }


def _test(run: Run, place: Place) -> Document:
    model, _ = network.build(run, place.weights)
    done = place.store.read(run) or {}
    # A run copied from another budget has its weights there.
    file = place.out / "work" / done.get("copy_of", run.id) / WEIGHTS
    model.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
    found = measured(model, run, splits.test(run.protocol.data, place.data), place, full=True)
    return {"id": run.id, "run": run.to_json(), "measured": _now(), "test": found}


def _hash_of_validation(store: Store, names: list[str]) -> str:
    found = {document["id"]: document["validation"] for document in store.all() if document["id"] in names}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
