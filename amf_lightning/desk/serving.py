"""Serves the desk until it is told to end."""

import errno
import logging
import secrets
import shlex
import socket
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from amf_lightning.desk.application import Desk
from amf_lightning.desk.guard import TOKEN
from amf_lightning.desk.uploads import Uploads
from amf_lightning.errors import InputError

GRACE = 3
"""Seconds that answers under way have to end, once the server is asked to."""
_MOST_AT_ONCE = 200
"""Requests."""


def serve(
    run: Path,
    host: str,
    port: int,
    largest: int,
    by: str,
    refused: Callable[[BaseException, Path], str | None],
) -> None:
    """Prints the address and serves the page until SIGINT or SIGTERM.

    Args:
        run: folder of the run.
        host: name or address to listen at. Beyond this machine, the address that is printed has a token.
        port: to listen at; 0 for any that is free.
        largest: bytes of the largest file that is taken in.
        by: who answers, where a browser does not say.
        refused: see `Desk`.

    Raises:
        InputError: nothing can listen there, or another desk serves this run.
    """
    with Uploads(run, largest).opened() as uploads, _listening(host, port) as listening:
        address, port = listening.getsockname()[:2]
        token = None if ip_address(address.partition("%")[0]).is_loopback else secrets.token_urlsafe(24)
        print(f"The desk of {shlex.quote(str(run))} is at {_url(host, address, port, token)}", flush=True)
        print("Ctrl-C ends it. Nothing is lost by that.", flush=True)
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        config = uvicorn.Config(
            Desk(run, uploads, by, refused).application(token, port),
            access_log=False,
            h11_max_incomplete_event_size=2**16,
            http="h11",
            limit_concurrency=_MOST_AT_ONCE,
            lifespan="off",
            log_level="warning",
            loop="asyncio",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
            ws="none",
        )
        uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: there is no such host, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise InputError(f"--host is {host}, which is no name or address of this machine ({error}).") from error
    family, _, _, _, where = found[0]
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(where)
        listening.listen()  # from now on, as the address is told: who comes before the server is up waits for it
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"Port {port} of {host} is taken. Choose another with --port.") from error
        if error.errno == errno.EACCES:
            raise InputError(f"Port {port} may not be used by this user. Choose one above 1023 with --port.") from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise InputError(f"--host is {host}, which is no address of this machine.") from error
        raise
    return listening


def _url(host: str, address: str, port: int, token: str | None) -> str:
    """What to open in a browser."""
    name = socket.gethostname() if ip_address(address.partition("%")[0]).is_unspecified else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + (f"?{TOKEN}={token}" if token else "")


def _is_news(record: logging.LogRecord) -> bool:
    """Whether what uvicorn says is worth a line: uploads that are cut off by the end of the server are not."""
    return not record.getMessage().startswith("Cancel ")
