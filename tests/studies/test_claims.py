"""Several comparisons at once, and comparisons that die: a run is made once, and does not outlive who asked for it."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from amf_process import write_config
from ready_runs import lay_ready
from test_command import compare, comparison

from amf_lightning.campaign.run_lock import sole_writer
from amf_lightning.studies.claims import Claims
from amf_lightning.studies.plan import Run
from amf_lightning.studies.processes import cold

FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module", autouse=True)
def _ready(tmp_path_factory: pytest.TempPathFactory) -> None:
    lay_ready(tmp_path_factory.mktemp("ready"))


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A child whose parent has not asked for its exit code yet is no process any more.
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def run_in(folder: Path, *arguments: str) -> Run:
    path = folder / "runs" / "Uniform" / "seed-0"
    path.parent.mkdir(parents=True, exist_ok=True)
    return Run("Uniform", 0, path, path, 4, (sys.executable, *arguments), {})


def test_a_run_is_claimed_by_one_until_it_is_given_up_and_nothing_is_left(tmp_path: Path) -> None:
    first, second, run = Claims(), Claims(), run_in(tmp_path)
    assert first.take(run) and not second.take(run)
    first.release(run)
    assert second.take(run) and not first.take(run)
    second.release_all()
    assert list(run.folder.parent.iterdir()) == []


def take_and_live(run: Run) -> None:
    claims = Claims()
    claims.take(run)
    time.sleep(60)


def refused(claims: Claims, run: Run) -> bool:
    if claims.take(run):
        claims.release(run)
        return False
    return True


def test_a_claim_ends_with_its_process_but_not_before_that_of_the_run(tmp_path: Path) -> None:
    run, claims = run_in(tmp_path), Claims()
    run.folder.mkdir(parents=True)
    child = FORK.Process(target=take_and_live, args=(run,))
    child.start()
    wait_for(lambda: run.folder.with_name("seed-0.claim").exists())
    wait_for(lambda: refused(claims, run))
    with sole_writer(run.folder):  # what that process had started
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert refused(claims, run)
    assert not refused(claims, run)


def calls(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): len(path.read_text().splitlines()) for path in folder.rglob("*.calls")}


@pytest.mark.parametrize("seeds", [("0:4", "0:4"), ("0:2", "2:4")], ids=["the same seeds", "other seeds"])
def test_two_comparisons_at_once_make_each_run_once_and_both_report_all(tmp_path: Path, seeds: tuple[str, str]) -> None:
    delayed = {name: {"selector": name, "model.delay": 0.2} for name in ("Uniform", "InformationGain")}
    config = comparison(tmp_path, pretrain="base.yaml", strategies=delayed)
    with FORK.Pool(2) as pool:
        given = [(config, "--seeds", which, "--jobs", "2") for which in seeds]
        assert pool.starmap(compare, given) == [0, 0]
    counts = calls(tmp_path / "out")
    assert len(counts) == 4 + 2 * 4 and set(counts.values()) == {1}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["meta"]["missing"] == []
    assert summary["meta"]["seeds"] == {label: [0, 1, 2, 3] for label in delayed}
    assert {table.name for table in (tmp_path / "out" / "curves").iterdir()} == {f"seed-{i}.csv.gz" for i in range(4)}
    assert not list((tmp_path / "out").rglob("*.claim"))


LIVES = "from amf_lightning.lifeline import end_with_parent; end_with_parent(); import os, sys, time; "
WRITES = "open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"


def start_and_live(run: Run) -> None:
    run.log.touch()
    cold(run)
    time.sleep(60)


def test_a_run_ends_when_its_comparison_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    run = run_in(tmp_path, "-c", LIVES + WRITES, str(mark))
    parent = FORK.Process(target=start_and_live, args=(run,))
    parent.start()
    wait_for(lambda: mark.exists() and mark.read_text())
    pid = int(mark.read_text())
    assert not gone(pid)
    assert parent.pid is not None
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    wait_for(lambda: gone(pid), 15)


DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); from amf_lightning import lifeline; "


def test_a_run_that_does_not_listen_is_ended(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    run = run_in(tmp_path, "-c", DEAF + "lifeline._PATIENCE = 0.3; " + LIVES + WRITES, str(mark))
    parent = FORK.Process(target=start_and_live, args=(run,))
    parent.start()
    wait_for(lambda: mark.exists() and mark.read_text())
    parent.kill()
    parent.join()
    wait_for(lambda: gone(int(mark.read_text())), 15)


def test_who_was_not_started_by_a_comparison_lives_on(tmp_path: Path) -> None:
    for value in ("", "nonsense", "977"):  # the last is no descriptor of that process
        code = LIVES + "time.sleep(0.2); print('alive')"
        environment = os.environ | {"AMF_LIFELINE": value}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "alive\n"


PARENT = """
import sys
from amf_lightning.command_line.main import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "options", [(), pytest.param(("--share-imports",), marks=pytest.mark.slow)], ids=["cold", "forked"]
)
def test_amf_ends_when_the_comparison_that_started_it_is_killed(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A real comparison, and its real runs."""
    (tmp_path / "slow.py").write_text(
        "import os, time\nfrom pathlib import Path\nfrom tiny import TinyExpert\n"
        "class SlowExpert(TinyExpert):\n"
        "    def demonstrate(self, suite, episodes, on_step=None):\n"
        "        Path('pid').write_text(str(os.getpid()))\n        time.sleep(120)\n"
    )
    write_config(tmp_path, "base", expert="slow.SlowExpert")
    (tmp_path / "study.yaml").write_text("base: base.yaml\nbaseline: A\nstrategies: {A: {selector: RoundRobin}}\n")
    places = [str(tmp_path), *(place for place in sys.path if place)]
    command = [sys.executable, "-c", PARENT, "compare", "--config=study.yaml", "--output=out", "--seeds=0:1", *options]
    process = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join(places)})
    mark = tmp_path / "pid"
    wait_for(lambda: mark.exists() and mark.read_text() and process.poll() is None, 120)
    process.kill()
    process.wait()
    wait_for(lambda: gone(int(mark.read_text())), 20)
