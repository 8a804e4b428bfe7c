"""docs/reliability.md, from what `make faults`, `fuzz`, `soak`, `numerics`, `matrix` and `frameworks` recorded.

python -m benchmarks.reliability --render        writes the page's tables from results/reliability/
python -m benchmarks.reliability --render DIR    first takes the records in DIR there, such as runs/reliability
python -m benchmarks.reliability --cell FILE PYTHON PACKAGES RESULT SECONDS    a row of .ci/matrix, which calls it
"""

import argparse
import fcntl
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from benchmarks import environment, markdown
from sdi_plugin import files, frameworks

RESULTS = Path(__file__).parent / "results" / "reliability"
LICENCES = RESULTS / "licences.json"  # of packages that were installed when the page was written
PAGE = environment.ROOT / "docs" / "reliability.md"
# Extras that users install; the others are the project's tools.
EXTRAS = ("smp", "mmseg", "nnunet", "weights", "demo", "deploy", "openvino")
Row = Sequence[Any]


def note(file: Path, name: str, seconds: float, command: str = "", **figures: Any) -> None:
    """A row of a record. Earlier rows stay, unless they are of another commit, machine or version."""
    known = {"machine": environment.machine(), "versions": frameworks.versions(), "commit": environment.commit()}
    del known["machine"]["load_before"]
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # make faults notes from two processes
        record = json.loads(file.read_text()) if file.exists() else {}
        if {each: record.get(each) for each in known} != known:
            record = {**known, "rows": {}}
        record["command"] = command or environment.command()
        record["rows"][name] = {"seconds": seconds, **figures}
        files.write(file, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())


def parts() -> dict[str, Callable[[], str]]:
    """The marked parts of the page, by name."""
    kills = ("command", "SIGKILLs", "started anew", "unbroken (s)")
    cases = ("input", "cases", "refused", "read", "undocumented", "slowest (s)")
    trainings = ("training", "steps", "shapes", "before (MiB)", "after (MiB)", "peak growth")
    threads = ("run", "shapes", "calls", "calls with other bits")
    return {
        "faults": lambda: _table("faults", kills, _kill),
        "disks": lambda: _table("faults", ("command and disk", "exit status", "left behind"), _disk, said=False),
        "fuzz": lambda: _table("fuzz", cases, _fuzz, _all),
        "soak": lambda: _table("soak", trainings, _training),
        "threads": lambda: _table("soak", threads, _threads, said=False),
        "numerics": lambda: _table("numerics", ("network, dtype", "error", "plain PyTorch's"), _numbers),
        "matrix": lambda: _table("matrix", ("Python", "torch", "result"), _cell),
        "frameworks": lambda: _table("frameworks", ("Python", "packages", "result"), _cell),
        "licences": licences,
    }


def _kill(name: str, row: Mapping[str, Any]) -> Row | None:
    return (name, row["kills"], row["runs"], row["unbroken"]) if "kills" in row else None


def _disk(name: str, row: Mapping[str, Any]) -> Row | None:
    return (name, row["exit"], row["left"]) if "exit" in row else None


def _fuzz(name: str, row: Mapping[str, Any]) -> Row:
    cases, refused, undocumented = row["cases"], row["refused"], row["undocumented"]
    return name, f"{cases:,}", f"{refused:,}", f"{cases - refused - undocumented:,}", undocumented, row["slowest"]


def _all(rows: Mapping[str, Any]) -> str:
    cases = {
        kind: sum(row["cases"] for name, row in rows.items() if name.startswith(kind)) for kind in ("checkpoint", "")
    }
    return f"{cases['']:,} cases in all, {cases['checkpoint']:,} of them checkpoints."


def _training(name: str, row: Mapping[str, Any]) -> Row | None:
    if "steps" not in row:
        return None
    return (
        name,
        f"{row['steps']:,}",
        f"{row['shapes']:,}",
        row["before"],
        row["after"],
        f"{100 * (row['growth'] - 1):.2f} %",
    )


def _threads(name: str, row: Mapping[str, Any]) -> Row | None:
    if "threads" not in row:
        return None
    return name, f"{row['shapes']:,}", f"{row['calls']:,}", row["different"]


