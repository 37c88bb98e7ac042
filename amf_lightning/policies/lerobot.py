"""An ACT that LeRobot has trained, as a policy of this package: LeRobot's network, normalisation and names."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from amf_lightning.configuration import user_path
from amf_lightning.demonstrations.importing.lerobot import entry_name
from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import Embeds, GaussianDensity
from amf_lightning.policies.controllers import Chunked, TemporalEnsemble
from amf_lightning.policies.encoded import mean_over_chunk, piecewise, with_one
from amf_lightning.policies.lerobot_checkpoint import (
    WEIGHTS,
    Normalisation,
    config_of,
    lerobot_module,
    network_of,
    read_checkpoint,
)
from amf_lightning.policies.picture_encoder import channels_last, picture_shape
from amf_lightning.policies.protocol import Policy
from amf_lightning.seeding import RowGenerators
from amf_lightning.tasks.spec import Spec, Specs
from amf_lightning.tasks.steps import Steps, Window

CONTEXT = "context"
"""Stands in `inputs` for what a policy is told about the task."""
_ACTION, _PADDED, _STATE, _IMAGES = "action", "action_is_pad", "observation.state", "observation.images"


class LeRobotACT(GaussianDensity, Embeds, Policy):
    """LeRobot's ACT from a checkpoint, with the actions and the features that LeRobot computes.

    Weights keep the names that they have in LeRobot (`model.*`). States are alike by the input of the action head,
    averaged over the chunk, with the latent 0. The loss is LeRobot's: L1 of normalised actions, and in training
    `kl_weight` times the divergence of the latent; but each row counts alike, whereas LeRobot counts each action alike.
    It acts as the checkpoint says: by `n_action_steps` of a chunk, or by temporal ensembling.

    LeRobot's ACT is not told which task it is. Unless an input is the context, a linear layer adds what the context is
    to the token of the latent. It begins with zeros, so that the policy begins as the checkpoint's.

    Args:
        observation: entries of the observation.
        context_dim: C.
        action_dim: A.
        checkpoint: folder that LeRobot saved policy and processors into. A policy file needs it no more.
        inputs: for each input of the checkpoint our entry, e.g. `observation.images.top: image/front`; `context` is
            what is told about the task. By default `image/front` is `observation.images.front`, `state`
            `observation.state`, as `amf import` and `amf export` name them.
        action_low: LeRobot's action that is −1 here, a number for each of its entries; None: −1.
        action_high: the one that is 1.
        tells_task: whether the context is added.
        action_std: standard deviation declared for `log_prob` and samples; it does not enter the loss.
        made_of: what a policy file says in place of the checkpoint.

    Raises:
        InputError: LeRobot is not installed, the checkpoint cannot be read, or does not fit the suite.
    """

    low: Tensor | None
    high: Tensor | None

    def __init__(
        self,
        observation: Specs,
        context_dim: int,
        action_dim: int,
        checkpoint: str | None = None,
        inputs: Mapping[str, str] | None = None,
        action_low: Sequence[float] | None = None,
        action_high: Sequence[float] | None = None,
        tells_task: bool = True,
        action_std: float = 0.1,
        made_of: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        folder = None if checkpoint is None else user_path(checkpoint, "LeRobotACT: checkpoint")
        if folder is not None:
            made_of = read_checkpoint(folder)
        if made_of is None:
            raise InputError("LeRobotACT: give the folder of a checkpoint that LeRobot has saved as checkpoint.")
        # The file of the policy holds its weights, and is read where there is no checkpoint.
        self.options |= {"checkpoint": None, "made_of": made_of}
        self.made_of, self.action_std = made_of, action_std
        self.config = config_of(made_of)
        self.inputs = self._inputs(observation, context_dim, inputs or {})
        seen = {name: observation[name] for name in self.inputs.values() if name != CONTEXT}
        self.pictures = {name: picture_shape(name, spec, "LeRobotACT") for name, spec in seen.items() if spec.is_image}
        self.chunk = (int(self.config.chunk_size), self._checked_length(action_dim))
        self.window = Window(horizon=self.chunk[0])
        self._scale(action_low, action_high)
        self.normalise = Normalisation(self.config, made_of)
        self.model: Any = network_of(self.config, folder and folder / WEIGHTS).model
        told = tells_task and context_dim and CONTEXT not in self.inputs.values()
        self.tell = nn.Linear(context_dim, self.config.dim_model, bias=False) if told else None
        if self.tell is not None:
            nn.init.zeros_(self.tell.weight)
        decay = self.config.temporal_ensemble_coeff
        self.make_controller = (
            partial(Chunked, execute=int(self.config.n_action_steps))
            if decay is None
            else partial(TemporalEnsemble, decay=decay)
        )

    # -- acting ---------------------------------------------------------------------------------------------------

    def outputs(self, steps: Steps) -> Tensor:
        """The chunk before it is clipped, [N, H, A], with the latent 0."""
        actions = self.normalise.actions(self._run(self._seen(steps), steps.contexts)[0])
        if self.low is None or self.high is None:
            return actions
        return 2 * (actions - self.low) / (self.high - self.low) - 1

    def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
        """What LeRobot would do, or a draw around it, clipped to [-1, 1]; [N, H, A]."""
        mean = self.outputs(steps).clamp(-1, 1)
        if generator is None:
            return mean
        return (mean + self.action_std * generator.normal(*self.chunk).to(mean)).clamp(-1, 1)

    def embed(self, steps: Steps) -> Tensor:
        """The input of the action head, averaged over the chunk, and a 1, [N, dim_model + 1]."""
        return piecewise(lambda rows: with_one(self._run(self._seen(rows), rows.contexts)[2].mean(dim=1)), steps)

    def loss(self, steps: Steps) -> Tensor:
        """L1 of normalised actions, mean over those that count, and in training the divergence of the latent; [N]."""
        chunk = steps.shown_actions.reshape(len(steps), *self.chunk)
        if self.low is not None and self.high is not None:
            chunk = self.low + (chunk + 1) / 2 * (self.high - self.low)
        padded = torch.zeros_like(chunk[..., 0], dtype=torch.bool) if steps.mask is None else ~steps.mask
        batch = self._seen(steps, {_ACTION: chunk, _PADDED: padded})
        actions, (mean, log_variance), _ = self._run(batch, steps.contexts)
        errors = mean_over_chunk((actions - batch[_ACTION]).abs(), steps.mask)
        if mean is None:
            return errors
        divergence: Tensor = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1)
        return errors + float(self.config.kl_weight) * divergence

    def _seen(self, steps: Steps, shown: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
        """What LeRobot's network is given for rows: pictures [N, 3, height, width] and vectors, normalised."""
        kind, batch = steps.contexts.dtype, dict(shown or {})
        for name, entry in self.inputs.items():
            seen = steps.contexts if entry == CONTEXT else steps.observations[entry]
            if entry in self.pictures:
                shape, first = self.pictures[entry]
                seen = channels_last(seen[:, None], shape, first)[:, 0].movedim(-1, 1).to(kind) / 255
            batch[name] = seen.to(kind)
        # LeRobot asks the state for its device even where the network has no such input.
        given: dict[str, Any] = {_STATE: steps.contexts, **self.normalise.batch(batch)}
        if pictures := [given[name] for name in self.config.image_features]:
            given[_IMAGES] = pictures
        return given

    def _run(self, batch: Mapping[str, Any], contexts: Tensor) -> tuple[Tensor, tuple[Any, Any], Tensor]:
        """Normalised actions [N, H, A], mean and log variance of the latent if it is drawn, and what the action head
        is given, [N, H, dim_model]."""
        with self._watched(contexts) as given, self._without_latent(_ACTION not in batch):
            actions, latent = self.model(batch)
        return actions, latent, given[0]

    @contextmanager
    def _watched(self, contexts: Tensor) -> Iterator[list[Tensor]]:
        """Within it the token of the latent has what the context is, and the inputs of the action head are kept."""
        given: list[Tensor] = []
        tell = self.tell
        handles = [self.model.action_head.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))]
        if tell is not None:
            of_latent = self.model.encoder_latent_input_proj
            handles.append(of_latent.register_forward_hook(lambda _, __, token: token + tell(contexts)))
        try:
            yield given
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _without_latent(self, wanted: bool) -> Iterator[None]:
        """Within it the network's latent is 0 also in training, where it would ask for the expert's actions."""
        training = self.model.training
        self.model.training = training and not wanted  # of itself, not of its layers: these keep their dropout
        try:
            yield
        finally:
            self.model.training = training

    # -- when it is made --------------------------------------------------------------------------------------------

    def _inputs(self, observation: Specs, context_dim: int, named: Mapping[str, str]) -> dict[str, str]:
        """For each input of the checkpoint our entry; InputError if it is missing or of another shape."""
        wanted = self.config.input_features
        if unknown := sorted(named.keys() - wanted.keys()):
            raise InputError(
                f"LeRobotACT: inputs names '{unknown[0]}', but the checkpoint has {', '.join(wanted)}. "
                "Name one of these."
            )
        recorded = {now: before for before, now in self.made_of["renamed"].items()}
        entries = {**observation, CONTEXT: Spec((context_dim,))} if context_dim else dict(observation)
        inputs = {}
        for name, feature in wanted.items():
            entry = named.get(name) or entry_name(recorded.get(name, name))
            if entry not in entries:
                raise InputError(
                    f"LeRobotACT: the checkpoint sees '{name}', and the suite has no '{entry}' but "
                    f"{', '.join(entries)}. Say which of these it is: inputs: {{{name}: …}}."
                )
            spec = entries[entry]
            shape = picture_of(entry, spec) if spec.is_image else spec.shape
            if shape != tuple(feature.shape):
                raise InputError(
                    f"LeRobotACT: '{name}' of the checkpoint is {list(feature.shape)}, and '{entry}' of the suite is "
                    f"{spec}. Give it as it was when LeRobot was trained."
                )
            inputs[name] = entry
        return inputs

    def _checked_length(self, action_dim: int) -> int:
        length = int(self.config.action_feature.shape[0])
        if length != action_dim:
            raise InputError(
                f"LeRobotACT: the checkpoint's action has {length} entries, the suite's {action_dim}. Choose a "
                "suite of the same robot."
            )
        return length

    def _scale(self, low: Sequence[float] | None, high: Sequence[float] | None) -> None:
        """Sets `low` and `high`, buffers of length A, or None where LeRobot's actions are ours."""
        length = self.chunk[1]
        if (low is None) != (high is None) or (low and high and not len(low) == len(high) == length):
            raise InputError(f"LeRobotACT: give action_low and action_high, {length} numbers each, or neither.")
        if low and high and min(b - a for a, b in zip(low, high, strict=True)) <= 0:
            raise InputError(f"LeRobotACT: action_low {list(low)} must lie below action_high {list(high)}, each entry.")
        self.register_buffer("low", None if low is None else torch.tensor(low, dtype=torch.float32))
        self.register_buffer("high", None if high is None else torch.tensor(high, dtype=torch.float32))

    # -- back to LeRobot --------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes a checkpoint that LeRobot reads, with its weights as they are now.

        Raises:
            InputError: it has learned to be told its task by a layer that LeRobot's ACT has not.
        """
        if self.tell is not None and bool(self.tell.weight.any()):
            raise InputError(
                "LeRobotACT: what it was told about its task enters by a layer that LeRobot's ACT has not. Fine-tune "
                "with tells_task: false, or with a checkpoint of which an input is the context, to write one."
            )
        make = lerobot_module("policies.factory").make_pre_post_processors
        prepare, finish = make(self.config, dataset_stats=self.made_of["statistics"])
        prepare.steps[0].rename_map = dict(self.made_of["renamed"])
        network: Any = network_of(self.config, None)
        network.model.load_state_dict(self.model.state_dict())
        for part in (network, prepare, finish):
            part.save_pretrained(folder)


def picture_of(name: str, spec: Spec) -> tuple[int, int, int]:
    """Channels, height and width of an entry, as LeRobot has them."""
    (height, width, channels), _ = picture_shape(name, spec, "LeRobotACT")
    return channels, height, width
