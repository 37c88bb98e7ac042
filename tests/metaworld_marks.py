"""For tests that need Metaworld or Fetch, which go with another MuJoCo than the rest is tested with."""

from ctypes.util import find_library
from importlib.metadata import distributions

import pytest


def needing(distribution: str) -> list[pytest.MarkDecorator]:
    """The marks of tests that need an installed distribution; as a module there may be one: the folder of its tests."""
    return [
        pytest.mark.metaworld,
        pytest.mark.skipif(
            not any(distributions(name=distribution)),
            reason=f"{distribution} is not installed: it goes with an old MuJoCo, so `make test-metaworld` runs this "
            "elsewhere",
        ),
    ]


METAWORLD, FETCH = needing("metaworld"), needing("gymnasium-robotics")
PICTURED = [
    *METAWORLD,
    pytest.mark.skipif(find_library("EGL") is None, reason="nothing draws here: Debian has EGL in libegl1"),
]
"""Of tests in which cameras see Metaworld."""
