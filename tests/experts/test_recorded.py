from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from amf_process import amf, write_config
from selection_world import demonstrate

from amf_lightning.demonstrations.store import DemonstrationStore, fingerprint
from amf_lightning.errors import InputError
from amf_lightning.experts.limited import LimitedExpert
from amf_lightning.experts.recorded import RecordedExpert
from amf_lightning.policies.weights import load_policy
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
        match=r"recording of task 'goal=-0.5', .*'state' are \[4\] float32, those of suite 'tiny' \[2\] float32",
    ):
        RecordedExpert(str(tmp_path / "wide")).remaining(SUITE, [0] * 4)
    DemonstrationStore(tmp_path / "other").write(0, replace(made, task="goal=2"))
    with pytest.raises(InputError, match="no task 'goal=2'"):
        RecordedExpert(str(tmp_path / "other")).demonstrate(SUITE, [])
    (tmp_path / "other" / "000000.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="truncated"):
        RecordedExpert(str(tmp_path / "other"))


def test_all_that_is_wrong_is_said_before_anything_is_given(tmp_path: Path) -> None:
    """What comes third, and what comes last, is found at once."""
    made = record(tmp_path, [0, 1, 2, 3])
    store = DemonstrationStore(tmp_path)
    store.write(1, replace(made[1], actions=made[1].actions * 30))
    store.write(11, replace(made[2], task="goal=7"))
    store.write(12, replace(made[3], observations={"state": made[3].state[:, :1]}))
    with pytest.raises(InputError) as refused:
        RecordedExpert(str(tmp_path)).remaining(SUITE, [0] * 4)
    said = str(refused.value)
    assert "3 of 4 recordings" in said and said.count("\n") == 0
    assert "000001.safetensors, a recording of task 'goal=-0.5', does not fit: its actions reach 30" in said
    assert "000011.safetensors" in said and "no task 'goal=7'" in said
    assert "000012.safetensors" in said and "[1] float32" in said
    for number in (20, 21, 22):
        store.path(number).write_bytes(b"x")
    with pytest.raises(InputError, match=r"3 of 7 recordings .*/000020\.safetensors.*/000022\.safetensors"):
        RecordedExpert(str(tmp_path))


def test_failures_are_left_out_unless_they_are_asked_for(tmp_path: Path) -> None:
    made = record(tmp_path, [2, 0, 2, 2])
    for number, trajectory in ((0, made[0]), (12, made[3])):
        DemonstrationStore(tmp_path).write(number, replace(trajectory, success=False))
    DemonstrationStore(tmp_path).write(1, replace(made[1], success=None))  # nobody said so: not a failure
    with pytest.warns(UserWarning, match="2 of 4 recordings in .* say that they failed and are left out; with inc"):
        expert = RecordedExpert(str(tmp_path))
    assert expert.remaining(SUITE, [0] * 4) == [1, 0, 1, 0]
    (first,) = expert.demonstrate(SUITE, [Episode(SUITE.tasks[2], 0, 0)])
    assert first.seed == made[2].seed
    assert RecordedExpert(str(tmp_path), include_failures=True).remaining(SUITE, [0] * 4) == [1, 0, 3, 0]
    for number, trajectory in zip((0, 1, 11, 12), made, strict=True):
        DemonstrationStore(tmp_path).write(number, replace(trajectory, success=False))
    with pytest.raises(InputError, match=r"all 4 recordings in .* failed.* include_failures"):
        RecordedExpert(str(tmp_path))


def test_what_the_policy_was_trained_on_is_not_given_again(tmp_path: Path) -> None:
    made = record(tmp_path, [2, 0, 2, 2])
    known = {fingerprint(made[0]), fingerprint(made[2]), "0123456789abcdef"}
    expert = LimitedExpert(RecordedExpert(str(tmp_path)), {})
    with pytest.warns(UserWarning, match=r"2 of 4 recordings in .* model\.pretrained was trained on .* include_known"):
        expert.leave_out(SUITE, known)
    assert expert.remaining(SUITE, [0] * 4) == [1, 0, 1, 0]
    (shown,) = expert.demonstrate(SUITE, [Episode(SUITE.tasks[2], 0, 0)])
    assert shown is not None and shown.seed == made[3].seed
    again = RecordedExpert(str(tmp_path), include_known=True)
    again.leave_out(SUITE, known)
    assert again.remaining(SUITE, [0] * 4) == [1, 0, 3, 0]
    with pytest.raises(InputError, match="was trained on all 4 recordings"):
        RecordedExpert(str(tmp_path)).leave_out(SUITE, {fingerprint(trajectory) for trajectory in made})


def test_a_recording_is_known_by_what_it_holds(tmp_path: Path) -> None:
    """Not by its number, its folder or the precision of its numbers, which a run changes."""
    made = record(tmp_path, [2, 0])
    (tmp_path / "run").mkdir()
    DemonstrationStore(tmp_path / "run").write(7, made[0])
    assert fingerprint(DemonstrationStore(tmp_path / "run").read(7)) == fingerprint(made[0]) != fingerprint(made[1])
    double = replace(made[0], observations={"state": made[0].state.astype("float64")})
    DemonstrationStore(tmp_path).write(0, double)
    expert = RecordedExpert(str(tmp_path))
    with pytest.warns(UserWarning, match="1 of 2 recordings"):
        expert.leave_out(SUITE, {fingerprint(made[0])})


def test_a_run_remembers_its_recordings_in_its_policy(tmp_path: Path) -> None:
    """Two runs, one after the other, over one folder: the second goes on where the first stopped."""
    record(tmp_path / "recordings", [0, 0, 1, 1, 2, 3])
    recorded = {"class_path": "RecordedExpert", "init_args": {"folder": "recordings"}}
    write_config(tmp_path, expert=recorded)
    first = amf("fit", "--config=tiny.yaml", "--active.budget=4", "--trainer.default_root_dir=first", cwd=tmp_path)
    assert first.code == 0, first.said
    policy = "first/policy.safetensors"
    known = load_policy(str(tmp_path / policy)).demonstrations
    assert len(known) == 4
    options = ("--config=tiny.yaml", f"--model.pretrained={policy}", "--active.budget=2")
    second = amf("fit", *options, "--trainer.default_root_dir=second", cwd=tmp_path)
    assert second.code == 0 and "4 of 6 recordings" in second.stderr, second.said
    given = DemonstrationStore(tmp_path / "second" / "demonstrations").read_all()
    assert len(given) == 2 and not known & {fingerprint(trajectory) for trajectory in given}
    every = load_policy(str(tmp_path / "second" / "policy.safetensors")).demonstrations
    assert known < every and len(every) == 6, "what π0 had seen, and what it saw itself"
    third = amf(
        "fit", *options, "--model.pretrained=second/policy.safetensors", "--trainer.default_root_dir=t", cwd=tmp_path
    )
    assert third.code == 2 and "was trained on all 6 recordings" in third.stderr, third.said