def _numbers(name: str, row: Mapping[str, Any]) -> Row:
    return name, f"{row['error']:.1e}", f"{row['plain']:.1e}"


def _cell(name: str, row: Mapping[str, Any]) -> Row:
    return row["python"], row["packages"], row["result"]


def _table(
    name: str,
    header: Row,
    line: Callable[[str, Mapping[str, Any]], Row | None],
    summary: Callable[[Mapping[str, Any]], str] | None = None,
    said: bool = True,
) -> str:
    """What a record says of its machine, and a table of those of its rows of which `line` makes one."""
    file = RESULTS / f"{name}.json"
    if not file.exists():
        return f"Not recorded yet: `make {name}`."
    record = json.loads(file.read_text())
    lines = [made for each, row in record["rows"].items() if (made := line(each, row))]
    text = [_origin(name, record)] if said else []
    text += [summary(record["rows"])] if summary else []
    return "\n\n".join([*text, markdown.table(header, lines)])


def _origin(name: str, record: Mapping[str, Any]) -> str:
    machine, versions = record["machine"], record["versions"]
    seconds = sum(row["seconds"] for row in record["rows"].values())
    commit = f"commit {record['commit']}" if record["commit"] else "no commit"
    return (
        f"`make {name}`, {commit}, {machine['cpu']}, {machine['cores']} cores, Python {versions['python']}, torch "
        f"{versions['torch']}; {seconds / 60:.1f} minutes of tests."
    )


def needed() -> dict[str, str]:
    """What sdi-plugin and its extras for users install directly, and with which extras."""
    found: dict[str, list[str]] = {}
    for each in map(Requirement, metadata.requires("sdi-plugin") or ()):
        extras = [extra for extra in EXTRAS if each.marker and each.marker.evaluate({"extra": extra})]
        if each.name != "sdi-plugin" and (extras or each.marker is None):
            found.setdefault(each.name, []).extend(extras or ["always"])
    return {name: ", ".join(extras) for name, extras in sorted(found.items())}


def licences() -> str:
    stored = json.loads(LICENCES.read_text())
    rows = [(name, stored.get(name, "not looked up"), extras) for name, extras in needed().items()]
    lines = [("package", "licence", "extras"), ("---",) * 3, *rows]  # not padded: torch's licence is long
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def licence(distribution: str) -> str | None:
    """What an installed package says: in its metadata, or else in the title of its LICENSE file."""
    if frameworks.version(distribution) is None:
        return None
    found = metadata.distribution(distribution)
    said: Any = found.metadata
    if expression := said.get("License-Expression"):
        return expression
    named = (said.get("License") or "UNKNOWN").strip()
    if named != "UNKNOWN" and len(named.splitlines()) == 1:
        return named
    classifiers = [each for each in said.get_all("Classifier") or () if each.startswith("License ::")]
    if classifiers:
        return ", ".join(each.rpartition(":: ")[2] for each in classifiers)
    texts = [each.read_text() for each in found.files or () if each.name.startswith("LICEN")]
    titles = [line.strip() for text in texts for line in text.splitlines() if "license" in line.lower()]
    return f"{titles[0]} (LICENSE file)" if titles else "not said"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--render", nargs="?", type=Path, const=RESULTS, metavar="DIR")
    given.add_argument("--cell", nargs=5, metavar=("FILE", "PYTHON", "PACKAGES", "RESULT", "SECONDS"))
    parsed = parser.parse_args(arguments)
    if parsed.cell:
        file, python, packages, result, seconds = parsed.cell
        note(Path(file), f"{python} {packages}", float(seconds), python=python, packages=packages, result=result)
        return
    folder: Path = parsed.render
    RESULTS.mkdir(parents=True, exist_ok=True)
    for record in folder.glob("*.json"):
        files.write(RESULTS / record.name, record.read_bytes())
    installed = {name: said for name in needed() if (said := licence(name))}
    stored = json.loads(LICENCES.read_text()) if LICENCES.exists() else {}
    files.write(LICENCES, (json.dumps(stored | installed, indent=1, sort_keys=True) + "\n").encode())
    PAGE.write_text(markdown.fill(PAGE.read_text(), parts()))


if __name__ == "__main__":
    main()
