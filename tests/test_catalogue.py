"""The catalogue reads source files: what it says must be what importing them would give."""

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amf_lightning import catalogue
from amf_lightning.catalogue import KINDS, base_class, classes, load_all, parameters, part_of, resolve
from amf_lightning.errors import InputError
from amf_lightning.suites.integrator import Integrator

OURS = [key for key, part in KINDS.items() if part.rooms]


def concrete(base: type) -> Iterator[type]:
    """Subclasses in the package that can be made, from those that are imported."""
    subclasses: list[type] = base.__subclasses__()
    for cls in subclasses:
        if not inspect.isabstract(cls) and not cls.__name__.startswith(("_", "LazyInstance_")):
            yield cls
        yield from concrete(cls)


@pytest.mark.parametrize("key", OURS)
def test_the_catalogue_has_every_class_that_importing_finds_and_no_other(key: str) -> None:
    for other in OURS:
        load_all(other)
    imported = {cls.__name__ for cls in concrete(base_class(key)) if cls.__module__.startswith("amf_lightning.")}
    own = {base_class(key).__name__} if KINDS[key].concrete else set()
    assert set(classes(key)) == imported | own
    for name, cls in load_all(key).items():
        assert (cls.__name__, cls.__module__) == (name, classes(key)[name])


@pytest.mark.parametrize("key", OURS)
def test_the_parameters_of_a_class_are_those_of_its_constructor(key: str) -> None:
    for name, cls in load_all(key).items():
        assert parameters(f"{classes(key)[name]}:{name}") == tuple(inspect.signature(cls).parameters), name


def test_a_new_file_in_a_room_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also below a base in another file, under another name there, and not if it is private or abstract."""
    room = tmp_path / "amf_lightning" / "selection"
    room.mkdir(parents=True)
    (room / "context.py").write_text(
        "from abc import ABC, abstractmethod\n"
        "class Selector(ABC):\n    @abstractmethod\n    def select(self): ...\n"
        "class Named(Selector):\n    name = 'x'\n"
    )
    (room / "mine.py").write_text(
        "import amf_lightning.selection.context\n"
        "from amf_lightning.selection.context import Named as Base\n"
        "class Mine(Base):\n    def select(self): return 1\n"
        "class _Hidden(Mine): ...\n"
        "class Below(amf_lightning.selection.context.Named):\n    select = len\n"
        "class Selector: ...\nclass Unrelated(Selector):\n    def select(self): ...\n"
    )
    monkeypatch.setattr(catalogue, "_PACKAGE", room.parent)
    caches = (catalogue.classes, catalogue._room, catalogue._file, catalogue._defined)
    for cache in caches:
        cache.cache_clear()
    try:
        module = "amf_lightning.selection.mine"
        assert classes("selector") == {"Below": module, "Mine": module}
    finally:
        for cache in caches:
            cache.cache_clear()


def test_a_short_name_is_resolved_or_the_nearest_is_said() -> None:
    assert resolve("suite", "Integrator") is Integrator
    with pytest.raises(InputError, match=r"no suite 'Integratr'\. Did you mean 'Integrator'"):
        resolve("suite", "Integratr")


def test_a_part_may_stand_deep_in_a_configuration() -> None:
    assert part_of("selector.init_args.embedding.init_args.kernel") == "kernel"
    assert part_of("model.optimizer") == "optimizer" and part_of("trainer.devices") is None


def test_only_the_modules_of_named_classes_are_imported() -> None:
    code = (
        "import sys; from amf_lightning.catalogue import classes, import_named, KINDS\n"
        "[classes(key) for key in KINDS]\n"
        "assert not {'torch', 'lightning', 'gymnasium'} & set(sys.modules)\n"
        "import_named({'suite': {'class_path': 'Integrator'}, 'text': 'nothing: here', 'n': [1, None]})\n"
        "assert 'amf_lightning.suites.integrator' in sys.modules\n"
        "assert not {'amf_lightning.suites.halfcheetah', 'amf_lightning.selection.informed'} & set(sys.modules)\n"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
