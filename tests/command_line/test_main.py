"""The program `amf`: what starts without torch, where the old modules went, and what a shell completes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from amf_process import TESTS, amf, fresh, tree

from amf_lightning.catalogue import classes
from amf_lightning.command_line.completion import SCRIPTS, candidates
from amf_lightning.command_line.lightning_cli import Fit
from amf_lightning.command_line.main import COMMANDS
from amf_lightning.command_line.options import options_of

HEAVY = {"torch", "lightning", "gymnasium", "mujoco", "matplotlib", "imageio"}
ROOT = TESTS.parent


def python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["status", "RUN"],
        ["status", "RUN", "--json"],
        ["completion", "bash"],
        ["__complete", "fit", "--config", "configs/"],
        ["__complete", "fit", "--"],
        ["__complete", "fit", "--selector", ""],
    ],
    ids=" ".join,
)
def test_what_only_reads_imports_no_torch(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / "config.yaml").write_text("suite: {class_path: tiny.TinySuite}\nactive: {budget: 3}\n")
    before = tree(tmp_path)
    code = (
        "import sys; from amf_lightning.command_line.main import main\n"
        f"main({arguments!r})\n"
        f"assert not {HEAVY!r} & set(sys.modules), {HEAVY!r} & set(sys.modules)\n"
    )
    done = python(code, tmp_path)
    assert done.returncode == 0 and done.stdout, done.stderr
    assert tree(tmp_path) == before


def test_a_run_imports_no_world_but_its_own(tmp_path: Path) -> None:
    code = (
        "import sys; from amf_lightning.command_line.main import main\n"
        "args = ['--suite=Integrator', '--expert=IntegratorExpert', '--selector=Uniform', '--print_config']\n"
        "try: main(['fit', *args])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'amf_lightning.suites.integrator' in sys.modules\n"
        "assert not {'mujoco', 'imageio', 'amf_lightning.suites.halfcheetah', 'amf_lightning.selection.ensemble'}"
        " & set(sys.modules)\n"
    )
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("experts.measure", "measure"),
        ("experts.training", "train-expert"),
        ("experts.training.curve", "training-curve"),
        ("shipped", "publish"),
    ],
)
def test_the_old_modules_say_where_they_went(tmp_path: Path, module: str, command: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", f"amf_lightning.{module}", "x"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert f"amf {command}" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(tmp_path: Path, command: str) -> None:
    outcome = amf(command, "--help", cwd=tmp_path)
    assert outcome.code == 0 and outcome.stdout.startswith("usage: amf"), outcome.said
    assert command in outcome.stdout.splitlines()[0]


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("publish", "completion")])
def test_every_command_refuses_an_option_that_it_lacks(tmp_path: Path, command: str) -> None:
    outcome = amf(command, "--nonsense=1", cwd=tmp_path)
    assert outcome.code == 2 and "Traceback" not in outcome.stderr, outcome.said


def test_measuring_refuses_bad_input_in_a_line(tmp_path: Path) -> None:
    outcome = fresh("measure", "--config", "nowhere.yaml", cwd=tmp_path)
    assert outcome.code == 2 and outcome.stderr.startswith("amf: There is no configuration"), outcome.said
    outcome = amf("measure", "--suite", "Integratr", cwd=tmp_path)
    assert outcome.code == 2 and "Did you mean 'Integrator'" in outcome.stderr, outcome.said


def test_publishing_says_where_the_file_is_missing(tmp_path: Path) -> None:
    outcome = amf("publish", "none.safetensors", "a/b.safetensors", "how", cwd=tmp_path)
    assert outcome.code == 2 and "There is no file none.safetensors to publish" in outcome.stderr, outcome.said


# -- completion ------------------------------------------------------------------------------------------------------


def test_the_options_of_a_run_are_those_of_its_parser(capsys: pytest.CaptureFixture[str]) -> None:
    """Read from the source on one side, asked of the parser on the other."""
    with pytest.raises(SystemExit):
        Fit(["fit", "--help"])
    words = capsys.readouterr().out.split()
    parser = {word for word in words if word.startswith("--")}
    parser = {option for option in parser if not option.endswith(".help") and option.count(".") <= 1}
    groups = {"--model", "--data", "--trainer", "--active", "--reports", "--optimizer", "--lr_scheduler"}
    extended = {option.rstrip("+,") for option in parser} - groups - {"--active.stop.below", "--active.stop.rounds"}
    read = set(options_of("fit"))
    assert {option for option in extended if option.startswith(("--active", "--data", "--model", "--reports"))} <= read
    assert {option for option in read if option.startswith("--trainer.")} >= {"--trainer.devices", "--trainer.logger"}
    assert read <= extended


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], [*COMMANDS, "--help", "--version"]),
        (["va"], ["validate"]),
        (["fit", "--suite", "Half"], ["HalfCheetahVelocity"]),
        (["fit", "--suite=Half"], ["--suite=HalfCheetahVelocity"]),
        (["fit", "--retention", "=", "No"], ["NoRetention"]),
        (["fit", "--selector.embedding", "Kern"], ["Kernel"]),
        (["fit", "--selector", "Uniform", "--selector.rh"], []),
        (["fit", "--selector", "InformationGain", "--selector.rh"], ["--selector.rho"]),
        (["fit", "--active.bud"], ["--active.budget"]),
        (["compare", "--share"], ["--share-imports"]),
        (["measure", "--weights", "humanoid/ex"], ["humanoid/expert"]),
        (["completion", "z"], ["zsh"]),
    ],
)
def test_what_a_word_may_become(words: list[str], expected: list[str]) -> None:
    assert candidates(words) == expected


def test_classes_come_from_the_catalogue() -> None:
    for key in ("suite", "expert", "selector", "retention"):
        assert candidates(["fit", f"--{key}", ""]) == list(classes(key))


def test_configurations_are_the_shipped_ones_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    found = candidates(["fit", "--config", ""])
    assert {"mine.yaml", "folder/", "configs/halfcheetah.yaml"} <= set(found) and "notes.txt" not in found
    assert candidates(["status", "fo"]) == ["folder/"]


BASH = """
eval "$(amf completion bash)"
complete_line() {
    COMP_LINE=$1; COMP_POINT=${#1}; COMP_WORDS=("${@:2}"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _amf 2>/dev/null; printf '%s\\n' "${COMPREPLY[@]}"
}
complete -p amf
complete_line 'amf fit --selector Info' amf fit --selector Info
complete_line 'amf fit --selector=Info' amf fit --selector = Info
complete_line 'amf st' amf st
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_real_bash_completes(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "amf"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m amf_lightning "$@"\n')
    script.chmod(0o755)
    environment = os.environ | {"PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["complete -F _amf amf", "InformationGain", "InformationGain", "status"]


@pytest.mark.parametrize("shell", [shell for shell in SCRIPTS if shutil.which(shell)])
def test_a_script_is_valid_in_its_shell(shell: str) -> None:
    done = subprocess.run([shell, "-n"], input=SCRIPTS[shell], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == ""
