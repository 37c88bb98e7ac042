"""Read by the server that tests fork from: reads one configuration, as jsonargparse keeps what it found of a class.

Its forks draw no pictures, unless they are told to (`undrawn.py`).
"""

import contextlib
import gc
import io
from pathlib import Path

import undrawn

from amf_lightning.command_line.main import main

undrawn.leave_out()

with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["fit", f"--config={Path(__file__).parents[1] / 'configs' / 'base.yaml'}", "--print_config"])
gc.freeze()
