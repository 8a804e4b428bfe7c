"""Files by URL: downloaded once per machine; every process learns where they are or what failed."""

from pathlib import Path

from mmengine.dist import all_gather_object, get_local_rank, is_distributed

from sdi_plugin import hub

SCHEMES = ("http://", "https://")


def fetch(url: str, owner: str, cure: str) -> Path:
    """`sdi_plugin.hub.fetch` in the first process of each machine.

    Raises:
        sdi_plugin.hub.HubError: the host cannot be reached, or the file is not the expected one; in every process
            alike.
    """
    failure = None
    if not is_distributed() or get_local_rank() == 0:
        try:
            hub.fetch(url, owner, cure)
        except hub.HubError as error:
            failure = error
    # A collective call: the others wait here, and none waits for a process that has already failed.
    if failures := [found for found in all_gather_object(failure) if found]:
        raise failures[0]
    return hub.cached_file(url)
