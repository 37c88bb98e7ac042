"""docs/your-robot.md, from the empty folder to the fifth round."""

import json
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from amf_process import amf
from test_docs import NAMED, SMALL, blocks, python

from amf_lightning.campaign.curve import MEAN
from amf_lightning.campaign.run_folder import RunFolder

PAGE = "your-robot.md"
WAITING = 75
FEW = (*SMALL, "--data.steps_per_round=10")


@pytest.mark.parametrize("rounds", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_a_lab_without_a_simulator_plays_five_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rounds: int
) -> None:
    options = (*FEW, f"--active.budget={2 * rounds}")
    monkeypatch.chdir(tmp_path)
    for text in [*blocks(PAGE, "python"), *blocks(PAGE, "yaml")]:
        named = NAMED.match(text)
        assert named is not None
        (tmp_path / named[1]).write_text(text)
    fit, show, record, add, score = (
        shlex.split(line)[1:] for text in blocks(PAGE, "bash") for line in text.splitlines()
    )

    def type_(words: list[str], task: str = "", *further: str, code: int = 0) -> str:
        command, *arguments = [*(word.replace("TASK", task) for word in words), *further]
        if command == "fit":
            outcome = amf(command, *arguments, cwd=tmp_path)
            assert outcome.code == code, outcome.said
            return outcome.stdout
        import_module(f"amf_lightning.command_line.{command}").main(arguments)  # quicker than a process
        return capsys.readouterr().out

    assert "amf add runs/robot" in type_(fit, "", *options, code=WAITING)
    asked = []
    for number in range(rounds):
        requests = json.loads(type_(show, "", "--json"))["requests"]
        assert len(requests) == 2 and f"{requests[0]['number']}  {requests[0]['task']}" in type_(show)
        for request in requests:
            python(*(word.replace("TASK", request["task"]) for word in record), cwd=tmp_path)
            assert f"answers request {request['number']}" in type_(add)
            asked.append(request["task"])
        if number in (0, rounds - 1):
            type_(fit, "", *options, code=0 if number == rounds - 1 else WAITING)
            said = [type_(score, task) for task in ("left", "right", "up")][-1]
            assert "7 of 10  [0.39, 0.91]" in said and "more trials, not more demonstrations" in said
        else:
            type_(fit, "", *options, code=WAITING)
    type_(fit, "", *options)
    run = RunFolder(tmp_path / "runs" / "robot")
    assert [request.task for request in run.read_selections()] == asked and len(set(asked)) == 3
    assert [(row.demonstrations, row.score) for row in run.read_curve() if row.task == MEAN] == [
        (2, 0.7),
        (2 * rounds, 0.7),
    ]
    report = run.report.read_text()
    assert "How sure the success rates are" in report and "[0.39, 0.91]" in report and "slipped (1×)" in report
    assert "asks for no more" in type_(show)
