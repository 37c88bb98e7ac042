"""For tests that need minigrid, which has BabyAI: an extra, as it brings pygame."""

from importlib.util import find_spec

import pytest

BABYAI = [
    pytest.mark.skipif(
        find_spec("minigrid") is None,
        reason="minigrid is not installed: `make test-babyai` installs it, and runs this",
    )
]
