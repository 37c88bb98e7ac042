"""Finds the configurations and checkpoints that travel with the package, by name; maintainers add to them."""

import hashlib
import json
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError, moved
from amf_lightning.reading import read_json_mapping

_PACKAGE = Path(__file__).resolve().parent


def shipped_folder(kind: str) -> Path:
    """The folder `configs` or `checkpoints`: inside an installed wheel, beside the package in a source tree."""
    inside = _PACKAGE / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


@cache
def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest() -> dict[str, dict[str, str]]:
    """`checkpoints/manifest.json`: for each shipped file (relative to `checkpoints/`) its `sha256` and `command`.

    Raises:
        InputError: it is damaged.
    """
    path = shipped_folder("checkpoints") / "manifest.json"
    advice = "Reinstall amf-lightning, or restore the file from its last commit."
    entries = read_json_mapping(path, advice)
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str):
            raise InputError(f"{path} does not say the SHA-256 of '{name}'. {advice}")
    return entries


def checkpoint_path(name: str, suffix: str = ".safetensors") -> Path:
    """Resolves the name of shipped weights (`halfcheetah/expert`) or a path to a file of the user.

    Shipped files are checked against the manifest.

    Raises:
        InputError: nothing has that name, or a shipped file differs from its manifest.
    """
    entries = manifest()
    if (key := name.removesuffix(suffix) + suffix) in entries:
        path = shipped_folder("checkpoints") / key
        if not path.is_file():
            raise InputError(f"The shipped file {path} is missing. Reinstall amf-lightning.")
        if sha256(path) != entries[key]["sha256"]:
            raise InputError(
                f"{path} is not the file that was shipped: its SHA-256 differs from checkpoints/manifest.json. "
                "Restore it, or give a path of your own outside the shipped folder."
            )
        return path
    with suppress(OSError, RuntimeError, ValueError):  # no file can have that name, or no home folder has it
        if (path_of_user := Path(name).expanduser()).is_file():
            return path_of_user
    names = [entry.removesuffix(suffix) for entry in entries if entry.endswith(suffix)]
    near = get_close_matches(name, names, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"Shipped names: {', '.join(sorted(names))}."
    raise InputError(f"No file and no shipped weights are called '{name[:200]}'. {hint}")


def publish(file: Path, name: str, command: str) -> Path:
    """Copies a file into `checkpoints/` of the source tree and enters it in the manifest.

    Args:
        file: what to ship.
        name: its path below `checkpoints/`, with suffix, e.g. `halfcheetah/expert.safetensors`.
        command: what makes the file again.

    Returns:
        Where it is now.

    Raises:
        InputError: there is no such file.
    """
    if not file.is_file():
        raise InputError(f"There is no file {file} to publish.")
    content = file.read_bytes()
    path = shipped_folder("checkpoints") / name
    # The file before its entry: a crash between the two leaves no entry for bytes that are not there.
    write_durably(path, content)
    entries = manifest() | {name: {"sha256": hashlib.sha256(content).hexdigest(), "command": command}}
    write_durably(shipped_folder("checkpoints") / "manifest.json", json.dumps(entries, indent=2, sort_keys=True) + "\n")
    sha256.cache_clear()
    return path


if __name__ == "__main__":
    moved("publish")
