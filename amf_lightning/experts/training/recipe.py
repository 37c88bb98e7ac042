"""The numbers of a training run."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recipe:
    """Soft actor-critic with a random target for each episode. The defaults suit HalfCheetah on one core."""

    env_steps: int = 700_000
    """Environment steps in all."""
    environments: int = 16
    """Environments side by side."""
    gradient_steps: int = 4
    """Gradient steps after each step of all environments."""
    batch_size: int = 256
    discount: float = 0.98
    learning_rate: float = 3e-4
    """Of the actor, at the start."""
    critic_learning_rate: float = 1e-3
    final_learning_rate: float = 0.1
    """Both rates fall linearly to this share of themselves."""
    policy_delay: int = 2
    """Critic updates for each actor update."""
    learning_starts: int = 10_000
    """Environment steps with random actions before the first gradient step."""
    buffer_size: int = 1_000_000
    """Transitions kept."""
    actor: list[int] = field(default_factory=lambda: [256, 256])
    """Hidden widths."""
    critic: list[int] = field(default_factory=lambda: [256, 256])
    """Hidden widths."""
    layer_norm: bool = False
    """Layer normalisation in the critics."""
    curriculum: float = 0.0
    """Share of the training during which the range of targets grows from a quarter to the whole; 0 for none."""

    def reach(self, progress: float) -> float:
        """Share of the range of targets that is practised when `progress` in [0, 1] of the training is done.

        >>> Recipe(curriculum=0.5).reach(0.0), Recipe(curriculum=0.5).reach(0.25), Recipe().reach(0.0)
        (0.25, 0.625, 1.0)
        """
        return 1.0 if progress >= self.curriculum else 0.25 + 0.75 * progress / self.curriculum

    def decay(self, progress: float) -> float:
        """Factor of the learning rates at `progress`.

        >>> Recipe(final_learning_rate=0.2).decay(0.5)
        0.6
        """
        return 1.0 - (1.0 - self.final_learning_rate) * progress
