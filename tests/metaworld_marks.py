"""For tests that need Metaworld, which pins another MuJoCo than the rest is tested with."""

from importlib.metadata import distributions

import pytest

METAWORLD = [
    pytest.mark.metaworld,
    pytest.mark.skipif(
        not any(distributions(name="metaworld")),  # as a module there is always one: the folder of its tests
        reason="metaworld is not installed: it pins an old MuJoCo, so `make test-metaworld` runs this elsewhere",
    ),
]
