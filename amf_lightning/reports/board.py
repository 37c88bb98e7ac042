"""How a run logs for TensorBoard: curves, charts of several, sentences, pictures, and the row of settings and results.

Tags: `all_tasks/…`, `by_demonstrations/KIND/TASK`, `by_round/KIND/…`, `selection/…`, `loss/…`, `report/…`, `final/…`.
"""

import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # it takes a second, which `amf fit --help` can do without
    from torch.utils.tensorboard import SummaryWriter

Setting = str | int | float


class Logging(Protocol):
    """The part of a logger of Lightning's that is needed of any."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Logs numbers."""

    def save(self) -> None:
        """Hands what was logged to the operating system."""


class Writing(Protocol):
    """A logger that writes for TensorBoard."""

    @property
    def experiment(self) -> "SummaryWriter":
        """The writer."""


class Board:
    """The loggers of a run as its reports use them.

    Args:
        loggers: of the trainer, which are given the numbers.
        writing: those of them that write for TensorBoard, which are given everything.
    """

    def __init__(self, loggers: Sequence[Logging], writing: Sequence[Writing]) -> None:
        self.loggers = loggers
        self.writing = writing
        self._names: dict[str, set[str]] = {}
        """The names of the curves of each kind so far, by `GROUP/KIND`."""
        self._charts: list[str] = []
        """The kinds of the last layout."""

    @property
    def _writers(self) -> "list[SummaryWriter]":
        return [logger.experiment for logger in self.writing]

    def numbers(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Logs `GROUP/NAME` for each value; a name `KIND/TASK` belongs to the chart of its kind."""
        for name in values:
            kind, _, task = name.partition("/")
            if task:
                self._names.setdefault(f"{group}/{kind}", set()).add(task)
        for logger in self.loggers:
            logger.log_metrics({f"{group}/{name}": value for name, value in values.items()}, step)

    def sentence(self, tag: str, text: str, step: int) -> None:
        """Logs a text."""
        for writer in self._writers:
            writer.add_text(tag, text, step)

    def layout(self, step: int) -> None:
        """Lays out the tab Custom Scalars, if there are kinds that it does not have yet: a chart for all of a kind."""
        from torch.utils.tensorboard.summary import custom_scalars

        several = [kind for kind, names in self._names.items() if len(names) > 1]
        charts = [kind for kind in several if not kind.startswith("by_round/")]
        if charts == self._charts:
            return
        self._charts = charts
        categories: dict[str, dict[str, list[object]]] = {}
        if any(chart.startswith("by_demonstrations/") for chart in charts):
            mean_and_spread = [
                f"all_tasks/{name}" for name in ("score", "score_lower_quartile", "score_upper_quartile")
            ]
            categories["all_tasks"] = {"mean score, quartiles of the tasks": ["Margin", mean_and_spread]}
        for group, _, kind in (chart.partition("/") for chart in charts):
            categories.setdefault(group, {})[kind] = ["Multiline", [f"^{re.escape(f'{group}/{kind}/')}"]]
        categories["loss"] = {"loss": ["Multiline", ["^loss/"]]}
        self._add(custom_scalars(categories), step)  # type: ignore[no-untyped-call]

    def picture(self, tag: str, encoded: bytes, step: int) -> None:
        """Logs a picture as it is: a PNG, or a GIF, which TensorBoard shows moving."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        width, height = Image.open(BytesIO(encoded)).size
        image = Summary.Image(encoded_image_string=encoded, width=width, height=height, colorspace=3)
        self._add(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def settings(self, settings: Mapping[str, Setting], results: Sequence[str], step: int) -> None:
        """Gives the run a row in the tab HParams.

        Args:
            settings: by name; the same names in every run, as TensorBoard takes the columns of the first that it finds.
            results: names of what `results` will log.
            step: of the event.
        """
        from torch.utils.tensorboard.summary import hparams

        tags = dict.fromkeys((f"final/{name}" for name in results), 0.0)
        experiment, start, _ = hparams(dict(settings), tags)  # type: ignore[no-untyped-call]
        self._add(experiment, step)
        self._add(start, step)

    def results(self, results: Mapping[str, float], step: int) -> None:
        """Completes the row in the tab HParams; also logged as `final/NAME`."""
        from torch.utils.tensorboard.summary import hparams

        self.numbers("final", results, step)
        *_, end = hparams({}, {})  # type: ignore[no-untyped-call]
        self._add(end, step)

    def flush(self) -> None:
        """Hands everything to the operating system: a process that is killed now loses none of it."""
        for logger in self.loggers:
            logger.save()

    def _add(self, summary: Any, step: int) -> None:
        for writer in self._writers:
            writer._get_file_writer().add_summary(summary, step)  # type: ignore[no-untyped-call]
