"""One export of the small network, which the tests of graphs share: tracing takes most of an export's time."""

import pytest

from sdi_plugin.deploy import export
from tests.deploy.networks import small


@pytest.fixture(scope="session")
def dynamic(tmp_path_factory):
    """The folder of an ONNX file that keeps the images' size."""
    out = tmp_path_factory.mktemp("exported")
    assert export(small(), out).error < 1e-5
    return out
