"""A mixture of actions makes no sense where actions are choices."""

import pytest

from amf_lightning.errors import InputError
from amf_lightning.policies.categorical import CategoricalMLPPolicy
from amf_lightning.retention.adaptive import AdaptivePrior
from amf_lightning.suites.integrator import Integrator


def test_choices_are_refused() -> None:
    with pytest.raises(InputError, match="mixes actions"):
        AdaptivePrior().wrap(CategoricalMLPPolicy(2, 2, 3), Integrator())
