"""A command line that is parsed and whose parts are made, in this process, and nothing is run: for many bad inputs."""

import io
import os
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import kept_parser
import torch
import yaml

from amf_lightning.command_line.lightning_cli import Fit
from amf_lightning.command_line.parsing import with_configurations
from amf_lightning.configuration import merge
from amf_lightning.errors import AmfError, cause

INTEGRATOR: dict[str, Any] = {
    "config": "configs/base.yaml",
    "suite": "Integrator",
    "expert": "IntegratorExpert",
    "selector": "RoundRobin",
    "retention": "NoRetention",
    "model": {"policy": {"class_path": "MLPPolicy", "init_args": {"hidden": [4]}}},
    "active": {"budget": 2, "batch_size": 1},
}

kept_parser.keep()


class _Made(Fit):
    """Everything of `amf fit` before the fit."""

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def made(folder: Path, content: Any, arguments: Sequence[str] = ()) -> str | None:
    """Writes a configuration, reads it as `amf fit` does and makes its parts.

    Args:
        folder: where the file lies and the command is given.
        content: text, or mappings for it.
        arguments: after the file.

    Returns:
        None if a run could start; else the line that the program would end with.
    """
    (folder / "run.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    before, threads = Path.cwd(), torch.get_num_threads()
    os.chdir(folder)
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            _Made(with_configurations(["fit", "--config=run.yaml", *arguments]))
    except SystemExit:  # the parser has said why
        return said.getvalue().strip()
    except Exception as error:
        if (mistake := cause(error, AmfError)) is None:
            from lightning.fabric.utilities.exceptions import MisconfigurationException

            if cause(error, MisconfigurationException) is None:
                raise
            return str(error)
        return str(mistake)
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)
    return None


def changed(**changes: Any) -> dict[str, Any]:
    """`INTEGRATOR` with changes."""
    return merge(INTEGRATOR, changes)
