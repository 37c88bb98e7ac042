import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ready_runs import PROGRAM, lay_ready, write_run

from amf_lightning.studies.plan import Run, plan_runs
from amf_lightning.studies.processes import one_thread
from amf_lightning.studies.runner import execute
from amf_lightning.studies.source_version import source_version
from amf_lightning.studies.specification import Specification


@pytest.fixture(scope="module", autouse=True)
def _ready(tmp_path_factory: pytest.TempPathFactory) -> None:
    lay_ready(tmp_path_factory.mktemp("ready"), ["Uniform", "FromBase"])


def runs(folder: Path, seeds: int = 1, pretrain: Path | None = None, **selectors: str | dict[str, Any]) -> list[Run]:
    base = folder / "base.yaml"
    base.write_text("active: {budget: 4}")
    strategies = {
        label: {"selector": selector} if isinstance(selector, str) else selector
        for label, selector in selectors.items()
    }
    comparison = Specification(base, next(iter(strategies)), strategies, pretrain)
    return plan_runs(comparison, range(seeds), folder / "out", PROGRAM)


def calls(run: Run) -> int:
    return len(run.folder.with_name(f"{run.folder.name}.calls").read_text().splitlines())


def test_a_failure_is_told_with_the_end_of_its_log_and_stops_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    planned = runs(tmp_path, bad="Fails", early="Stops", good="Uniform")
    failures = execute(planned, jobs=1, say=said.append)
    assert [(failure.run.label, failure.reason) for failure in failures] == [
        ("bad", "exit code 3 (user code)"),
        ("early", "it ended before its budget was spent"),
    ]
    assert "no expert anywhere" in str(failures[0])
    assert str(failures[0]) in said
    assert [run.finished() for run in planned] == [False, False, True]


def test_a_second_call_runs_only_what_is_not_finished(tmp_path: Path) -> None:
    planned = runs(tmp_path, bad="Fails", good="Uniform")
    execute(planned, say=lambda _: None)
    said: list[str] = []
    assert len(execute(planned, say=said.append)) == 1
    assert [calls(run) for run in planned] == [2, 1]
    assert said[0].startswith("[1/1] bad seed 0")


def test_logs_hold_the_command_and_processes_have_one_thread(tmp_path: Path) -> None:
    (run,) = runs(tmp_path, good="Uniform")
    assert execute([run], say=lambda _: None) == []
    assert run.log.read_text().startswith(f"$ {run.shell_command}\n")
    assert '"threads": "1"' in run.folder.with_name("seed-0.calls").read_text()
    assert one_thread({"OMP_NUM_THREADS": "8", "OTHER": "x"}) == {**one_thread({}), "OTHER": "x"}


def test_jobs_run_side_by_side(tmp_path: Path) -> None:
    planned = runs(tmp_path, seeds=3, slow={"selector": "Uniform", "model.delay": 1.0})
    execute(planned, jobs=3, say=lambda _: None)
    began = [run.log.with_suffix(".calls").stat().st_mtime for run in planned]
    ended = [(run.folder / "policy.safetensors").stat().st_mtime for run in planned]
    assert max(began) < min(ended)


def test_one_job_at_a_time_is_one_after_the_other(tmp_path: Path) -> None:
    planned = runs(tmp_path, seeds=2, slow={"selector": "Uniform", "model.delay": 0.2})
    execute(planned, jobs=1, say=lambda _: None)
    first_ended = (planned[0].folder / "policy.safetensors").stat().st_mtime
    assert planned[1].log.with_suffix(".calls").stat().st_mtime > first_ended


def test_a_process_killed_by_a_signal_is_told_as_such(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text("active: {budget: 4}")
    killed = (sys.executable, "-c", f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    (run,) = plan_runs(Specification(base, "A", {"A": {}}), [0], tmp_path, killed)
    (failure,) = execute([run], say=lambda _: None)
    assert failure.reason == f"ended by signal {int(signal.SIGKILL)}"


def interrupted() -> None:
    raise KeyboardInterrupt


def terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("how", "ends"), [(interrupted, KeyboardInterrupt), (terminated, SystemExit)])
def test_who_is_interrupted_ends_the_processes_that_were_started(
    tmp_path: Path, how: Callable[[], None], ends: type[BaseException]
) -> None:
    (run,) = runs(tmp_path, slow={"selector": "Uniform", "model.delay": 60})
    mark = run.folder.with_name("seed-0.calls")

    def interrupt(message: str) -> None:
        while not (mark.exists() and mark.read_text()):
            time.sleep(0.05)
        how()

    with pytest.raises(ends):
        execute([run], say=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(json.loads(mark.read_text())["pid"], 0)
    assert not run.finished() and run.log.exists()


def starts(said: list[str]) -> list[str]:
    return [line.partition("] ")[2].partition(":")[0] for line in said if ": started" in line]


def test_a_run_begins_when_its_own_pre_trained_policy_is_there(tmp_path: Path) -> None:
    pretrain = tmp_path / "pretrain.yaml"
    pretrain.write_text("active: {budget: 4}")
    said: list[str] = []
    finished: list[str] = []
    planned = runs(tmp_path, 2, pretrain, A="Uniform", B="Uniform")
    execute(planned, say=said.append, done=lambda run: finished.append(run.name))
    assert finished == ["A seed 0", "B seed 0", "A seed 1", "B seed 1"]
    assert starts(said) == ["pretrained seed 0", *finished[:2], "pretrained seed 1", *finished[2:]]


def test_who_waits_for_a_policy_lets_others_pass_and_only_they_are_left_out_when_it_fails(tmp_path: Path) -> None:
    pretrain = tmp_path / "pretrain.yaml"
    pretrain.write_text("active: {budget: 4}")
    said: list[str] = []
    planned = runs(tmp_path, 2, pretrain, A="Uniform")
    (tmp_path / "pretrain.yaml").write_text("active: {budget: 99}")  # the stub makes 4
    (stuck,) = (run for run in runs(tmp_path, 2, pretrain, A="Uniform") if run.seed == 0)
    failures = execute([stuck, planned[1]], jobs=2, say=said.append)
    assert starts(said) == ["pretrained seed 0", "pretrained seed 1", "A seed 1"]
    assert [failure.run for failure in failures] == [stuck.needs]
    assert "Left out for want of a pre-trained policy: A seed 0" in said


def test_the_seconds_of_a_run_are_kept_unless_it_was_resumed(tmp_path: Path) -> None:
    fresh, resumed = runs(tmp_path, A={"selector": "Uniform", "model.delay": 0.3}, B="Stops")
    assert fresh.process_facts() == {}
    execute([fresh, resumed], say=lambda _: None)
    assert 0.3 <= fresh.process_facts()["seconds"] < 60 and fresh.process_facts()["version"] == source_version()
    assert resumed.process_facts() == {}, "it did not finish"
    write_run(resumed.folder, "Uniform", 0, budget=2)
    copy = "import shutil, sys; shutil.copytree(*sys.argv[1:], dirs_exist_ok=True)"
    ready = Path(os.environ["STUB_RUNS"]) / "Uniform" / "0"
    again = replace(resumed, command=(sys.executable, "-c", copy, str(ready), str(resumed.folder)))
    assert execute([again], say=lambda _: None) == []
    assert again.process_facts() == {"seconds": None, "version": source_version()}
