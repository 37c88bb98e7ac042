from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from selection_world import demonstrate

from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.experts.recorded import RecordedExpert
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinySuite

SUITE = TinySuite()


def record(folder: Path, tasks: Sequence[int]) -> list[Trajectory]:
    """Recordings of the tasks, with a gap in their numbers."""
    made = demonstrate(SUITE, tasks, seed=700)
    for number, trajectory in enumerate(made):
        DemonstrationStore(folder).write(number if number < 2 else number + 9, trajectory)
    return made


def test_the_nth_request_for_a_task_gets_its_nth_recording(tmp_path: Path) -> None:
    made = record(tmp_path, [2, 0, 2, 2])
    expert = RecordedExpert(str(tmp_path))
    wanted = [Episode(SUITE.tasks[2], 5, 1), Episode(SUITE.tasks[0], 6, 0), Episode(SUITE.tasks[2], 7, 2)]
    for found, expected in zip(expert.demonstrate(SUITE, wanted), (made[2], made[1], made[3]), strict=True):
        assert found.seed == expected.seed
        assert (found.actions == expected.actions).all()
    again = RecordedExpert(str(tmp_path)).demonstrate(SUITE, wanted[:1])
    assert again[0].seed == made[2].seed


def test_without_a_number_the_seed_decides(tmp_path: Path) -> None:
    made = record(tmp_path, [2, 2, 2])
    found = RecordedExpert(str(tmp_path)).demonstrate(SUITE, [Episode(SUITE.tasks[2], seed) for seed in (7, 9, 7)])
    assert [trajectory.seed for trajectory in found] == [made[1].seed, made[0].seed, made[1].seed]


def test_what_was_not_given_yet_remains(tmp_path: Path) -> None:
    record(tmp_path, [2, 0, 2, 2])
    expert = RecordedExpert(str(tmp_path))
    assert expert.remaining(SUITE, [0, 0, 0, 0]) == [1, 0, 3, 0]
    assert expert.remaining(SUITE, [1, 0, 2, 0]) == [0, 0, 1, 0]
    with pytest.raises(InputError, match=r"demonstration 2 of task 'goal=-1' was asked for, but .* holds 1"):
        expert.demonstrate(SUITE, [Episode(SUITE.tasks[0], 0, 1)])
    with pytest.raises(InputError, match="demonstration 1 of task 'goal=1'"):
        expert.demonstrate(SUITE, [Episode(SUITE.tasks[3], 0)])


def test_folders_and_recordings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no recorded demonstration"):
        RecordedExpert(str(tmp_path / "nothing"))
    [made] = record(tmp_path / "wide", [1])
    wide = replace(made, observations={"state": made.state.repeat(2, axis=1)})
    DemonstrationStore(tmp_path / "wide").write(0, wide)
    with pytest.raises(
        InputError,
        match=r"recording of task 'goal=-0.5' .*'state' are \[4\] float32, those of suite 'tiny' \[2\] float32",
    ):
        RecordedExpert(str(tmp_path / "wide")).remaining(SUITE, [0] * 4)
    DemonstrationStore(tmp_path / "other").write(0, replace(made, task="goal=2"))
    with pytest.raises(InputError, match="no task 'goal=2'"):
        RecordedExpert(str(tmp_path / "other")).demonstrate(SUITE, [])
    (tmp_path / "other" / "000000.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="truncated"):
        RecordedExpert(str(tmp_path / "other"))
