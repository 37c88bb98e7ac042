"""A campaign says which demonstrations to ask for, and takes the answers, microseconds or days later."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amf_lightning.campaign.campaign_status import CampaignStatus, status_of
from amf_lightning.campaign.learner import Learner
from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.receiving import DESCRIPTION, Received, checked, described, receive
from amf_lightning.campaign.request import Request
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.errors import InputError
from amf_lightning.tasks.description import SuiteDescription

if TYPE_CHECKING:  # who only reads a campaign needs no torch
    from torch import Tensor

    from amf_lightning.campaign.choice import Chosen
    from amf_lightning.campaign.history import History
    from amf_lightning.demonstrations.store import DemonstrationStore
    from amf_lightning.experts.expert import Expert
    from amf_lightning.selection.context import Selector
    from amf_lightning.tasks.task import Episode, TaskSuite
    from amf_lightning.tasks.trajectory import Trajectory


class Campaign:
    """Asks for demonstrations and is told of them. The ledger in its folder is the truth; nothing else is remembered.

    A request stays open until it is answered or skipped, over any number of processes and restarts, and the selector
    knows what is open when it chooses more. Several processes may use one campaign at the same time.

    Args:
        folder: of the run; it is created by the first request.
        suite: whose tasks are asked for. Reading needs none.
        selector: what chooses. Only `ask` needs one.
        seed: of the run: the same seed asks for the same demonstrations.
        expert: who is asked; its `remaining` limits the choice. None is an expert without end.

    Raises:
        InputError: the ledger in the folder cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        suite: "TaskSuite | None" = None,
        selector: "Selector | None" = None,
        *,
        seed: int = 0,
        expert: "Expert | None" = None,
    ) -> None:
        files = RunFolder(Path(folder))
        self.folder = files.path
        self.seed = seed
        self.expert = expert
        self.ledger = Ledger(files.ledger)
        self._suite = suite
        self._selector = selector
        self._demonstrations = files.demonstrations
        self._read: dict[str, Trajectory] = {}
        """Demonstrations that were read before, by SHA-256."""

    # -- asking -------------------------------------------------------------------------------------------------------

    def ask(self, n: int, learner: Learner | None = None) -> list[Request]:
        """What to demonstrate now: the requests that are open, and as many new ones as are missing to `n`.

        Asking again gives the same requests until they are answered. New ones are on the disk before this returns.

        Args:
            n: requests that should be open.
            learner: what the selector may look at; selectors like `RoundRobin` need none.

        Returns:
            `n` requests, or fewer if the expert has no more demonstrations.

        Raises:
            InputError: the campaign has no selector, or the selector cannot choose.
        """
        while True:  # once more for each time that another process has asked meanwhile
            pending = self.pending
            if len(pending) >= n:
                return pending[: max(0, n)]
            requests, diagnostics, predicted = self._choose(n - len(pending), pending, learner)
            if not requests:
                return pending
            facts = {DESCRIPTION: SuiteDescription.of(self.suite).to_json()}
            if self.ledger.ask(requests, diagnostics, facts, predicted):
                return [*pending, *requests]

    def gaps(self, learner: Learner) -> "Tensor | None":
        """See `Selector.gaps`. The rollouts stay with the learner."""
        from amf_lightning.campaign.choice import inferred_gaps

        return inferred_gaps(self.suite, self._chooses, self._history(self.pending), learner, self.seed)

    @property
    def pending(self) -> list[Request]:
        """Requests that are neither answered nor skipped, in order of number."""
        return self.ledger.pending()

    def episodes(self, requests: Sequence[Request]) -> list["Episode"]:
        """What an expert is asked for, in the order of the requests; each is numbered among those of its task."""
        from amf_lightning.campaign.collection import episodes_of

        episodes = episodes_of(self.ledger.jobs(), self.suite)
        return [episodes[request.demonstration] for request in requests]

    def exhausted(self) -> bool:
        """Whether the expert has no demonstration left of any task, once the open requests are answered."""
        return self.expert is not None and not any(self._remaining(self.ledger.jobs()) or ())

    # -- being told ---------------------------------------------------------------------------------------------------

    def tell(self, request: Request | int, trajectory: "Trajectory") -> str:
        """Keeps the answer to a request, durably, and counts it. Telling the same twice is the same as once.

        Args:
            request: or its number.
            trajectory: the demonstration.

        Returns:
            SHA-256 of its file.

        Raises:
            InputError: there is no such request, it is skipped, another answer is recorded, or the demonstration does
                not fit the suite or the task. Nothing is kept then.
        """
        number = request.demonstration if isinstance(request, Request) else request
        trajectory = checked(self.suite, self._request(number).task, trajectory)
        store = self._store
        sha256 = store.digest(number, trajectory)
        self.ledger.record(number, sha256, write=lambda: store.write(number, trajectory))
        return sha256

    def tell_unasked(self, trajectory: "Trajectory") -> Request:
        """Keeps a demonstration that nobody asked for, and counts it like any other, under the next number.

        Raises:
            InputError: it does not fit the suite, or is of a task that the suite lacks.
        """
        suite, store = self.suite, self._store
        task = suite.task(trajectory.task)
        seed = 0 if trajectory.seed is None else trajectory.seed  # nothing reads the seed of what is there
        trajectory = checked(suite, task.name, trajectory)
        number = self.ledger.record_unasked(
            task.name, task.index, len(suite.tasks), seed, lambda number: store.write(number, trajectory)
        )
        return self._request(number)

    def receive(self, trajectory: "Trajectory", request: int | None = None, by: str = "") -> Received:
        """Keeps a recording, for the open request that it answers or for none; the same one twice is once.

        It answers the request that is named if that is of its task; if none is named, the oldest open one of its task.
        Else it counts as one that nobody asked for.

        Args:
            trajectory: the recording.
            request: number of the request that it is meant for.
            by: who hands it over.

        Raises:
            InputError: it does not fit the suite, or the request is not open. Nothing is kept then.
        """
        return receive(self.ledger, self._store, self.description, trajectory, request, by)

    def skip(self, request: Request | int, reason: str, by: str = "") -> None:
        """Notes that a request will not be answered, and why. The next `ask` makes up for it.

        Raises:
            InputError: there is no such request, or it is answered.
        """
        number = request.demonstration if isinstance(request, Request) else request
        self.ledger.skip(self._request(number).demonstration, reason, by)

    def undo(self, request: Request | int, by: str = "") -> None:
        """Takes back an answer that was not trained on, or a skip; the request is then open again.

        Raises:
            InputError: there is nothing to take back, or the answer was handed to training.
        """
        number = request.demonstration if isinstance(request, Request) else request
        self.ledger.undo(self._request(number).demonstration, by)

    # -- rounds -------------------------------------------------------------------------------------------------------

    @property
    def open_round(self) -> int:
        """The round that takes what comes now, from 0."""
        return self.ledger.open_round()

    def close_round(self) -> list["Trajectory"]:
        """Ends the open round: what came in it is handed to training and can no longer be taken back.

        Requests that are still open stay so; their answers count in the round in which they come.

        Returns:
            The demonstrations of the round, in order of number.

        Raises:
            InputError: none came.
        """
        number = self.open_round
        self.ledger.close_round(number)
        return self.read(self.arrived(since=number, before=number + 1))

    def arrived(self, *, since: int = 0, before: int | None = None) -> list[Request]:
        """The requests whose answers came in the rounds from `since` on and before `before`; unasked ones included.

        Returns:
            The requests in the order in which their demonstrations are trained on: by round, then by number.
        """
        requests = {request.demonstration: request for request in self.ledger.jobs()}
        return [
            requests[number]
            for number, came in self.ledger.arrivals().items()
            if came >= since and (before is None or came < before)
        ]

    def read(self, requests: Sequence[Request]) -> list["Trajectory"]:
        """The answers to requests, from their files.

        Raises:
            InputError: one is not answered, or its file is missing or damaged.
        """
        recorded, store = self.ledger.recorded(), self._store
        for request in requests:
            if (number := request.demonstration) not in recorded:
                raise InputError(f"Demonstration {number} of {self.folder} has no answer yet. See Campaign.pending.")
            if recorded[number] not in self._read:
                self._read[recorded[number]] = store.read(number, recorded[number], request.task)
        return [self._read[recorded[request.demonstration]] for request in requests]

    def status(self) -> CampaignStatus:
        """How many were asked for, answered, skipped, open and told without a request, in all and of each task."""
        return status_of(self.ledger)

    @property
    def description(self) -> SuiteDescription:
        """Tasks, observations and actions, as the ledger has them from the last time that anything was asked for.

        Raises:
            InputError: it does not say them.
        """
        return described(self.ledger) if self._suite is None else SuiteDescription.of(self._suite)

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def suite(self) -> "TaskSuite":
        """The suite whose tasks are asked for.

        Raises:
            InputError: the campaign was made for reading alone.
        """
        if self._suite is None:
            raise InputError(
                "This campaign was made for reading alone. Give it a suite: Campaign(folder, suite, selector)."
            )
        return self._suite

    @property
    def _store(self) -> "DemonstrationStore":
        from amf_lightning.demonstrations.store import DemonstrationStore

        return DemonstrationStore(self._demonstrations)

    def _request(self, number: int) -> Request:
        if (request := self.ledger.request(number)) is not None:
            return request
        raise InputError(f"{self.folder} has no request {number}. See Campaign.pending for those that are open.")

    def _choose(self, n: int, pending: Sequence[Request], learner: Learner | None) -> "Chosen":
        from amf_lightning.campaign.choice import choose

        history, waiting = self._history(pending), {each.demonstration for each in pending}
        remaining = self._remaining([request for request in history.requests if request.demonstration not in waiting])
        return choose(n, self.suite, self._chooses, history, learner, remaining, self.seed)

    @property
    def _chooses(self) -> "Selector":
        if self._selector is None:
            raise InputError("This campaign has no selector to ask: Campaign(folder, suite, selector).")
        return self._selector

    def _history(self, pending: Sequence[Request]) -> "History":
        from amf_lightning.campaign.history import history_of

        return history_of(self.ledger, pending, self.arrived(), self.read)

    def _remaining(self, requests: Sequence[Request]) -> tuple[float, ...] | None:
        """Demonstrations of each task that the expert can still give after these, [K]; None if there is no end."""
        if self.expert is None:
            return None
        from amf_lightning.experts.checked import remaining_of

        tasks = [request.task_index for request in requests]
        return remaining_of(self.expert, self.suite, [tasks.count(task.index) for task in self.suite.tasks])
