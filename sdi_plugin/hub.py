"""Weights from hubs and URLs: an error within seconds if there is no answer, and one form for every failure."""

import hashlib
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

_Result = TypeVar("_Result")


class HubError(RuntimeError):
    """OWNER: could not get WHAT (REASON). CURE

    Args:
        owner: the class or option that needs the weights.
        what: what could not be downloaded.
        reason: why.
        cure: what the user can do without a hub.
    """

    def __init__(self, owner: str, what: str, reason: str, cure: str):
        super().__init__(owner, what, reason, cure)  # all arguments, so that it can be pickled to another process
        self.owner, self.what, self.reason, self.cure = owner, what, reason, cure

    def __str__(self) -> str:
        return f"{self.owner}: could not get {self.what} ({self.reason}). {self.cure}"

    def with_cure(self, cure: str) -> "HubError":
        """The same error with another cure, for a caller whose users pass a file in another way."""
        return HubError(self.owner, self.what, self.reason, cure)


def get(client: Callable[[], _Result], owner: str, what: str, cure: str, repository: str | None = None) -> _Result:
    """client(), a function that gets weights with a hub's own client.

    Args:
        owner, what, cure: for the error.
        repository: name on the Hugging Face hub, if the weights are there. Unless it is in the cache, `get` checks
            first that the hub answers, because the hub's client retries for a minute.

    Raises:
        HubError: the hub does not answer within seconds, or the client fails.
    """
    if repository is not None and not _is_cached(repository):
        from huggingface_hub import constants

        if reason := unreachable(constants.ENDPOINT):
            raise HubError(owner, what, reason, cure)
    try:
        return client()
    except Exception as error:  # the hubs' clients raise many types: offline, no such file, disk full
        raise HubError(owner, what, str(error) or type(error).__name__, cure) from error


def fetch(url: str, owner: str, cure: str) -> Path:
    """The copy of a URL's file in torch's cache, downloaded if it is not there yet.

    Args:
        url: http or https; if it ends in #sha256=HEX, the file is checked, even if it comes from the cache.
        owner, cure: for the error.

    Raises:
        HubError: the host does not answer within seconds, or the file has another hash.
    """
    file, (url, _, sha256) = cached_file(url), url.partition("#sha256=")
    sha256 = sha256.lower()
    try:
        if not file.is_file():
            if reason := unreachable(url):
                raise HubError(owner, url, reason, cure)
            file.parent.mkdir(parents=True, exist_ok=True)
            # It writes to a temporary file, and renames it only when it is complete and its hash is right.
            torch.hub.download_url_to_file(url, str(file), hash_prefix=sha256 or None)
        found = hashlib.sha256(file.read_bytes()).hexdigest() if sha256 else ""
    except OSError as error:
        raise HubError(owner, url, str(error), cure) from error
    except HubError:
        raise
    except RuntimeError as error:
        raise HubError(owner, url, str(error), "Try again, or check the hash.") from error
    if found != sha256:
        reason = f"expected {file} to have the SHA-256 {sha256}, got {found}"
        raise HubError(owner, url, reason, "Remove it, and try again.")
    return file


def cached_file(url: str) -> Path:
    """Where `fetch` puts the file of a URL."""
    return Path(torch.hub.get_dir(), "checkpoints", url.partition("#sha256=")[0].rsplit("/", 1)[-1])


def unreachable(url: str, seconds: float = 5) -> str | None:
    """Why the host of a URL cannot be reached, or None if it answers at all.

    The time limit includes the name look-up, to which Python's own timeouts do not apply.
    """
    failure: list[str] = [f"no answer within {seconds:g} s"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
                failure.clear()
        except urllib.error.HTTPError:  # an answer: the client will handle it
            failure.clear()
        except OSError as error:
            failure[:] = [str(getattr(error, "reason", error))]

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return failure[0] if failure else None


def _is_cached(repository: str) -> bool:
    """Whether weights of the repository are in the cache, so that the hub is not needed."""
    from huggingface_hub import try_to_load_from_cache

    files = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(repository, file), str) for file in files)
