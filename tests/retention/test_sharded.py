"""The mask alone, on weights that FSDP2 cuts up between two processes on the CPU."""

from pathlib import Path

import pytest
import sharded
import torch
from forks import PROCESSES


@pytest.mark.parametrize(
    ("optimizer", "steps"), [("adamw", 200), pytest.param("momentum", 1000, marks=pytest.mark.slow)]
)
def test_frozen_entries_keep_their_bits_on_sharded_weights(tmp_path: Path, optimizer: str, steps: int) -> None:
    arguments = [(rank, tmp_path, optimizer, steps) for rank in (0, 1)]
    processes = [PROCESSES.Process(target=sharded.train, args=each, daemon=True) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=200)
    assert [process.exitcode for process in processes] == [0, 0]
    after, policy = torch.load(tmp_path / "weights.pt", weights_only=True), sharded.initial()
    assert after.keys() == dict(policy.named_parameters()).keys()
    for name, mask in sharded.masks_of(policy).items():
        before = policy.get_parameter(name).detach()
        assert torch.equal(after[name][~mask], before[~mask])
        assert not (after[name][mask] == before[mask]).any()
