"""`amf desk RUN`: a page at the robot. It says what to record, takes the recordings in, and notes trials.

It does what `amf next`, `add`, `skip`, `undo` and `score` do; several browsers may use it at once, beside these
commands and beside `amf fit`. It needs no network. Ctrl-C ends it.
"""

from pathlib import Path

from amf_lightning.campaign.acts import user
from amf_lightning.campaign.status import run_at
from amf_lightning.command_line.machine import refused
from amf_lightning.command_line.plain_parser import PlainParser
from amf_lightning.demonstrations.optional import required
from amf_lightning.errors import InputError, Stopped


def main(arguments: list[str]) -> None:
    """Parses the command line and serves until a signal ends it, which is how it ends well."""
    parser = PlainParser(prog="amf desk", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="folder of the run, the one with config.yaml")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; 0.0.0.0 lets others in, with a token")
    parser.add_argument("--port", type=int, default=8470, help="8470, if not given; 0 is any that is free")
    parser.add_argument("--largest", type=float, default=4096, metavar="MIB", help="of a file; 4096, if not given")
    parser.add_argument("--by", default=user(), metavar="NAME", help="who answers, where the page does not say")
    values = parser.parse_args(arguments)
    if not 0 <= values.port < 2**16:
        raise InputError(f"--port is {values.port}; it must be between 0 and 65535.")
    if not values.largest > 0:
        raise InputError(f"--largest is {values.largest}; it is how many MiB a file may have.")
    run_at(values.run)
    for module in ("starlette", "uvicorn"):
        required(module, "amf desk", "desk")
    from amf_lightning.desk.serving import serve

    try:
        serve(values.run, values.host, values.port, round(values.largest * 2**20), values.by, refused)
    except Stopped:  # the server has ended by then
        return
