"""What `amf fit` and `amf validate` do not show: bars where nobody watches, and warnings that nobody can act on."""

import logging
import sys
import warnings

WARNINGS = {
    "LightningCLI's args parameter": "they are those of sys.argv",
    ".*treespec, LeafSpec.*": "Lightning 2.6 calls what torch 2.13 deprecates",
    "Checkpoint directory .* exists and is not empty": "it is a run that is continued",
    "The dirpath has changed": "a run folder was moved, which it may be",
    "You're resuming from a checkpoint that ended before the epoch ended": (
        "a run is resumed at the start of a round; Lightning compares optimiser steps with blocks of them"
    ),
    "The `srun` command is available on your system but is not used": "one process needs no srun",
}
"""The warnings of other libraries that are ignored, by how their messages begin, and why each helps nobody."""

LOGGERS = {
    "lightning.pytorch.utilities.rank_zero": "which devices there are; advertisements",
    "lightning.fabric.utilities.seed": "the seed, which the configuration says",
    "lightning.pytorch.trainer.connectors.signal_connector": "that a signal came, which we say",
    "lightning.fabric.utilities.distributed": "each process of ddp says that it is there",
}
"""The loggers of other libraries of which only warnings are shown, and what else they say."""


def be_quiet() -> None:
    """Ignores `WARNINGS` and what is less than a warning of `LOGGERS`; everything else is shown."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def somebody_watches() -> bool:
    """Whether everything that is printed goes to a terminal, where a progress bar can be drawn."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))
