"""What version 0.1 wrote is read as version 0.1 read it; see data/version-0.1/README.md."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.policies.weights import load_policy
from amf_lightning.suites.integrator import Integrator
from amf_lightning.tasks.steps import Steps

FILES = Path(__file__).parent / "data" / "version-0.1"
EXPECTED: dict[str, Any] = json.loads((FILES / "expected.json").read_text())


@pytest.mark.parametrize("number", [0, 1])
def test_a_demonstration(number: int) -> None:
    expected = EXPECTED["demonstrations"][number]
    read = DemonstrationStore(FILES / "demonstrations").read(number, expected["sha256"], expected["task"])
    assert read.state.dtype == read.actions.dtype == np.float32
    assert read.state.tolist() == expected["observations"]
    assert read.actions.tolist() == expected["actions"]
    assert read.rewards is not None
    assert read.rewards.tolist() == expected["rewards"]
    facts = {"seed": read.seed, "success": read.success, "metrics": dict(read.metrics), "noise": read.noise}
    assert facts == {name: expected[name] for name in facts}


def test_a_demonstration_written_again_is_of_the_present_format(tmp_path: Path) -> None:
    read = DemonstrationStore(FILES / "demonstrations").read(1)
    store = DemonstrationStore(tmp_path)
    again = store.read(1, store.write(1, read))
    assert again.state.tobytes() == read.state.tobytes()
    assert (again.seed, again.success, again.metrics, again.noise) == (read.seed, read.success, read.metrics, 2.5)
    assert store.path(1).read_bytes() != DemonstrationStore(FILES / "demonstrations").path(1).read_bytes()


def test_a_policy() -> None:
    file = load_policy(str(FILES / "policy.safetensors"))
    file.check_suite(Integrator().signature())
    policy, expected = file.make(), EXPECTED["policy"]
    steps = Steps.of_state(torch.tensor(expected["observations"]), torch.tensor(expected["contexts"]))
    # Another processor may add up the layers in another order.
    torch.testing.assert_close(policy.act(steps), torch.tensor(expected["actions"]), rtol=1e-5, atol=1e-6)
    assert file.pretraining_counts == {"angle=0": 1, "angle=210": 1}
    assert file.statistics is not None
    assert file.statistics.count == 40
    file.statistics.check_backbone(policy)
    for name, parameter in policy.named_parameters():
        assert torch.equal(file.importance[name], parameter.detach() ** 2)
