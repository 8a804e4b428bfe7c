"""Files by URL: downloaded once on each machine, checked, and every process told where they are or what failed."""

import hashlib
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, get_local_rank, is_distributed

from sdi_plugin.encoder import check_reachable

SCHEMES = ("http://", "https://")


def fetch(url: str, owner: str, cure: str) -> Path:
    """The copy of a URL's file in torch's cache.

    Args:
        url: http or https; where it ends in #sha256=HEX, the file is checked, also one from the cache.
        owner: the first word of the errors, as in "PVTv2".
        cure: the last sentence of the errors: what to do without that file.

    Raises:
        RuntimeError: the host cannot be reached, or the file is another one; in every process alike.
    """
    url, _, sha256 = url.partition("#sha256=")
    file = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    does = not is_distributed() or get_local_rank() == 0
    failure = _download(url, file, sha256.lower(), owner, cure) if does else None
    # A collective call: the others wait here, and nobody waits for a process that has already failed.
    if failures := [found for found in all_gather_object(failure) if found]:
        raise RuntimeError(failures[0])
    return file


def _download(url: str, file: Path, sha256: str, owner: str, cure: str) -> str | None:
    """Download unless the file is there, and check it: what went wrong, or None."""
    try:
        if not file.is_file():
            check_reachable(url, f"{owner}: could not get {url}", cure)
            file.parent.mkdir(parents=True, exist_ok=True)
            # Under its own name only when it is whole and right.
            torch.hub.download_url_to_file(url, str(file), hash_prefix=sha256 or None)
        if sha256 and (found := hashlib.sha256(file.read_bytes()).hexdigest()) != sha256:
            return f"{owner}: expected {file} to have the SHA-256 {sha256}, got {found}. Remove it, and try again."
    except OSError as error:
        return f"{owner}: could not get {url} ({error}). {cure}"
    except RuntimeError as error:  # not reachable, or another hash
        return str(error) if str(error).startswith(owner) else f"{owner}: {url}: {error}. Try again, or check the hash."
    return None
