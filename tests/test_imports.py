"""The layout of the package, read from its source: who may import whom, and how long things may be."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "amf_lightning"

ORDER = (
    "errors",
    "user_code",
    "bounded_yaml",
    "durable",
    "writable",
    "reading",
    "hashed_json",
    "lifeline",
    "needs",
    "seeding",
    "import_path",
    "shipped",
    "configuration",
    "catalogue",
    "tasks",
    "simulation",
    "suites",
    "demonstrations",
    "policies",
    "experts",
    "uncertainty",
    "selection",
    "retention",
    "evaluation",
    "campaign",
    "fine_tuning",
    "reports",
    "studies",
    "desk",
    "command_line",
    "__main__",
)
"""Folders and modules directly in the package; each may import those before it."""

PLACES = {
    "lightning": (
        "fine_tuning/module.py",
        "fine_tuning/checkpoint_io.py",
        "fine_tuning/compiled_loss.py",
        "fine_tuning/precision.py",
        "fine_tuning/processes.py",
        "demonstrations/datamodule.py",
        "*_callback.py",
        "reports/run_logger.py",
        "command_line/lightning_cli.py",
    ),
    "gymnasium": ("simulation/*", "suites/*", "experts/training/practice.py"),
    "metaworld": ("suites/metaworld.py",),  # by name, once it is needed
    "minigrid": ("suites/babyai.py",),  # likewise
    "gymnasium_robotics": ("suites/fetch.py",),  # the same
}
"""Libraries that only these files may import."""

MAX_FILE, MAX_FUNCTION = 300, 50
DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc"}


def sources(package: Path = PACKAGE) -> list[Path]:
    return sorted(package.rglob("*.py"))


def imported(path: Path, package: Path = PACKAGE) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything a file imports, anywhere in it, also for type checking only."""
    here = [package.name, *path.relative_to(package).with_suffix("").parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def only_for_types(path: Path) -> set[int]:
    """Lines below `if TYPE_CHECKING:` at the top of a file."""
    return {
        line
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def wrong_edges(package: Path = PACKAGE) -> list[str]:
    """Imports against the order, as `file:line imports name`."""
    wrong = []
    for path in sources(package):
        relative = path.relative_to(package)
        place = relative.parts[0].removesuffix(".py")
        # The public interface names everything and imports nothing before it is used.
        free = only_for_types(path) if place == "__init__" else set()
        for line, name in imported(path, package):
            first, *rest = name.split(".")
            target = rest[0] if first == package.name and rest else None
            if target not in ORDER or place == target or line in free:
                continue  # not of ours, or a name defined in amf_lightning/__init__.py
            if place not in ORDER or ORDER.index(target) >= ORDER.index(place):
                wrong.append(f"{relative}:{line} imports {name}")
    return wrong


def wrong_places(package: Path = PACKAGE) -> list[str]:
    """Imports of libraries outside their places, as `file:line imports name`."""
    return [
        f"{relative}:{line} imports {name}"
        for path in sources(package)
        for relative in [path.relative_to(package)]
        for line, name in imported(path, package)
        for library, places in PLACES.items()
        if name.split(".")[0] in (library, f"pytorch_{library}")
        and not any(fnmatch(relative.as_posix(), place) for place in places)
    ]


def test_every_folder_and_module_has_a_place_in_the_order() -> None:
    found = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in sources()} - {"__init__"}
    missing = found - set(ORDER)
    assert not missing, f"decide what {sorted(missing)} may import, and add it to ORDER"
    assert not set(ORDER) - found, f"ORDER names {sorted(set(ORDER) - found)}, which is gone"


def test_imports_go_one_way() -> None:
    assert wrong_edges() == []


def test_libraries_are_imported_only_in_their_places() -> None:
    assert wrong_places() == []


def test_every_place_of_a_library_is_still_needed() -> None:
    for places in PLACES.values():
        for place in places:
            assert any(fnmatch(path.relative_to(PACKAGE).as_posix(), place) for path in sources()), place


def test_every_folder_of_code_is_a_package() -> None:
    assert [path for path in sources() if not (path.parent / "__init__.py").is_file()] == []


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE
    long = {
        node.name: lines
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION
    }
    assert not long


def test_nothing_is_a_drawer() -> None:
    parts = {part.removesuffix(".py") for path in sources() for part in path.relative_to(PACKAGE).parts}
    assert not {part for part in parts if set(part.split("_")) & DRAWERS}


@pytest.mark.parametrize(
    ("file", "code", "offence"),
    [
        ("tasks/a.py", "from amf_lightning.policies.b import c", "tasks/a.py:1 imports amf_lightning.policies.b.c"),
        (
            "tasks/a.py",
            "def f():\n    import amf_lightning.command_line.lightning_cli",
            "tasks/a.py:2 imports amf_lightning.command_line.lightning_cli",
        ),
        ("tasks/a.py", "from ..studies import main", "tasks/a.py:1 imports amf_lightning.studies.main"),
        (
            "tasks/deep/a.py",
            "from ... import studies",
            "tasks/deep/a.py:1 imports amf_lightning.studies",
        ),
        ("errors.py", "from .shipped import x", "errors.py:1 imports amf_lightning.shipped.x"),
        ("__init__.py", "from amf_lightning.tasks import task", "__init__.py:1 imports amf_lightning.tasks.task"),
        ("reports/a.py", "import lightning.pytorch", "reports/a.py:1 imports lightning.pytorch"),
        ("reports/a.py", "from pytorch_lightning import T", "reports/a.py:1 imports pytorch_lightning.T"),
        ("experts/a.py", "import gymnasium as gym", "experts/a.py:1 imports gymnasium"),
    ],
)
def test_the_checks_see_an_offence(tmp_path: Path, file: str, code: str, offence: str) -> None:
    package = tmp_path / "amf_lightning"
    (package / file).parent.mkdir(parents=True)
    (package / file).write_text(code)
    assert wrong_edges(package) + wrong_places(package) == [offence]


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("policies/a.py", "from amf_lightning.tasks.task import Task\nfrom amf_lightning.policies.b import c"),
        (
            "command_line/lightning_cli.py",
            "from lightning.pytorch.cli import LightningCLI\nfrom amf_lightning import __version__",
        ),
        ("reports/report_callback.py", "import lightning"),
        ("suites/deep/a.py", "import gymnasium\nfrom .b import c\nimport lightning_utilities"),
    ],
)
def test_the_checks_allow_what_is_allowed(tmp_path: Path, file: str, code: str) -> None:
    package = tmp_path / "amf_lightning"
    (package / file).parent.mkdir(parents=True)
    (package / file).write_text(code)
    assert wrong_edges(package) + wrong_places(package) == []
