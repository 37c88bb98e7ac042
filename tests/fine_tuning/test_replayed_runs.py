from collections.abc import Callable
from pathlib import Path

from tiny_runs import Run, assert_same_outcome


def test_it_finds_what_the_run_that_made_pi_zero_has_left(
    make_run: Callable[..., Run], pretrained: Path, tmp_path: Path
) -> None:
    """By itself the same run as with the folder named; away from it, it is refused before anything is written."""
    changes = {"selector": "Uniform", "active": {"budget": 2, "batch_size": 1}}
    found = make_run("found", {**changes, "retention": {"class_path": "ExperienceReplay"}}).complete()
    options = {"demonstrations": str(pretrained.parent / "demonstrations")}
    named = make_run("named", {**changes, "retention": {"class_path": "ExperienceReplay", "init_args": options}})
    assert_same_outcome(named.complete(), found)
    plain = make_run("plain", {**changes, "retention": {"class_path": "NoRetention"}}).complete()
    known = {run.path.name: [row.score for row in run.folder.read_curve()[-5:-3]] for run in (found, plain)}
    assert known["found"] != known["plain"]
    alone = tmp_path / "alone" / "policy.safetensors"
    alone.parent.mkdir()
    alone.write_bytes(pretrained.read_bytes())
    away = {"model": {"pretrained": str(alone)}, "retention": {"class_path": "ExperienceReplay"}}
    lost = make_run("lost", {**changes, **away})
    assert lost.finish() == 2 and not lost.path.exists()
    assert "but none lie beside the file of the pre-trained policy. Give it `demonstrations`" in lost.log.read_text()
