"""Options of every command, read from the source files: completion must not wait for what the commands import."""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from amf_lightning.catalogue import classes, parameters, parameters_of, part_of

_PACKAGE = Path(__file__).resolve().parents[1]

_GROUPS = {
    "model": "amf_lightning.fine_tuning.module:BehaviouralCloning",
    "data": "amf_lightning.demonstrations.datamodule:DemonstrationDataModule",
    "active": "amf_lightning.fine_tuning.active_sampling_callback:ActiveSampling",
    "reports": "amf_lightning.reports.report_callback:RunReports",
}
"""Classes whose parameters are keys of a run."""
_LINKED = {
    *("suite", "expert", "selector", "retention", "evaluation", "seed", "active"),
    *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "log_every_n_steps"),
}
"""Parameters of these classes that follow from other keys."""
_FILES = {
    "compare": "studies/command.py",
    "search-schedule": "studies/search.py",
    "import": "command_line/import_demonstrations.py",
    "export": "command_line/export_demonstrations.py",
}
"""Where a command adds its options, if not in its own module."""


def options_of(command: str) -> list[str]:
    """The options of a command, with their dashes, sorted."""
    if command in ("fit", "validate"):
        grouped = [f"{group}.{name}" for group, place in _GROUPS.items() for name in parameters(place)]
        own = [key for key in grouped if key.partition(".")[2] not in _LINKED]
        trainer = [f"trainer.{name}" for name in _parameters_of_trainer() if name != "max_epochs"]
        parts = ("suite", "expert", "selector", "retention", "evaluation")
        keys = ["help", "config", "print_config", "seed_everything", "threads", "ckpt_path", *parts, *own, *trainer]
        return sorted(f"--{key}" for key in keys)
    path = _PACKAGE / _FILES.get(command, f"command_line/{command.replace('-', '_')}.py")
    return sorted({"--help", *_added(path)}) if path.is_file() else ["--help"]


def options_of_class(key: str, name: str) -> list[str]:
    """The options of the part called `name` under `key`: `--selector.rho`."""
    part = part_of(key)
    module = classes(part).get(name) if part else None
    return [f"--{key}.{parameter}" for parameter in parameters(f"{module}:{name}")] if module else []


def _added(path: Path) -> Iterator[str]:
    """Options that the calls in a file add to a parser."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        constants = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        names = [value for value in constants if isinstance(value, str)]
        if node.func.attr == "add_argument":
            yield from (name for name in names if name.startswith("--"))
        elif node.func.attr == "add_subclass_arguments":
            yield from (f"--{name}" for name in names)


def _parameters_of_trainer() -> tuple[str, ...]:
    """Those of Lightning's Trainer; none if its source is not where it is expected."""
    spec = find_spec("lightning")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, "pytorch", "trainer", "trainer.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if path.is_file() else ():
            if isinstance(node, ast.ClassDef) and node.name == "Trainer":
                methods = [entry for entry in node.body if isinstance(entry, ast.FunctionDef)]
                return next((parameters_of(method) for method in methods if method.name == "__init__"), ())
    return ()
