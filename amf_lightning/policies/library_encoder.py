"""Pictures by a network that a library ships or the user wrote, trained along or frozen; the rest as one vector."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from amf_lightning.errors import InputError
from amf_lightning.policies.feature_cache import FeatureCache
from amf_lightning.policies.library_function import check_known
from amf_lightning.policies.library_network import LibraryNetwork, Preparation
from amf_lightning.policies.picture_encoder import Fusion, PictureEncoder
from amf_lightning.tasks.spec import Specs

_GIB = 2**30


class LibraryEncoder(PictureEncoder):
    """Each picture by a network of torchvision, timm or the user; see `PictureEncoder` for the rest.

    What the network gives is a map [N, D, H, W], tokens [N, L, D] or a vector [N, D]. Nothing is downloaded. A frozen
    network stays in evaluation mode and sees one frame at a time, so that the features of a frame are a function of its
    weights and the frame, to the bit, whatever stands beside it.

    Args:
        observation: entries of the observation: any number of pictures and of vectors; each picture has its network.
        context_dim: C.
        history: observations that it is shown.
        function: import path of what makes the network: `torchvision.models.resnet18`, `timm.create_model`, or a class
            that extends `torch.nn.Module`.
        arguments: of that call.
        output: name of the module in the network whose output is taken, e.g. `layer4` (a map) or `avgpool` (a vector);
            what comes after it, as the head, is taken off. None: the output of the whole network.
        weights: safetensors file or `state_dict` to begin with; None: the network begins with what it is made with.
            Policies made from a policy file do not need it any more.
        frozen: whether the network stays as it is; else it is trained.
        cache: folder in which the features of the frames that a frozen network is trained on are kept, for all runs and
            processes that are given it; None: they are computed anew each time.
        cache_gib: size of that folder from which on nothing is added.
        mean: of each channel of pictures in [0, 1], subtracted before the network; by default ImageNet's.
        std: of the same, divided by.
        resize: height and width that pictures are brought to, by smoothed bilinear interpolation; None: they stay.
        shift: largest random shift in training; see `ConvEncoder`.
        fusion: see `PictureEncoder`; with `film` the context enters in the network's output.
        smallest_std: see `MLPPolicy`.

    Raises:
        InputError: an option cannot be, or the network cannot be made of them.
    """

    def __init__(
        self,
        observation: Specs,
        context_dim: int,
        history: int,
        function: str,
        arguments: Mapping[str, Any] | None = None,
        output: str | None = None,
        weights: str | None = None,
        frozen: bool = False,
        cache: str | None = None,
        cache_gib: float = 16.0,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        resize: int | None = None,
        shift: int = 0,
        fusion: Fusion = "concatenate",
        smallest_std: float | None = None,
    ) -> None:
        if len(mean) != len(std) or not mean or min(std) <= 0 or shift < 0 or (resize is not None and resize < 1):
            raise InputError(
                f"LibraryEncoder: mean {list(mean)}, std {list(std)}, resize {resize}, shift {shift} cannot be."
            )
        if cache is not None and not frozen:
            raise InputError("LibraryEncoder: cache keeps features of a frozen network. Set frozen: true, or no cache.")
        if cache is not None and shift:
            raise InputError(
                f"LibraryEncoder: with shift {shift} hardly a frame is seen twice, so its features cannot be cached. "
                "Set shift: 0, or no cache."
            )
        preparation = Preparation(tuple(mean), tuple(std), resize, shift)
        file = None if weights is None else Path(weights)
        kept = None if cache is None else FeatureCache(Path(cache), int(cache_gib * _GIB))
        network = partial(LibraryNetwork, function, dict(arguments or {}), output, file, frozen, kept, preparation)
        super().__init__(observation, context_dim, history, network, fusion, smallest_std)
        # Where it began and where features are kept say nothing of what it is: its file is read on other machines.
        self.options |= {"weights": None, "cache": None, "cache_gib": 16.0}

    @classmethod
    def check_recipe(cls, options: Mapping[str, Any]) -> None:
        check_known(str(options.get("function")))
