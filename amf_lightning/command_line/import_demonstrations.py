"""`amf import SOURCE STORE`: brings demonstrations in somebody's format into a folder of ours."""

from pathlib import Path

from amf_lightning.command_line.plain_parser import PlainParser
from amf_lightning.demonstrations.importing.into_store import import_demonstrations
from amf_lightning.demonstrations.importing.reading import KEYS, Reading, read_keys, read_tasks
from amf_lightning.demonstrations.importing.source import FORMATS
from amf_lightning.errors import InputError
from amf_lightning.shipped import shipped_folder


def main(arguments: list[str]) -> None:
    """Parses the command line, imports, and says what is in the store now."""
    parser = PlainParser(prog="amf import", description=__doc__, allow_abbrev=False)
    parser.add_argument("source", type=Path, help="; or ".join(FORMATS.values()))
    parser.add_argument("store", type=Path, help="folder of demonstrations; made if it is not there")
    parser.add_argument("--tasks", type=Path, help="YAML: our name of each task by theirs; '*': NAME for all others")
    parser.add_argument("--keys", type=Path, help=f"YAML: {', '.join(KEYS)}")
    parser.add_argument("--format", choices=list(FORMATS), help="of the source; found by its content if left out")
    values = parser.parse_args(arguments)
    keys = read_keys(_found(values.keys)) if values.keys else {}
    tasks = read_tasks(values.tasks) if values.tasks else {}
    done = import_demonstrations(values.source, values.store, Reading(**keys, tasks=tasks), values.format)
    known = f"; {done.known} were there already" if done.known else ""
    print(f"{done.written} new demonstrations in {values.store}, from number {done.first} on{known}.")
    for task, number in sorted(done.tasks.items()):
        print(f"  {number} of {task}")


def _found(keys: Path) -> Path:
    """The file; else the shipped one, so that `configs/import/libero.yaml` works in any folder."""
    if keys.exists() or keys.parent.parts[-2:] != ("configs", "import"):
        return keys
    folder = shipped_folder("configs") / "import"
    if (shipped := folder / keys.name).is_file():
        return shipped
    names = ", ".join(f"configs/import/{file.name}" for file in sorted(folder.glob("*.yaml")))
    raise InputError(f"--keys {keys} does not exist. Give a file of yours, or one of {names}.")
