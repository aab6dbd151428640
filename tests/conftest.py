"""Where the library under test is."""

import os
from pathlib import Path

import pytest
from harness import ROOT


@pytest.fixture(scope="session")
def library_path():
    """The shared library under test: $PEERBUS_LIBRARY, else dist/libpeerbus.so of this checkout."""
    path = Path(os.environ.get("PEERBUS_LIBRARY", ROOT / "dist" / "libpeerbus.so")).resolve()
    if not path.exists():
        pytest.fail(f"{path} does not exist; build it with ./build.sh", pytrace=False)
    return path


@pytest.fixture(scope="session")
def archive_path(library_path):
    """The static archive beside the shared library."""
    path = library_path.with_suffix(".a")
    if not path.exists():
        pytest.fail(f"{path} does not exist; build it with ./build.sh", pytrace=False)
    return path
