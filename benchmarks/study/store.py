"""The results: one JSON per run, whole or not there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.study.settings import Protocol, Run
from sdi_plugin import files

Document = dict[str, Any]
_TEST = ".test.json"
LOG = "test-sets.json"  # that they were read, when, and for which runs
COST = "cost.json"


class Store:
    """
    Args:
        folder: of a subfolder per protocol, with NETWORK-sSEED.json for each run, and NETWORK-sSEED.test.json for
            those that were measured on the test sets.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def read(self, run: Run) -> Document | None:
        return read(self._file(run))

    def write(self, run: Run, document: Document) -> None:
        write(self._file(run), document)

    def read_test(self, run: Run) -> Document | None:
        return read(self._file(run, _TEST))

    def write_test(self, run: Run, document: Document) -> None:
        write(self._file(run, _TEST), document)

    def cost(self, protocol: Protocol) -> Document | None:
        """What `benchmarks.study.cost` measured for a protocol's size and encoder."""
        return read(self.cost_file(protocol))

    def cost_file(self, protocol: Protocol) -> Path:
        return self.folder / f"{protocol.size}-{protocol.encoder}-{COST}"

    def all(self) -> Iterator[Document]:
        """Every run's document, in the order of their names."""
        for file in sorted(self.folder.glob("*/*.json")):
            if not file.name.endswith(_TEST):
                document = read(file)
                assert document is not None
                run = Run.from_json(document["run"])
                if self._file(run) != file:
                    raise ValueError(f"study: {file} holds the run {run.id}. Move it to its place.")
                yield document

    def _file(self, run: Run, ending: str = ".json") -> Path:
        return self.folder / f"{run.id}{ending}"


def write(file: Path, document: Document) -> None:
    write_bytes(file, (_dense(json.dumps(document, indent=1)) + "\n").encode())


def write_bytes(file: Path, data: bytes) -> None:
    """The whole file or none, whenever the process ends."""
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write(file, data)


def _dense(text: str) -> str:
    """Lists of numbers on one line."""
    return re.sub(r"\[[\d\s.,nul e-]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text)


def read(file: Path) -> Document | None:
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"study: {file} is no JSON ({error}). Remove it, and the run is made again.") from error
