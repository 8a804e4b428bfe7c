"""Nothing is asked of the net unless an argument says so."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OFFLINE = [sys.executable, "-W", "ignore"]


@pytest.mark.slow
def test_import_build_train_predict_convert_and_export_open_no_connection(tmp_path):
    done = subprocess.run(
        [*OFFLINE, "-m", "tests.offline", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.endswith("offline\n"), done.stdout + done.stderr


def test_a_connection_would_be_seen():
    code = "import socket, sys; from tests import offline; sys.addaudithook(offline.forbid)"
    code += "; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run([*OFFLINE, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "AssertionError: expected no connection, got socket.getaddrinfo" in done.stderr
