"""Small data sets and untrained ACTs, as lerobot writes them; imported only where lerobot is installed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SMALL = {"n_heads": 2, "dim_feedforward": 32, "n_encoder_layers": 1, "n_vae_encoder_layers": 1, "dim_model": 32}
"""Options of an ACT that is quickly made."""


def make_checkpoint_and_data(folder: Path) -> None:
    """`checkpoint/` and `data/` of two episodes of six steps: a state of 3, a camera of 64x64, an action of 2."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

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
    shapes = {"observation.state": (3,), "observation.images.front": (3, 64, 64)}
    make_checkpoint(folder / "checkpoint", shapes, 2, statistics)


def make_checkpoint(
    folder: Path, inputs: Mapping[str, tuple[int, ...]], action: int, statistics: Any = None, **options: Any
) -> None:
    """Writes an untrained ACT, with 4 actions in a chunk.

    Args:
        folder: where to.
        inputs: shapes of its inputs by LeRobot's names.
        action: length of an action.
        statistics: of a data set; None: made up, of what is random.
        options: of `ACTConfig`, beyond what makes it small.
    """
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    kinds = {"state": FeatureType.STATE, "environment_state": FeatureType.ENV}
    config = ACTConfig(
        input_features={
            name: PolicyFeature(kinds.get(name.removeprefix("observation."), FeatureType.VISUAL), shape)
            for name, shape in inputs.items()
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (action,))},
        pretrained_backbone_weights=None,
        device="cpu",
        **{**SMALL, "chunk_size": 4, "n_action_steps": 4, **options},
    )
    prepare, finish = make_pre_post_processors(
        config, dataset_stats=statistics or made_up({**inputs, "action": (action,)})
    )
    for part in (ACTPolicy(config), prepare, finish):
        part.save_pretrained(folder)


def made_up(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, Any]]:
    """Statistics of entries of these shapes, a camera's a number for each channel."""
    rng = np.random.default_rng(1)
    statistics = {}
    for name, shape in shapes.items():
        each = (shape[0], 1, 1) if len(shape) == 3 else shape
        mean, std = (rng.uniform(low, high, each).astype(np.float32) for low, high in ((-0.2, 0.2), (0.3, 0.6)))
        statistics[name] = {"mean": mean, "std": std, "min": mean - 3 * std, "max": mean + 3 * std}
    return statistics
