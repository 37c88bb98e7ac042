"""Says which source a run was made by: the version of the package and, in a git checkout, its commit."""

import subprocess
from functools import cache
from pathlib import Path

from amf_lightning import __version__

_PACKAGE = Path(__file__).resolve().parents[1]


@cache
def source_version() -> str:
    """E.g. `0.1.0`; `0.1.0+g60f15ba4c9d2` from a checkout, with `.modified` if files of the package were changed."""
    if not _git("ls-files", "--", "__init__.py"):  # installed: a checkout around it would be somebody else's
        return __version__
    modified = ".modified" if _git("status", "--porcelain", "--", ".") else ""
    return f"{__version__}+g{_git('rev-parse', '--short=12', 'HEAD')}{modified}"


def _git(*arguments: str) -> str:
    try:
        command = ["git", "-C", str(_PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
