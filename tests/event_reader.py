"""The event files of a run, read with TensorBoard's own reader."""

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout  # type: ignore[import-untyped]
from tensorboard.plugins.hparams import metadata  # type: ignore[import-untyped]


class Events:
    """What TensorBoard shows of a folder."""

    def __init__(self, folder: Path) -> None:
        everything = {"scalars": 0, "tensors": 0, "images": 0}
        self._accumulator = EventAccumulator(str(folder), size_guidance=everything, purge_orphaned_data=False)
        self._accumulator.Reload()

    def points(self, tag: str) -> list[tuple[int, float]]:
        """Step and value of every point in the order of the files."""
        return [(event.step, event.value) for event in self._accumulator.Scalars(tag)]

    def scalars(self, tag: str) -> dict[int, float]:
        """The values by step, of which none may come twice."""
        points = self.points(tag)
        assert len(dict(points)) == len(points), f"{tag} has a step twice: {points}"
        return dict(points)

    def tags(self) -> set[str]:
        return set(self._accumulator.Tags()["scalars"])

    def texts(self, tag: str) -> dict[int, str]:
        events: list[Any] = self._accumulator.Tensors(f"{tag}/text_summary")
        assert len({event.step for event in events}) == len(events)
        return {event.step: event.tensor_proto.string_val[0].decode() for event in events}

    def pictures(self) -> dict[str, dict[int, bytes]]:
        """The encoded pictures by tag and step."""
        accumulator = self._accumulator
        pictures: dict[str, dict[int, bytes]] = {}
        for tag in accumulator.Tags()["images"]:
            for event in accumulator.Images(tag):
                assert event.step not in pictures.setdefault(tag, {})
                pictures[tag][event.step] = event.encoded_image_string
        return pictures

    def charts(self) -> dict[str, dict[str, list[str]]]:
        """The tags or patterns of tags of each chart, by category and title, as the last layout has them."""
        event = self._accumulator.Tensors("custom_scalars__config__")[-1]
        layout = Layout.FromString(event.tensor_proto.string_val[0])
        return {
            category.title: {
                chart.title: list(chart.multiline.tag)
                or [tag for each in chart.margin.series for tag in (each.value, each.lower, each.upper)]
                for chart in category.chart
            }
            for category in layout.category
        }

    def row(self) -> tuple[dict[str, Any], set[str], bool]:
        """Settings, tags of the results, and whether the run is finished, as the tab HParams has them."""
        plugin = self._accumulator.PluginTagToContent("hparams")
        start = metadata.parse_session_start_info_plugin_data(plugin[metadata.SESSION_START_INFO_TAG])
        values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
        experiment = metadata.parse_experiment_plugin_data(plugin[metadata.EXPERIMENT_TAG])
        columns = {info.name.tag for info in experiment.metric_infos}
        return values, columns, metadata.SESSION_END_INFO_TAG in plugin
