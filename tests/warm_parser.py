"""Read by the server that tests fork from: reads one configuration, as jsonargparse keeps what it found of a class.

Its forks have the parser that this makes (`kept_parser.py`) and draw no pictures, unless told to (`undrawn.py`).
"""

import contextlib
import gc
import io
from pathlib import Path

import kept_parser
import undrawn

from amf_lightning.command_line.main import main

kept_parser.keep()
undrawn.leave_out()

with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["fit", f"--config={Path(__file__).parents[1] / 'configs' / 'base.yaml'}", "--print_config"])
gc.freeze()
