"""A small data set and an untrained ACT, as lerobot writes them; imported only where lerobot is installed."""

from pathlib import Path
from typing import Any

import numpy as np


def make_checkpoint_and_data(folder: Path) -> None:
    """`checkpoint/` and `data/` of two episodes of six steps: a state of 3, a camera of 64x64, an action of 2."""
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    features: dict[str, Any] = {
        "observation.state": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
        "observation.images.front": {"dtype": "image", "shape": (64, 64, 3), "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
    }
    data = LeRobotDataset.create("me/data", fps=10, root=folder / "data", features=features, use_videos=False)
    rng = np.random.default_rng(0)
    for task in ("pick/place", "wipe"):
        for _ in range(6):
            state, action = (rng.normal(size=size).astype(np.float32) for size in (3, 2))
            image = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            data.add_frame(
                {"observation.state": state, "observation.images.front": image, "action": action, "task": task}
            )
        data.save_episode()
    data.finalize()
    statistics = LeRobotDataset("me/data", root=folder / "data").meta.stats
    seen = {
        "observation.state": PolicyFeature(FeatureType.STATE, (3,)),
        "observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, 64, 64)),
    }
    small = {"n_heads": 2, "dim_feedforward": 32, "n_encoder_layers": 1, "n_vae_encoder_layers": 1, "chunk_size": 4}
    acts = {"action": PolicyFeature(FeatureType.ACTION, (2,))}
    config = ACTConfig(
        input_features=seen,
        output_features=acts,
        dim_model=32,
        n_action_steps=4,
        pretrained_backbone_weights=None,
        device="cpu",
        **small,
    )
    prepare, finish = make_pre_post_processors(config, dataset_stats=statistics)
    for part in (ACTPolicy(config), prepare, finish):
        part.save_pretrained(folder / "checkpoint")
