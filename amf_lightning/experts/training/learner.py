"""Soft actor-critic of sbx (JAX) on a suite, at random targets. Needs the extra `[experts]`."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sbx import SAC
from stable_baselines3.common.vec_env import DummyVecEnv

from amf_lightning.experts.goal_actor import GoalActor, goal_signature
from amf_lightning.experts.training.checkpoints import Checkpoints
from amf_lightning.experts.training.practice import VelocityPractice
from amf_lightning.experts.training.progress import Counters, Progress
from amf_lightning.experts.training.recipe import Recipe
from amf_lightning.seeding import Purpose, keyed_seed
from amf_lightning.suites.velocity import VelocitySuite


def train(
    suite: VelocitySuite, recipe: Recipe, folder: Path, seed: int, evaluate_every: int, save_every: int, episodes: int
) -> None:
    """Trains until `recipe.env_steps`, from the newest checkpoint in `folder` if there is one; see `Progress`."""
    checkpoints = Checkpoints(folder)
    counters_then = checkpoints.counters()
    model = make_model(suite, recipe, seed, counters_then.env_steps)
    checkpoints.restore(model)
    progress = Progress(folder, suite, episodes, seed, counters_then.env_steps)
    start = time.monotonic() - counters_then.wall_seconds
    due = {"evaluate": counters_then.env_steps + evaluate_every, "save": counters_then.env_steps + save_every}

    def evaluate() -> None:
        counters = Counters(time.monotonic() - start, model.num_timesteps, model._n_updates)
        print(progress.evaluate(torch_actor(model, suite), counters), flush=True)

    def on_step(_locals: dict[str, Any], _globals: dict[str, Any]) -> bool:
        model.initial_qf_learning_rate = recipe.critic_learning_rate * recipe.decay(_done(model, recipe))
        if model.num_timesteps >= recipe.env_steps:
            return True  # the end is evaluated and saved below, after its gradient steps
        if model.num_timesteps >= due["evaluate"]:
            evaluate()
            due["evaluate"] = model.num_timesteps + evaluate_every
        if model.num_timesteps >= due["save"]:
            checkpoints.save(model, time.monotonic() - start)
            due["save"] = model.num_timesteps + save_every
        return True

    if (steps_to_go := recipe.env_steps - model.num_timesteps) > 0:
        model.learn(steps_to_go, callback=on_step, log_interval=None, reset_num_timesteps=False)
        evaluate()
        checkpoints.save(model, time.monotonic() - start)


def make_model(suite: VelocitySuite, recipe: Recipe, seed: int, done: int) -> SAC:
    """A fresh model on fresh environments, whose randomness is keyed by (seed, steps done)."""

    def practice(i: int) -> VelocityPractice:
        rng = np.random.default_rng(keyed_seed(seed, Purpose.PRETRAIN, i, done))
        return VelocityPractice(suite, rng, lambda: recipe.reach(_done(model, recipe)))

    model = SAC(
        "MlpPolicy",
        DummyVecEnv([lambda i=i: practice(i) for i in range(recipe.environments)]),
        learning_rate=lambda remaining: recipe.learning_rate * recipe.decay(1.0 - remaining),
        qf_learning_rate=recipe.critic_learning_rate,
        buffer_size=recipe.buffer_size,
        learning_starts=recipe.learning_starts,
        batch_size=recipe.batch_size,
        gamma=recipe.discount,
        gradient_steps=recipe.gradient_steps,
        policy_delay=recipe.policy_delay,
        policy_kwargs={"net_arch": {"pi": recipe.actor, "qf": recipe.critic}, "layer_norm": recipe.layer_norm},
        seed=keyed_seed(seed, Purpose.INITIALISE, done) % 2**31,
    )
    return model


def _done(model: SAC, recipe: Recipe) -> float:
    return min(1.0, float(model.num_timesteps) / recipe.env_steps)


def torch_actor(model: SAC, suite: VelocitySuite) -> GoalActor:
    """The mean action of the model's actor as a torch module; sbx names its layers Dense_0, Dense_1, …"""
    layers = model.policy.actor_state.params["params"]
    hidden = len(layers) - 2  # the last two are mean and log standard deviation
    kernels = [np.asarray(layers[f"Dense_{i}"]["kernel"]) for i in range(hidden + 1)]
    actor = GoalActor([kernels[0].shape[0], *(kernel.shape[1] for kernel in kernels)], goal_signature(suite))
    for i, layer in enumerate(actor.layers):
        weights = {"weight": torch.tensor(kernels[i].T), "bias": torch.tensor(np.asarray(layers[f"Dense_{i}"]["bias"]))}
        layer.load_state_dict(weights)
    return actor.eval().requires_grad_(False)
