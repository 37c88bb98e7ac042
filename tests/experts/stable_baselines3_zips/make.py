"""Made the zips beside this file and what their actors say: `python make.py`, with stable-baselines3 2.9.2 installed.

Only what is not read is left out: optimisers, the system it ran on, and all of `data` but three entries.
"""

import io
import json
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import torch

FOLDER = Path(__file__).parent
SEEDS = (5, 6, 7, 8, 9)
"""With which the actors do not do the same everywhere."""
SMALL: dict[str, Any] = {"net_arch": [6, 5]}


def main() -> None:
    from stable_baselines3 import DQN, PPO, SAC, TD3  # so that the tests, which import every file, do without

    cases: dict[str, tuple[Any, str, dict[str, Any]]] = {
        "sac": (SAC, "Pendulum-v1", SMALL),
        "td3": (TD3, "Pendulum-v1", SMALL),
        "ppo": (PPO, "Pendulum-v1", {**SMALL, "activation_fn": torch.nn.ELU}),
        "ppo-discrete": (PPO, "CartPole-v1", SMALL),
        "dqn": (DQN, "CartPole-v1", SMALL),
    }
    says = {}
    for number, (name, (algorithm, environment, policy)) in enumerate(cases.items()):
        model = algorithm("MlpPolicy", environment, seed=0, device="cpu", policy_kwargs={**policy})  # it adds to them
        generator = torch.Generator().manual_seed(SEEDS[number])
        with torch.no_grad():
            for parameter in model.policy.parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
        saved = io.BytesIO()
        model.save(saved)
        with ZipFile(saved) as whole, ZipFile(FOLDER / f"{name}.zip", "w", ZIP_DEFLATED) as kept:
            data = json.loads(whole.read("data"))
            data = {key: data[key] for key in ("policy_class", "policy_kwargs", "use_sde")}
            kept.writestr(ZipInfo("data"), json.dumps(data, indent=1))
            for entry in ("policy.pth", "_stable_baselines3_version"):
                kept.writestr(ZipInfo(entry), whole.read(entry), ZIP_DEFLATED)
        space = model.observation_space
        observations = np.random.default_rng(0).normal(size=(10, *space.shape)).astype(np.float32)
        observations = observations.clip(space.low, space.high)
        actions, _ = model.predict(observations, deterministic=True)
        says[name] = {"observations": observations.tolist(), "actions": np.asarray(actions).tolist()}
    (FOLDER / "says.json").write_text(json.dumps(says, indent=1) + "\n")


if __name__ == "__main__":
    main()
