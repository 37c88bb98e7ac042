"""The soak finds what is planted, repeats a case by its name, and says what became of all."""

import random
import sqlite3
from pathlib import Path

import pytest

from amf_lightning.errors import InputError
from soak.case import Bench, Kind
from soak.command import chosen, next_case, parse, run_case, table
from soak.damage import DAMAGES, Damage
from soak.fuzzed import agrees, damaged_text, keys_of, value_at, with_value, without
from soak.killed import Watched
from soak.lost import Lost, check
from soak.program import Ending, check_refused, check_signalled
from soak.world import World


def test_a_case_that_is_lost_keeps_its_folder_and_says_why(tmp_path: Path) -> None:
    def losing(bench: Bench) -> None:
        bench.note("tried something")
        bench.kills += 1
        check(False, "an answer is gone")

    result = run_case(Kind("planted", losing), "planted/3", World(tmp_path / "world"), tmp_path, parse([]))
    assert (result.lost, result.kills) == ("an answer is gone", 1)
    assert (tmp_path / "planted-3" / "notes.txt").read_text() == "tried something\n"
    assert table([result]).splitlines()[-1].split()[:5] == ["all", "1", "0", "1", "1"]


def test_a_case_that_survives_leaves_nothing_and_one_that_takes_long_is_lost(tmp_path: Path) -> None:
    kind, world = Kind("quick", lambda bench: None), World(tmp_path / "world")
    assert run_case(kind, "quick/0", world, tmp_path, parse([])).lost is None
    assert not any(tmp_path.glob("quick*"))
    assert "it took" in str(run_case(kind, "quick/1", world, tmp_path, parse(["--limit=0"])).lost)


def test_a_case_draws_from_its_name_and_the_seed_alone(tmp_path: Path) -> None:
    drawn: list[float] = []
    kind = Kind("drawing", lambda bench: drawn.append(bench.draw.random()))
    for name, seed in (("drawing/1", 0), ("drawing/1", 0), ("drawing/2", 0), ("drawing/1", 1)):
        run_case(kind, name, World(tmp_path / "world"), tmp_path, parse([f"--seed={seed}"]))
    assert drawn[0] == drawn[1] and len(set(drawn)) == 3


def test_every_kind_has_its_turn_and_a_named_case_is_run_alone() -> None:
    cases = chosen(None)
    first = [next(cases)[1] for _ in range(40)]
    assert {name.partition("/")[0] for name in first} >= {"fit", "damaged", "fuzzed", "ddp", "study", "crowd"}
    assert len(set(first)) == 40
    assert [name for _, name in chosen(["fit/7", "damaged/12"])] == ["fit/7", "damaged/12"]
    with pytest.raises(SystemExit, match="no case 'fitt/7'"):
        list(chosen(["fitt/7"]))


def test_until_enough_was_tried_only_what_is_missing_is_tried() -> None:
    options = parse(["--kills=0", "--inputs=5"])
    for _ in range(30):
        case = next_case(chosen(None), options, [], begin=0.0)
        assert case is not None and case[0].inputs


GOES_ON = "amf: interrupted. Run the same command to go on.\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [(0, GOES_ON), (143, ""), (143, GOES_ON + GOES_ON), (143, f"{GOES_ON}Traceback (most recent call last):"), (1, "")],
)
def test_an_ending_that_is_none_of_a_signal_is_found(code: int, said: str) -> None:
    with pytest.raises(Lost):
        check_signalled(Ending(code, said, 1.0), 15)
    check_signalled(Ending(143, GOES_ON, 1.0), 15)


@pytest.mark.parametrize(("code", "said"), [(2, ""), (2, "amf: x\namf: y"), (70, "amf: x"), (2, "amf: x\nTraceback")])
def test_a_refusal_that_is_none_is_found(code: int, said: str) -> None:
    with pytest.raises(Lost):
        check_refused(Ending(code, said, 1.0), 2)
    check_refused(Ending(2, "Reading\namf: x\n", 1.0), 2)


@pytest.mark.parametrize("harm", ["DELETE FROM recorded", "UPDATE jobs SET seed = seed + 1", "again"])
def test_what_is_lost_from_a_ledger_or_asked_for_again_is_found(tmp_path: Path, harm: str) -> None:
    from tiny_runs import Run

    from amf_lightning.campaign.campaign import Campaign
    from amf_lightning.selection.baselines import RoundRobin
    from soak.parts import NotingExpert
    from soak.waiting import suite

    run, expert = Run(tmp_path / "run", {}), NotingExpert(str(tmp_path / "asked.txt"))
    campaign = Campaign(run.path, suite(), RoundRobin())
    [request] = campaign.ask(1)
    [shown] = expert.demonstrate(suite(), campaign.episodes([request]))
    campaign.tell(request, shown)
    watched = Watched(run)
    watched.check()
    watched.check()
    if harm == "again":
        expert.demonstrate(suite(), campaign.episodes([request]))
    else:
        with sqlite3.connect(run.folder.ledger) as connection:
            connection.execute(harm)
    with pytest.raises((Lost, InputError)):  # the ledger itself notices what was done behind its back
        watched.check()


@pytest.mark.parametrize("damage", dict.fromkeys(DAMAGES), ids=lambda damage: damage.__name__)
def test_a_damage_is_one_and_the_same_for_the_same_draw(tmp_path: Path, damage: Damage) -> None:
    def damaged(name: str) -> bytes | str:
        path = tmp_path / name / "evaluation.json"
        path.parent.mkdir()
        path.write_text('{"tasks": {}}\n')
        damage(path, random.Random(3))
        return path.read_bytes() if path.is_file() else str(path.is_symlink())

    first = damaged("first")
    assert first == damaged("second") and first != b'{"tasks": {}}\n'


def test_a_configuration_that_is_read_as_something_else_is_found() -> None:
    assert agrees(8, 8.0) and agrees("8", 8) and agrees("RoundRobin", {"class_path": "a.b.RoundRobin", "init_args": {}})
    assert agrees({"hidden": [8]}, {"hidden": [8], "more": 1}) and agrees(None, 3)
    assert not agrees([1], {"batch_size": 8}) and not agrees(True, {"batch_size": 8}) and not agrees(-1, {"x": 1})
    assert not agrees(True, 1) and not agrees([8], [8, 8]) and not agrees("x", "y")


def test_keys_are_set_and_taken_out_where_they_lie() -> None:
    config = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert keys_of(config) == ["a", "a.b", "a.c", "a.c.d", "e"]
    assert value_at(with_value(config, "a.c.d", 5), "a.c.d") == 5 and value_at(with_value(config, "x.y", 1), "x.y") == 1
    assert without(config, "a.c") == {"a": {"b": 1}, "e": 3} and value_at(config, "a.c.d") == 2
    assert damaged_text("a: 1\nb: 2\n", "twice", 1, "") == "a: 1\nb: 2\nb: 2\n"
