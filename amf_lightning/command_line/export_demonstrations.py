"""`amf export RUN|STORE DEST --format FORMAT`: writes demonstrations as a dataset of others."""

from pathlib import Path

from amf_lightning.command_line.plain_parser import PlainParser
from amf_lightning.demonstrations.exporting.destination import FORMATS, export_demonstrations
from amf_lightning.demonstrations.importing.store import numbers
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError


def main(arguments: list[str]) -> None:
    """Parses the command line, exports, and says what is there now."""
    parser = PlainParser(prog="amf export", description=__doc__, allow_abbrev=False)
    parser.add_argument("source", type=Path, help="folder of a run, or of demonstrations")
    parser.add_argument("destination", type=Path, help="folder, or file for robomimic, that is not there yet")
    parser.add_argument("--format", required=True, choices=FORMATS, help="whose format")
    parser.add_argument("--fps", type=float, default=10.0, help="steps a second, for formats that say it (10)")
    values = parser.parse_args(arguments)
    store, demonstrations = chosen(values.source)
    export_demonstrations(store, demonstrations, values.destination, values.format, values.fps)
    print(f"{len(demonstrations)} demonstrations are in {values.destination}, in the format of {values.format}.")


def chosen(source: Path) -> tuple[DemonstrationStore, dict[int, str | None]]:
    """The demonstrations that count: of a run those that its ledger has recorded, with their hashes.

    Raises:
        InputError: there are none.
    """
    if (ledger := source / "ledger.sqlite").is_file():
        from amf_lightning.campaign.ledger import Ledger

        held = Ledger(ledger, read_only=True)
        try:
            recorded: dict[int, str | None] = dict(sorted(held.recorded().items()))
        finally:
            held.close()
        return DemonstrationStore(source / "demonstrations"), recorded
    if not source.is_dir() or not (found := numbers(source)):
        raise InputError(f"{source} has no demonstrations. Give the folder of a run, or of 000000.safetensors, ….")
    return DemonstrationStore(source), dict.fromkeys(found)
