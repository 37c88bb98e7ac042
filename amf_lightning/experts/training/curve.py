"""The curve of each task during a training; `amf training-curve` is the command."""

import csv
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError, moved
from amf_lightning.reading import read_text

_ERROR, _LENGTH = "error ", "length "


def training_figure(rows: list[dict[str, str]]) -> Figure:
    """Mean |v_x − v| and length of the evaluation's episodes against environment steps, a line a task.

    Args:
        rows: of `progress.csv`; see `Progress`.
    """
    steps = [int(row["env_steps"]) / 1e6 for row in rows]
    best = [step for step, row in zip(steps, rows, strict=True) if row["best"] == "1"]
    tasks = [key.removeprefix(_ERROR) for key in rows[0] if key.startswith(_ERROR)]
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, max(len(tasks), 2)))
    figure = Figure(figsize=(8, 6), layout="constrained")
    errors, lengths = figure.subplots(2, 1, sharex=True)
    for task, shade in zip(tasks, shades, strict=False):
        errors.plot(steps, [float(row[_ERROR + task]) for row in rows], color=shade, label=task)
        lengths.plot(steps, [float(row[_LENGTH + task]) for row in rows], color=shade)
    if best:
        errors.axvline(best[-1], color="black", linewidth=0.8, linestyle=":", label="kept")
        lengths.axvline(best[-1], color="black", linewidth=0.8, linestyle=":")
    errors.set(ylabel="mean |v_x − v| in m/s", ylim=(0, None))
    lengths.set(ylabel="length in steps", xlabel="million environment steps", ylim=(0, None))
    for axes in (errors, lengths):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def draw(progress: Path, picture: Path) -> None:
    """Draws `progress` (CSV) as `picture` (PNG).

    Raises:
        InputError: there is no such file, or it has no row.
    """
    if not progress.is_file():
        raise InputError(f"{progress} does not exist. It is the progress.csv of a training's folder.")
    text = read_text(progress, "Give the progress.csv of a training's folder.")
    try:
        rows = list(csv.DictReader(text.splitlines()))
    except csv.Error as error:
        raise InputError(f"{progress} is not a table ({error}). Give the progress.csv of a training.") from error
    if not rows or "env_steps" not in rows[0]:
        raise InputError(f"{progress} has no evaluation yet, or is no progress.csv of a training.")
    buffer = BytesIO()
    try:
        figure = training_figure(rows)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{progress} has a row that no training wrote ({error!r}). Restore it.") from error
    FigureCanvasAgg(figure).print_figure(buffer, format="png", dpi=110, metadata={"Software": None})
    write_durably(picture, buffer.getvalue())


if __name__ == "__main__":
    moved("training-curve")
