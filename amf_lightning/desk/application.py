"""What the desk answers: its page, the view of the run, and the acts of the people at it."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from amf_lightning.campaign.at_the_robot import hand_over, skip, take_back, unheeded
from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.trying import check_entry, checked_report, is_there, suite_of, withdraw
from amf_lightning.campaign.unconfirmed import one_at_a_time
from amf_lightning.desk.guard import Guard
from amf_lightning.desk.pictures import check_number, start_picture
from amf_lightning.desk.presence import Presence
from amf_lightning.desk.uploads import TooLargeError, Uploads
from amf_lightning.desk.view import Viewer
from amf_lightning.desk.words import Words
from amf_lightning.errors import AmfError
from amf_lightning.evaluation.trial_reports import REPORTED, TrialReport, add_report

PAGE = Path(__file__).with_name("page")
_LARGEST_WORDS = 2**16
"""Bytes of what is said beside a recording."""


class Desk:
    """The desk of one run.

    Args:
        run: its folder.
        uploads: where files are taken in.
        by: who answers, where a browser does not say.
        refused: says what the machine refused; None if an error is not the machine's.
    """

    def __init__(
        self, run: Path, uploads: Uploads, by: str, refused: Callable[[BaseException, Path], str | None]
    ) -> None:
        self._run, self._uploads, self._by, self._refused = run, uploads, by, refused
        self._viewer, self._presence = Viewer(run), Presence(time.monotonic)
        # One at a time: an episode is in memory while it is checked, and the ledger takes one anyway.
        self._adding = CapacityLimiter(1)

    def application(self, token: str | None, port: int) -> ASGIApp:
        """The ASGI application, guarded."""
        routes = [
            Route("/", self._page, methods=["GET"]),
            Route("/page/{name}", self._page, methods=["GET"]),
            Route("/view", self._view, methods=["GET"]),
            Route("/start/{number}", self._start, methods=["GET"]),
            Route("/recordings", self._add, methods=["POST"]),
            Route("/skip", self._skip, methods=["POST"]),
            Route("/undo", self._undo, methods=["POST"]),
            Route("/trials", self._report, methods=["POST"]),
            Route("/trials/withdraw", self._withdraw, methods=["POST"]),
        ]
        handlers: Mapping[Any, Any] = {AmfError: self._unusable, OSError: self._unusable, Exception: self._unusable}
        return Guard(Starlette(routes=routes, exception_handlers=handlers), token, port)

    # -- what is shown ------------------------------------------------------------------------------------------------

    async def _page(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in await to_thread.run_sync(_page_files):
            return PlainTextResponse("There is no such page.\n", 404)
        return FileResponse(PAGE / name, headers={"cache-control": "no-cache"})

    async def _view(self, request: Request) -> Response:
        view = await to_thread.run_sync(self._viewer.view)
        said = request.query_params
        others = self._presence.others(said.get("desk", ""), said.get("by", ""), said.get("request", ""))
        shown = {**view, "others": others, "by": self._by, "largest": self._uploads.largest}
        return JSONResponse(shown, headers={"cache-control": "no-store"})

    async def _start(self, request: Request) -> Response:
        number = check_number(request.path_params["number"])
        picture = await to_thread.run_sync(start_picture, self._run, number)
        if picture is None:
            return PlainTextResponse("There is no picture.\n", 404)
        return Response(picture, media_type="image/png", headers={"cache-control": "no-cache"})

    # -- what is done -------------------------------------------------------------------------------------------------

    async def _add(self, request: Request) -> Response:
        """Takes a file in, then does what `amf add` does."""
        words = Words(request.query_params)
        name, number, task = words.text("name"), words.number("request"), words.text("task") or None
        self._uploads.check_size(int(request.headers.get("content-length") or 0))
        with self._uploads.place(name) as path:
            try:
                await self._uploads.write(path, request.stream())
            except ClientDisconnect:
                return Response(status_code=400)  # nobody is there to read it

            said: list[str] = []

            def add() -> None:
                with closing(_campaign(self._run)) as campaign:
                    for sentence in hand_over(campaign, path, number, task, self._who(words)):
                        said.append(sentence.replace(str(path), name))

            try:
                await to_thread.run_sync(add, limiter=self._adding)
            except (AmfError, OSError) as error:
                return self._answer(error, said, lambda text: text.replace(str(path), name))
        return _said([*said, *filter(None, [await to_thread.run_sync(unheeded, RunFolder(self._run))])])

    async def _skip(self, request: Request) -> Response:
        words = await _words(request)
        number, reason = words.required_number("request"), words.text("reason")

        def act(campaign: Campaign) -> str:
            return skip(campaign, number, reason, self._who(words))

        return _said([await self._do(act)])

    async def _undo(self, request: Request) -> Response:
        words = await _words(request)
        number = words.required_number("demonstration")
        return _said([await self._do(lambda campaign: take_back(campaign, number, self._who(words)))])

    async def _report(self, request: Request) -> Response:
        """One trial, as `amf score --success yes` or `no` says it."""
        words = await _words(request)
        reason, succeeded = words.text("reason"), words.flag("success")
        trial = TrialReport(
            demonstrations=words.required_number("policy"),
            task=words.text("task"),
            success=int(succeeded),
            episodes=1,
            by=self._who(words),
            reasons=(reason,) if reason else (),
        )
        # A page that heard no answer says the same again under the same name.
        entry, folder = check_entry(words.text("id")), RunFolder(self._run)

        def act() -> str:
            made = checked_report(folder, suite_of(folder), trial)
            with one_at_a_time(self._run):
                if is_there(folder, entry, made):
                    return f"Report {entry} is there already. Nothing was added."
                add_report(self._run / REPORTED, made, entry=entry)
            return f"Noted: {made.task} {'succeeded' if succeeded else 'failed'}{f': {reason}' * bool(reason)}."

        return _said([await to_thread.run_sync(act)])

    async def _withdraw(self, request: Request) -> Response:
        words = await _words(request)
        folder = RunFolder(self._run)

        def act() -> str:
            with one_at_a_time(self._run):
                return withdraw(folder, suite_of(folder), words.text("entry"), self._who(words))

        return _said([await to_thread.run_sync(act)])

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _do(self, act: Callable[[Campaign], str]) -> str:
        """Does something to the campaign, in a thread of its own with a connection of its own."""

        def done() -> str:
            with closing(_campaign(self._run)) as campaign:
                return act(campaign)

        return await to_thread.run_sync(done)

    def _who(self, words: Words) -> str:
        return words.text("by") or self._by

    async def _unusable(self, _: Request, error: Exception) -> Response:
        return self._answer(error)

    def _answer(
        self, error: Exception, said: Sequence[str] = (), named: Callable[[str], str] = lambda text: text
    ) -> Response:
        """What went wrong, in a sentence: of who asked, of the machine, or of this package."""
        code = 500
        line = f"This is a mistake of amf-lightning ({type(error).__name__}): see the terminal of `amf desk`."
        if isinstance(error, AmfError):
            code, line = 413 if isinstance(error, TooLargeError) else 422, str(error)
        elif says := self._refused(error, self._run):
            code, line = 507, says
        return JSONResponse({"said": list(said), "error": named(line)}, code)


class _Open(Campaign):
    """A campaign that ends with the block that it is used in."""

    def close(self) -> None:
        """Closes the ledger."""
        self.ledger.close()


def _campaign(run: Path) -> _Open:
    return _Open(run)


def _page_files() -> list[str]:
    return [each.name for each in PAGE.iterdir()]


def _said(sentences: list[str]) -> Response:
    return JSONResponse({"said": sentences})


async def _words(request: Request) -> Words:
    """What a page says in JSON."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > _LARGEST_WORDS:
            raise TooLargeError(f"More is said than {_LARGEST_WORDS >> 10} KiB. Say it in fewer words.")
    return Words.from_json(bytes(content))
