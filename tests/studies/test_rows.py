from pathlib import Path

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.evaluation.scores import Evaluation
from amf_lightning.studies.rows import read_run


def test_a_run_that_stopped_early_keeps_its_last_scores_up_to_the_budget(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    evaluations = [Evaluation(n, (n / 10, 0.0), (0.0, 0.0), (n / 10, 0.0), n / 20) for n in (0, 2, 4)]
    names = ["a", "b"]
    folder.write_curve(evaluations, names)
    folder.write_evaluation(evaluations[-1], names, budget=9)
    assert [row.demonstrations for row in read_run("s", 0, folder)[0].of("a")] == [0, 2, 4]
    folder.write_evaluation(evaluations[-1], names, budget=9, stopped="little was left")
    assert folder.stopped == "little was left"
    rows = read_run("s", 0, folder)[0].of("a")
    assert [(row.demonstrations, row.score) for row in rows] == [(0, 0.0), (2, 0.2), (4, 0.4), (9, 0.4)]
