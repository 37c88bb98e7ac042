"""Who may talk to the desk: pages of its own alone, and beyond this machine only who knows the token."""

import hmac
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "token"
"""The parameter of the address that carries it, once; from then on a cookie does."""
_READS = ("GET", "HEAD")
_WEEK = 7 * 24 * 3600
_HEADERS = {
    # Nothing from elsewhere, nothing within another page, and no script that is not a file of ours.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Lets requests through that come from a page of the desk, and adds to each answer what browsers are to heed.

    The name that a request is for must be one of this machine to itself, if there is no token: a page from elsewhere
    whose name is made to mean this machine (DNS rebinding) says its own. What a request says of the page that it comes
    from must be this server, and what changes anything has to say it: pages from elsewhere (CSRF) cannot.

    Args:
        app: what is guarded.
        token: what a request has to know; None where only this machine can reach the server.
        port: of the server, for the name of the cookie: cookies are told apart by host alone.
    """

    def __init__(self, app: ASGIApp, token: str | None, port: int) -> None:
        self._app, self._token, self._cookie = app, token, f"amf-desk-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or refuses to."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # nothing here talks by WebSocket

        async def heeded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await (self._instead(scope) or self._app)(scope, receive, heeded)

    def _instead(self, scope: Scope) -> Response | None:
        """What is answered in the place of the page."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._token is None and not is_of_this_machine(host):
            return PlainTextResponse("This server answers to localhost and 127.0.0.1 alone.\n", 403)
        if origin is None and scope["method"] not in _READS:
            return PlainTextResponse("What changes something must say which page it comes from.\n", 403)
        if origin is not None and (not host or urlsplit(origin).netloc.lower() != host.lower()):
            return PlainTextResponse("This comes from a page of another server.\n", 403)
        if self._token is None:
            return None
        request = Request(scope)
        given = QueryParams(scope["query_string"]).get(TOKEN)
        if given is None:
            given, is_new = request.cookies.get(self._cookie, ""), False
        else:
            is_new = True
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return PlainTextResponse("Open the address that `amf desk` printed, with its token.\n", 401)
        if is_new and scope["method"] in _READS:  # takes it out of the address, which is seen and shared
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self._cookie, self._token, max_age=_WEEK, httponly=True, samesite="lax")
            return answer
        return None


def is_of_this_machine(host: str) -> bool:
    """Whether a `Host` header, whose port may be another through a tunnel, is this machine's name for itself."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
