"""What a run asks for now, each request with its reason: read from its folder, without torch."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.prediction import Prediction, predictions_of
from amf_lightning.campaign.receiving import DESCRIPTION, described
from amf_lightning.campaign.request import Request
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.status import BY_HAND, FINISHED, RUNNING, STOPPED, RunStatus, ledger_to_read, read_status
from amf_lightning.tasks.start_state import StartState

if TYPE_CHECKING:  # it imports numpy, which a run that nobody has evaluated can do without
    from amf_lightning.campaign.outlook import Outlook


@dataclass(frozen=True)
class RunnerUp:
    """The task that came second in a choice."""

    task: str
    score: float


@dataclass(frozen=True)
class OpenRequest:
    """A request that waits for an answer."""

    number: int
    task: str
    round: int
    selector: str
    score: float
    """Of the task at the moment of the choice; NaN if the selector gives none."""
    runner_up: RunnerUp | None
    """None if no other task had a score."""
    why: str
    """One sentence."""
    seed: int
    """Of the episode's start, where a simulator makes one."""
    scores: dict[str, float]
    """Of all tasks."""
    diagnostics: dict[str, float]
    """What the selector said beside its choices in that round."""
    gain_is: str | None = None
    """What a score is, with its unit; None if the run does not say."""
    need: float | None = None
    """Of the task at the moment of the choice; None if the selector knows none."""
    need_is: str | None = None
    """What a need is, with its unit."""
    teaches: dict[str, float] = field(default_factory=dict)
    """Other tasks that it should teach most, with their shares of the score; empty if the selector does not say."""
    start: StartState | None = None
    """Which start to demonstrate; None if the selector does not say."""


@dataclass(frozen=True)
class Asked:
    """The open requests of a run, and how it stands."""

    status: RunStatus
    requests: tuple[OpenRequest, ...]
    """In order of number."""

    @property
    def then(self) -> str:
        """How to answer, and what happens once the open requests are answered, or has to happen if there is none."""
        answer = (
            f"Answer with: amf add {shlex.quote(self.status.folder)} FILE." if self.requests else "Nothing is open."
        )
        return f"{answer} {self.next_step}"

    @property
    def next_step(self) -> str:
        """What happens once the open requests are answered, or what has to happen now if there is none."""
        status, run = self.status, shlex.quote(self.status.folder)
        if status.state in (FINISHED, STOPPED):
            return f"The run is {status.state}: it asks for no more."
        if status.state == RUNNING:
            return "`amf fit` is at work there, and chooses what comes next."
        if status.state == BY_HAND:
            return "Your program chooses what comes next, with Campaign.ask."
        fit = f"amf fit --config {shlex.quote(f'{status.folder}/config.yaml')} --trainer.default_root_dir {run}"
        return f"{'Then it' if self.requests else 'It'} is for `amf fit` to train and to choose: {fit}"


def read_asked(path: Path) -> Asked:
    """What the run in a folder asks for. A process may be writing there.

    Raises:
        InputError: the folder holds no run, or one of its files is damaged.
    """
    status = read_status(path)
    with ledger_to_read(RunFolder(path)) as ledger:
        names = _names(ledger, status)
        diagnostics = {each.round: ledger.diagnostics(each.round) for each in status.campaign.pending}
        pending = [each.demonstration for each in status.campaign.pending]  # all others may be thousands
        predicted = predictions_of(ledger, pending)
    return Asked(
        status,
        tuple(
            _open(each, names, diagnostics[each.round], predicted.get(each.demonstration))
            for each in status.campaign.pending
        ),
    )


def ahead_of(status: RunStatus, tasks: Sequence[str]) -> "Outlook | None":
    """How many more the run, and these tasks, may need; None if nobody has evaluated it."""
    if status.score is None:
        return None
    from amf_lightning.campaign.outlook import read_outlook

    return read_outlook(Path(status.folder), only=tasks)


def sentences(request: OpenRequest, ahead: "Outlook | None") -> list[str]:
    """Why a request, where to start, what it should teach other tasks, and how many more of its task may be needed."""
    said = [request.why] if request.start is None else [request.why, str(request.start)]
    if request.teaches:
        shares = " and ".join(f"{name} ({share:.0%} of the score)" for name, share in request.teaches.items())
        said.append(f"It should also teach {shares}.")
    told = None if ahead is None else ahead.tasks.get(request.task)
    if ahead is not None and told is not None and told.own is not None:
        said.append(f"{request.task} may need {told.own[0]} to {told.own[1]} more of its own to {ahead.target:g}.")
    return said


def _open(
    request: Request, names: Sequence[str], diagnostics: dict[str, float], predicted: Prediction | None
) -> OpenRequest:
    score = request.scores[request.task_index]
    best = max(
        (
            (other, name)
            for name, other in zip(names, request.scores, strict=True)
            if name != request.task and other == other
        ),
        default=None,
    )
    return OpenRequest(
        number=request.demonstration,
        task=request.task,
        round=request.round,
        selector=request.selector,
        score=score,
        runner_up=None if best is None else RunnerUp(best[1], best[0]),
        why=_why(request.selector, score, best),
        seed=request.seed,
        scores=dict(zip(names, request.scores, strict=True)),
        diagnostics=diagnostics,
        **({} if predicted is None else _said(request, names, predicted)),
    )


def _said(request: Request, names: Sequence[str], predicted: Prediction) -> dict[str, Any]:
    """What the selector said of a request, as fields of an `OpenRequest`."""
    total = math.fsum(predicted.teaches)
    taught = predicted.others_taught(request.task_index)
    return {
        "gain_is": predicted.gain_is or None,
        "need": predicted.need,
        "need_is": predicted.need_is or None,
        "teaches": {names[index]: predicted.teaches[index] / total for index in taught},
        "start": predicted.start,
    }


def _why(selector: str, score: float, best: tuple[float, str] | None) -> str:
    if math.isnan(score):
        return f"{selector} chose it without giving tasks a score."
    if best is None:
        return f"{selector} gave it the score {score:.3g}; no other task could be chosen."
    second, name = best
    if second == score:
        return f"{selector} gave it the score {score:.3g}, as it did {name}."
    # A batch is chosen one by one, so that the last of it may be chosen for what it adds to the others.
    return f"{selector} gave it the score {score:.3g}, and {name} {second:.3g} as the runner-up."


def _names(ledger: Ledger, status: RunStatus) -> list[str]:
    """Names of all tasks, [K]; numbers for those that a ledger of an older version never mentions."""
    if ledger.fact(DESCRIPTION) is not None:
        return list(described(ledger).task_names)
    known = {index: task for _, _, task, index, _ in ledger.outline()}
    tasks = len(status.campaign.pending[0].scores) if status.campaign.pending else 0
    return [known.get(index, f"task {index}") for index in range(tasks)]
