"""The origin of a fine-tuning: π0, the file that it was read from, and what was deployed at first."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.policies.protocol import Policy, frozen_copy
from amf_lightning.policies.statistics import FeatureStatistics
from amf_lightning.policies.weights import PolicyFile


@dataclass
class Origin:
    """π0. It is no `nn.Module`, so that Lightning neither trains nor saves nor moves the policies in it.

    They are no part of a checkpoint: π0 is read from its file each time.
    """

    policy: Policy
    """π0, frozen."""
    file: PolicyFile | None
    """The file that π0 was read from, without the weights, which are π0; None for a fresh policy."""
    start: Policy
    """What the retention deploys in the place of π0, before the first step; frozen. π0 itself, if that is the same."""

    @classmethod
    def of(cls, policy: Policy, file: PolicyFile | None = None) -> "Origin":
        """π0 = `policy`, of which one frozen copy is made, and what its file says beside the weights."""
        pretrained = frozen_copy(policy)
        return cls(pretrained, None if file is None else replace(file, tensors={}), pretrained)

    def deploy(self, policy: Policy, wrapped: Policy) -> Policy:
        """Notes what the retention has made of a policy with the weights of π0, and gives it back."""
        if wrapped is not policy:
            self.start = frozen_copy(wrapped)
        return wrapped

    @property
    def statistics(self) -> FeatureStatistics | None:
        """What the file says about the pre-training states."""
        return self.file.statistics if self.file else None

    @property
    def counts(self) -> dict[str, int]:
        """Demonstrations that π0 was trained on, by the name of their task; empty for a fresh policy."""
        return dict(self.file.pretraining_counts) if self.file else {}

    @property
    def demonstrations(self) -> frozenset[str]:
        """`fingerprint` of each demonstration that π0 was trained on, as far as its file says."""
        return self.file.demonstrations if self.file else frozenset()

    @property
    def demonstrations_folder(self) -> Path | None:
        """Where the run that made the file left those demonstrations; None if the file does not lie in its folder."""
        folder = RunFolder(self.file.path.parent).demonstrations if self.file else None
        return folder if folder is not None and folder.is_dir() else None

    @property
    def importance(self) -> dict[str, Tensor]:
        """Importance of each parameter that the file keeps, by its name; empty if it keeps none."""
        return dict(self.file.importance) if self.file else {}
