"""The op's tests again, on builds of the C++ kernel that watch its memory, its arithmetic and its threads."""

from pathlib import Path

import pytest

from tests.ops.cpu import sanitized

HERE = Path(__file__).parent
SHARED = "stage or concurrent or bits"
TESTS = {
    "address-and-undefined": f"(twice and not bf16 and not large) or axis_by_axis or layout or {SHARED}",
    "thread": SHARED,  # `make soak` has two thousand shapes
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", sanitized.FLAGS)
def test_the_ops_tests_are_clean(kind, tmp_path):
    files = [str(HERE / "test_kernel.py"), *(str(HERE.parent / f"test_{name}.py") for name in ("attend", "library"))]
    result = sanitized.run(kind, ["-m", "pytest", "-q", "-s", *files, "-k", TESTS[kind]], tmp_path)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert " passed" in result.stdout
