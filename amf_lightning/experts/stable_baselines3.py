"""Actors that Stable-Baselines3 has saved, without installing it and without unpickling anything."""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.experts.network import Finish, Network, NetworkExpert, in_own_units, largest, squashed
from amf_lightning.experts.state_dict import check_unpacked, read_torch


@dataclass(frozen=True)
class _Layout:
    """Where the actor of an algorithm lies in `policy.pth`."""

    hidden: str
    """Prefix of the numbered layers."""
    last: str | None
    """The layer above them; None if it is one of them."""
    activation: type[nn.Module]
    """Unless `policy_kwargs` names another."""
    finish: Finish


_LAYOUTS = (
    _Layout("actor.latent_pi.", "actor.mu", nn.ReLU, squashed),  # SAC
    _Layout("actor.mu.", None, nn.ReLU, squashed),  # TD3, DDPG
    _Layout("mlp_extractor.policy_net.", "action_net", nn.Tanh, in_own_units),  # PPO, A2C
    _Layout("q_net.q_net.", None, nn.ReLU, largest),  # DQN
)


class StableBaselines3Expert(NetworkExpert):
    """Actors of SAC, TD3, DDPG, PPO, A2C and DQN with `MlpPolicy`, from the zip files of `model.save`, acting greedily.

    Read are `policy.pth`, as tensors only, and the plain text of `data`; nothing is unpickled, so a zip of a stranger
    can do no harm. The actor sees the observation, or the observation followed by the task's goal, whichever has the
    width of its input. What `VecNormalize` does is not in the zip: of an expert trained behind it, write a class that
    normalises and choose it by `ActorExpert`.

    Args:
        weights: a zip, or for each task, by name, its own.
        noise: see `ActingExpert`.
        successes_only: see `ActingExpert`.
        max_attempts: see `ActingExpert`.

    Raises:
        InputError: a file is missing or damaged, or holds another kind of policy (images, gSDE, recurrent).
    """

    def __init__(
        self,
        weights: str | dict[str, str],
        noise: float = 0.0,
        successes_only: bool = True,
        max_attempts: int = 5,
    ) -> None:
        super().__init__(weights, read_zip, noise, successes_only, max_attempts)


def read_zip(path: Path) -> Network:
    """The actor of a zip; see `StableBaselines3Expert`."""
    try:
        with ZipFile(path) as file:
            check_unpacked(path, file)
            data = json.loads(file.read("data"))
            tensors = read_torch(path, io.BytesIO(file.read("policy.pth")))
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except Exception as error:  # of unpickling anything may come
        raise InputError(f"{path} is not a zip that Stable-Baselines3 has saved, or damaged ({error}).") from error
    if not (isinstance(data, dict) and isinstance(tensors, dict)):
        raise InputError(
            f"{path} is not a zip that Stable-Baselines3 has saved: its data or policy.pth is no dictionary."
        )
    for layout in _LAYOUTS:
        if layout.last is not None and f"{layout.last}.weight" not in tensors:
            continue
        if numbered := _numbered(tensors, layout.hidden):
            break
    else:
        raise _unsupported(path, f"its tensors are {', '.join(sorted(tensors)[:6])}, …")
    if data.get("use_sde") or any("features_extractor" in name for name in tensors):
        raise _unsupported(path, "it uses gSDE or reads images")
    names = [*numbered, *([layout.last] if layout.last else [])]
    finish = largest if layout.finish is in_own_units and "log_std" not in tensors else layout.finish
    if without := [name for name in names if f"{name}.bias" not in tensors]:
        raise _unsupported(path, f"its layer {without[0]} has no bias")
    layers = [(tensors[f"{name}.weight"].float(), tensors[f"{name}.bias"].float()) for name in names]
    return Network(path, layers, _activation(path, data, layout), finish, discrete=finish is largest)


def _numbered(tensors: Mapping[str, Tensor], prefix: str) -> list[str]:
    """Names of linear layers `prefix0`, `prefix2`, … in order."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.weight")
    numbers = sorted(int(match[1]) for match in map(pattern.fullmatch, tensors) if match)
    return [f"{prefix}{number}" for number in numbers]


def _activation(path: Path, data: Mapping[str, Any], layout: _Layout) -> nn.Module:
    """As `policy_kwargs` spells it, e.g. `<class 'torch.nn.modules.activation.ELU'>`; else the algorithm's own."""
    kwargs = data.get("policy_kwargs") or {}
    if not isinstance(kwargs, dict):
        raise _unsupported(path, f"its policy_kwargs are {kwargs!r}")
    if (spelling := kwargs.get("activation_fn")) is None:
        return layout.activation()
    match = re.fullmatch(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>", str(spelling))
    try:
        activation: nn.Module = getattr(nn, match[1] if match else "")()
    except (AttributeError, TypeError):
        raise _unsupported(path, f"its activation is {spelling}") from None
    return activation


def _unsupported(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path} holds no actor that can be read here: {reason}. Supported are SAC, TD3, DDPG, PPO, A2C and DQN with "
        "MlpPolicy. For another write a class with act(observations, contexts) and choose it by ActorExpert."
    )
