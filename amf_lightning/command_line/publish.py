"""`amf publish FILE NAME COMMAND`: copies a file into `checkpoints/` and enters it in the manifest.

For maintainers, in a source tree. NAME is the path below `checkpoints/`, e.g. `halfcheetah/expert.safetensors`;
COMMAND is what makes the file again.
"""

from pathlib import Path

from amf_lightning.command_line.plain_parser import PlainParser
from amf_lightning.shipped import publish


def main(arguments: list[str]) -> None:
    """Parses the command line and publishes; says where the file is now."""
    parser = PlainParser(prog="amf publish", description=__doc__)
    parser.add_argument("file", type=Path, help="what to ship")
    parser.add_argument("name", help="path below checkpoints/, with suffix")
    parser.add_argument("command", help="what makes the file again")
    values = parser.parse_args(arguments)
    print(publish(values.file, values.name, values.command))
