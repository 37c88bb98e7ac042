"""`amf completion SHELL`: a script that completes commands, options, class names and configurations.

The script calls `amf __complete WORDS`, which answers from the catalogue and the source files: no torch is imported.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from amf_lightning.catalogue import classes, part_of
from amf_lightning.command_line.main import COMMANDS, COMPLETE
from amf_lightning.command_line.options import options_of, options_of_class
from amf_lightning.command_line.plain_parser import PlainParser
from amf_lightning.shipped import manifest, shipped_folder

_BASH = f"""\
# Completion of amf for bash: eval "$(amf completion bash)"
_amf() {{
    COMPREPLY=()
    local line
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <(amf {COMPLETE} "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null)
    if [[ ${{#COMPREPLY[@]}} -eq 1 && ${{COMPREPLY[0]}} == */ ]]; then
        compopt -o nospace
    fi
}}
complete -F _amf amf
"""
_ZSH = f"""\
#compdef amf
# Completion of amf for zsh: eval "$(amf completion zsh)"
_amf() {{
    local -a found
    found=("${{(@f)$(amf {COMPLETE} "${{(@)words[2,CURRENT]}}" 2>/dev/null)}}")
    compadd -S '' -- ${{found:#}}
}}
compdef _amf amf
"""
_FISH = f"""\
# Completion of amf for fish: amf completion fish | source
function __amf_complete
    set -l words (commandline -opc) (commandline -ct)
    amf {COMPLETE} $words[2..-1] 2>/dev/null
end
complete -c amf -f -a '(__amf_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def main(arguments: list[str]) -> None:
    """Prints the script of a shell; or, called by such a script, what the last word may be, a line each."""
    if arguments[:1] == [COMPLETE]:
        for candidate in candidates(arguments[1:]):
            print(candidate)
        return
    parser = PlainParser(prog="amf completion", description=__doc__, allow_abbrev=False)
    parser.add_argument("shell", choices=sorted(SCRIPTS))
    print(SCRIPTS[parser.parse_args(arguments).shell], end="")


def candidates(words: Sequence[str]) -> list[str]:
    """What the last of these words may become.

    Args:
        words: after `amf`, up to the cursor; the last one may be empty. Bash gives `--selector=In` as three words.
    """
    *before, current = words or [""]
    if not before:
        return _starting(current, [*COMMANDS, "--help", "--version"])
    command = before[0]
    if current == "=":  # bash completes what comes after it
        return _values(before[-1], "")
    if before[-1] == "=" and len(before) > 1:
        return _values(before[-2], current)
    if current.startswith("-"):
        option, equals, value = current.partition("=")
        if equals:
            return [f"{option}={candidate}" for candidate in _values(option, value)]
        return _starting(current, [*options_of(command), *_options_of_parts(before)])
    if before[-1].startswith("-"):
        return _values(before[-1], current)
    if command == "completion":
        return _starting(current, SCRIPTS)
    return _files(current, ())


def _values(option: str, current: str) -> list[str]:
    """What may follow an option: classes, configurations, weights or files."""
    key = option.lstrip("-")
    if part := part_of(key):
        return _starting(current, classes(part))
    if key in ("config", "c"):
        folder = shipped_folder("configs")
        shipped = sorted(f"configs/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*.yaml"))
        return sorted({*_starting(current, shipped), *_files(current, (".yaml", ".yml"))})
    files = _files(current, ())
    if key in ("weights", "model.pretrained"):
        names = [name.removesuffix(".safetensors") for name in manifest() if name.endswith(".safetensors")]
        return sorted({*_starting(current, names), *files})
    return files


def _options_of_parts(words: Sequence[str]) -> list[str]:
    """Options of the classes that the words name: `--selector InformationGain` makes `--selector.rho` one."""
    text = [part for word in words for part in word.partition("=") if part and part != "="]
    keys_and_names = [(key.removeprefix("--"), name) for key, name in pairwise(text) if key.startswith("--")]
    return [option for key, name in keys_and_names for option in options_of_class(key, name)]


def _starting(current: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(current)]


def _files(current: str, suffixes: tuple[str, ...]) -> list[str]:
    """Folders, and files with one of these suffixes (with any, if there is none), whose path begins with `current`."""
    head, slash, start = current.rpartition("/")
    folder = Path(head + slash) if slash else Path()
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    return [
        f"{head}{slash}{entry.name}{'/' if entry.is_dir() else ''}"
        for entry in entries
        if entry.name.startswith(start)
        and (start.startswith(".") or not entry.name.startswith("."))
        and (entry.is_dir() or not suffixes or entry.suffix in suffixes)
    ]
