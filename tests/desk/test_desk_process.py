"""`amf desk` as a process: who reaches it, how it ends, and what is left when it is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from amf_process import tree
from desk_process import ENVIRONMENT, Serving, serving, until
from tiny_recordings import save, shown

from amf_lightning.campaign.campaign import Campaign
from amf_lightning.command_line import desk
from amf_lightning.errors import InputError
from amf_lightning.selection.baselines import RoundRobin
from tiny import TinySuite


@pytest.fixture
def run(tmp_path: Path) -> Path:
    Campaign(tmp_path / "run", TinySuite(), RoundRobin(), seed=5).ask(1)
    return tmp_path / "run"


def post(there: Serving, path: str, content: bytes) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection("127.0.0.1", there.port, timeout=20)
    connection.request("POST", path, content, {"Origin": f"http://127.0.0.1:{there.port}"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def begun(there: Serving, content: bytes, size: int) -> socket.socket:
    """A recording of which part has been sent."""
    host = f"127.0.0.1:{there.port}"
    head = f"POST /recordings?name=a.npz HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
    head += f"Content-Length: {size}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", there.port))
    connection.sendall(head.encode() + content)
    return connection


def test_a_server_that_is_killed_in_mid_upload_has_added_nothing(run: Path, tmp_path: Path) -> None:
    request = Campaign(run).pending[0]
    content, before = save(tmp_path / "a.npz", shown(request.task_index)).read_bytes(), tree(run)
    large = 3 * 2**20
    with serving(run) as there, begun(there, content + b"\0" * large, len(content) + 2 * large):
        until(lambda: any(path.stat().st_size for path in (run / ".uploads").glob("*/a.npz")))
        there.end(signal.SIGKILL)
    left = tree(run)
    assert {name: left[name] for name in before} == before and any(name.endswith("a.npz") for name in left)
    with serving(run) as there:
        assert tree(run) == before | {".uploads": None}
        for words in ("answers request 0", "is there already"):
            code, answer = post(there, "/recordings?name=a.npz", content)
            assert code == 200 and words in answer["said"][0]
        # Who goes away in the middle leaves nothing either.
        with begun(there, content, 2 * len(content)):
            until(lambda: any((run / ".uploads").glob("*/a.npz")))
        until(lambda: not any((run / ".uploads").iterdir()))
        # Nor does an end in the middle, which waits for nobody for long.
        with begun(there, content, 2 * len(content)):
            until(lambda: any((run / ".uploads").glob("*/a.npz")))
            assert there.end(signal.SIGTERM) == 0
    assert not (run / ".uploads").exists() and Campaign(run).status().total.answered == 1


def test_ctrl_c_is_how_it_ends_and_one_desk_serves_a_run(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = tree(run)
    with serving(run) as there:
        with pytest.raises(InputError, match="Another `amf desk` serves"):
            desk.main([str(run), "--port", "0"])
        assert there.end(signal.SIGINT) == 0
    assert tree(run) == before and capfd.readouterr().err == ""


def test_beyond_this_machine_the_address_has_a_token(run: Path) -> None:
    with serving(run, "--host", "0.0.0.0") as there:
        token = there.url.partition("?token=")[2]
        assert len(token) >= 32
        connection = HTTPConnection("127.0.0.1", there.port, timeout=20)
        for path, code in (("/view", 401), ("/?token=x", 401), (f"/?token={token}", 303)):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == code
        connection.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "no.such.host.invalid"], "no name or address"),
        (["--host", "192.0.2.1"], "no address of this machine"),
        (["--port", "70000"], "between 0 and 65535"),
        (["--largest", "0"], "how many MiB"),
    ],
)
def test_where_nothing_can_listen_is_said(run: Path, options: list[str], message: str) -> None:
    before = tree(run)
    with pytest.raises(InputError, match=message):
        desk.main([str(run), "--port", "0", *options])
    assert tree(run) == before


def test_a_port_that_is_taken_and_a_folder_without_a_run_are_said(run: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="is taken"):
        desk.main([str(run), "--port", str(taken.getsockname()[1])])
    with pytest.raises(InputError, match="holds no run"):
        desk.main([str(tmp_path)])


@pytest.mark.parametrize("module", ["starlette", "uvicorn"])
def test_without_the_extra_a_line_says_what_to_install(run: Path, module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; import amf_lightning.command_line.main as amf; amf.main()"
    arguments = [sys.executable, "-c", code, "desk", str(run)]
    done = subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    [line] = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("amf: ") and "pip install 'amf-lightning[desk]'" in line
    assert not os.path.lexists(run / ".uploads")


def test_asking_for_help_imports_no_server(run: Path) -> None:
    code = (
        "import sys; from amf_lightning.command_line.main import main\n"
        "try: main(['desk', '--help'])\n"
        "except SystemExit as ended: assert not ended.code\n"
        "assert not {'starlette', 'uvicorn', 'anyio', 'torch', 'numpy.linalg', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--host" in done.stdout, done.stderr
