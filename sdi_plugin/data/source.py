"""A read-only view of a source: a folder, the zip archives in it, or one zip archive. Nothing is unpacked."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sdi_plugin.data.errors import DataError

OTHER_ARCHIVES = (".rar", ".7z", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")


class Source:
    """The files below `path`, by names such as `Downloads/kvasir-seg/Kvasir-SEG/images/a.jpg`.

    A name starts with the source's own folder, and a zip archive counts as a folder named after it, so that a data
    set looks the same packed, unpacked, and one level higher or lower. Where an archive lies beside its own unpacked
    files, the unpacked files are used.

    Raises:
        DataError: nothing at `path`, an archive that cannot be read, or one that is not a zip archive.
    """

    def __init__(self, path: Path):
        self.path = path
        self._files: dict[str, Path] = {}
        self._members: dict[str, tuple[zipfile.ZipFile, str]] = {}
        self._archives: list[zipfile.ZipFile] = []
        top = Path(os.path.abspath(path))
        try:
            if top.is_dir():
                self.top = top.name
                self._add_folder(top)
            elif top.suffix.lower() == ".zip" and top.is_file():
                self.top = top.stem
                self._add_archive(top, "")
            elif is_other_archive(top.name) and top.is_file():
                raise DataError(f"expected a folder or a zip archive, got {path}. Unpack it first and pass the folder.")
            else:
                came = "another kind of file" if top.exists() else "nothing there"
                raise DataError(f"expected a folder or a zip archive at {path}, found {came}. Check the path.")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[str]:
        yield from self._files
        yield from self._members

    def __len__(self) -> int:
        return len(self._files) + len(self._members)

    def read(self, name: str) -> bytes:
        """The content of one file; a member of an archive is checked against its checksum."""
        if name in self._files:
            return self._files[name].read_bytes()
        archive, member = self._members[name]
        return archive.read(member)

    def close(self) -> None:
        for archive in self._archives:
            archive.close()

    def _add_folder(self, top: Path) -> None:
        archives = []
        visited = set()
        for folder, subfolders, files in os.walk(top, followlinks=True):
            real = os.path.realpath(folder)
            if real in visited:  # a link back to a folder above would never end
                subfolders.clear()
                continue
            visited.add(real)
            subfolders[:] = sorted(name for name in subfolders if not _is_junk(name))
            prefix = PurePosixPath(self.top, Path(folder).relative_to(top).as_posix())
            for name in sorted(files):
                if _is_junk(name):
                    continue
                if name.lower().endswith(".zip"):
                    archives.append((Path(folder, name), str(prefix)))
                else:
                    self._files[str(prefix / name)] = Path(folder, name)
        for archive, prefix in archives:
            self._add_archive(archive, prefix)

    def _add_archive(self, path: Path, prefix: str) -> None:
        try:
            archive = zipfile.ZipFile(path)
        except Exception as error:  # BadZipFile, NotImplementedError for a version, errors from decoding names ...
            raise DataError(
                f"{path} is not a readable zip archive ({error}). It may be truncated: download it again, or remove it "
                "from the source."
            ) from error
        self._archives.append(archive)
        for member in archive.infolist():
            if member.is_dir() or any(_is_junk(part) for part in member.filename.split("/")):
                continue
            if member.flag_bits & 1:
                raise DataError(f"{path} is encrypted. Unpack it first and pass the folder.")
            inner = member.filename.lstrip("/")
            unpacked, name = (str(PurePosixPath(prefix, *folder, inner)) for folder in ((), (path.stem,)))
            if unpacked not in self._files and name not in self._files:
                self._members[name] = (archive, member.filename)


def is_other_archive(name: str) -> bool:
    """Whether `name` is an archive that this tool cannot read."""
    return name.lower().endswith(OTHER_ARCHIVES)


def _is_junk(name: str) -> bool:
    """Hidden files, and what macOS adds to archives. Not `..`: a member with such a name is judged by its last part."""
    return name == "__MACOSX" or (name.startswith(".") and name != "..")
