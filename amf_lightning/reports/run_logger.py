"""The logger of a run."""

from typing import TYPE_CHECKING, Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

if TYPE_CHECKING:  # it takes a second, which `amf fit --help` can do without
    from torch.utils.tensorboard import SummaryWriter


class RunLogger(TensorBoardLogger):
    """Lightning's logger for TensorBoard into a run folder: it makes no file before there is something to log."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder, name="", version="", default_hp_metric=False)

    @property
    @rank_zero_experiment
    def experiment(self) -> "SummaryWriter":
        if self._experiment is None:
            self._experiment = _lazy_writer(self.log_dir)
        return self._experiment

    @rank_zero_only
    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        """Does nothing: Lightning calls it at the start; `Board.settings` logs the settings of a run."""

    @rank_zero_only
    def save(self) -> None:
        if self._experiment is not None:
            self._experiment.flush()


def _lazy_writer(folder: str) -> "SummaryWriter":
    """A writer whose file is made with its first event: Lightning asks for it before a refused run is refused."""
    from torch.utils.tensorboard import SummaryWriter

    class LazyWriter(SummaryWriter):
        ready = False

        def _get_file_writer(self) -> Any:
            return super()._get_file_writer() if self.ready else None  # type: ignore[no-untyped-call]

    writer = LazyWriter(folder)
    writer.ready = True
    return writer
