"""Lines and files of JSON in which a bit was flipped that leaves them valid: never read as something else."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from ready_runs import write_run

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.errors import InputError
from amf_lightning.evaluation.evaluators import read_reports
from amf_lightning.evaluation.journal import EvaluationJournal
from amf_lightning.hashed_json import hashed, unhashed
from amf_lightning.simulation.outcomes import EpisodeResult
from amf_lightning.studies.archive import Archive
from amf_lightning.studies.plan import Run
from amf_lightning.tasks.task import Episode
from tiny import TinySuite

SUITE = TinySuite()
EPISODES = [Episode(task, 7 + task.index) for task in SUITE.tasks]


def flipped(whole: bytes) -> Iterator[bytes]:
    """The bytes with one bit flipped in each of them in turn; a digit becomes another digit."""
    random = Random(0)
    for place, byte in enumerate(whole):
        content = bytearray(whole)
        content[place] ^= 1 if chr(byte).isdigit() else 1 << random.randrange(8)
        yield bytes(content)


def journal(folder: Path) -> Path:
    kept = EvaluationJournal(folder / "evaluated.jsonl", "abc")
    kept.keep({(0, episode): EpisodeResult(-4.25, True, None, True) for episode in EPISODES[:2]})
    return kept.path


def answers(folder: Path) -> Path:
    path = folder / "outcomes.jsonl"
    trial = {"demonstrations": 6, "task": "goal=1", "success": 7, "episodes": 10}
    path.write_text(json.dumps(hashed(trial)) + "\n")
    return path


def facts(folder: Path) -> Path:
    write_run(folder / "run", "Uniform", 0)
    RunFolder(folder / "run").seal(4)
    return folder / "run" / "evaluation.json"


def archive(folder: Path) -> Path:
    run = folder / "runs" / "Uniform" / "seed-0"
    made = Run("Uniform", 0, run, run, 4, ("amf",), {"rho": 0.1})
    write_run(run, "Uniform", 0)
    made.begin()
    made.note_process(1.5, "0.3")
    kept = Archive(folder, ["Uniform"])
    kept.add(made)
    kept.write()
    return folder / "runs.jsonl"


def kept_results(path: Path) -> list[EpisodeResult | None]:
    return [EvaluationJournal(path, "abc").result(0, episode) for episode in EPISODES[:2]]


def known_facts(path: Path) -> object:
    """Those that are read by their names: what a flip in the name of the hash leaves is no fact."""
    return {name: fact for name, fact in RunFolder(path.parent).read_facts().items() if "curve.csv" not in str(fact)}


READERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "answers": (answers, lambda path: read_reports(path, SUITE)),
    "facts of a run": (facts, known_facts),
    "runs of a study": (archive, lambda path: Archive(path.parent, ["Uniform"]).entries),
}


@pytest.mark.parametrize(("make", "read"), READERS.values(), ids=READERS)
def test_a_flipped_bit_is_refused_by_name_or_changes_nothing(
    make: Callable[[Path], Path], read: Callable[[Path], object], tmp_path: Path
) -> None:
    path = make(tmp_path)
    whole, expected = path.read_bytes(), read(path)
    for content in flipped(whole):
        path.write_bytes(content)
        try:
            assert read(path) == expected, content
        except InputError as error:
            assert path.name in str(error) and "\n" not in str(error), error


def test_an_episode_whose_line_was_changed_is_run_again(tmp_path: Path) -> None:
    path = journal(tmp_path)
    whole, expected = path.read_bytes(), kept_results(path)
    for content in flipped(whole):
        path.write_bytes(content)
        assert all(read in (None, kept) for read, kept in zip(kept_results(path), expected, strict=True)), content


def test_what_people_type_and_earlier_versions_wrote_is_believed(tmp_path: Path) -> None:
    assert unhashed({"success": 7}) == {"success": 7}
    for make, read in READERS.values():
        path = make(tmp_path)
        expected = read(path)
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        contents = [json.loads(line) for line in lines]
        path.write_text("".join(json.dumps({k: v for k, v in c.items() if k != "sha256"}) + "\n" for c in contents))
        read_again = read(path)
        assert read_again == expected or path.suffix == ".json", "the hashes of the tables are gone, too"


def test_who_formats_a_line_anew_changes_nothing() -> None:
    line = hashed({"task": "grün", "scores": (0.1, None), "by": {"b": 1, "a": 2}})
    again = json.loads(json.dumps(dict(reversed(line.items())), indent=1, ensure_ascii=False))
    assert unhashed(again) == {"task": "grün", "scores": [0.1, None], "by": {"b": 1, "a": 2}}
