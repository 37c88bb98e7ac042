"""What `amf desk` answers: it does what the commands do, for pages of its own, and takes nothing half."""

import errno
import io
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amf_process import tree
from PIL import Image
from starlette.testclient import TestClient
from tiny_recordings import save, shown

from amf_lightning.campaign.asked import read_asked, sentences
from amf_lightning.campaign.campaign import Campaign
from amf_lightning.command_line.machine import refused
from amf_lightning.desk.application import Desk
from amf_lightning.desk.presence import Presence
from amf_lightning.desk.uploads import LARGEST, Uploads, check_name
from amf_lightning.errors import InputError
from amf_lightning.selection.baselines import RoundRobin
from amf_lightning.suites.static import StaticSuite
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinySuite

SUITE = TinySuite()
HERE = "http://localhost:8470"
TOKEN = "correct-horse"


def served(run: Path, token: str | None = None, largest: int = LARGEST) -> Iterator[TestClient]:
    with Uploads(run, largest).opened() as uploads:
        application = Desk(run, uploads, "ann", refused).application(token, 8470)
        with TestClient(application, base_url=HERE, headers={"origin": HERE}) as client:
            yield client


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with two open requests of different tasks."""
    Campaign(tmp_path / "run", SUITE, RoundRobin(), seed=5).ask(2)
    return tmp_path / "run"


@pytest.fixture
def desk(run: Path) -> Iterator[TestClient]:
    yield from served(run)


def answering(run: Path, number: int, folder: Path) -> bytes:
    """A file that answers a request."""
    request = Campaign(run).ledger.request(number)
    assert request is not None
    return save(folder / "made.npz", shown(request.task_index)).read_bytes()


def hand_over(desk: TestClient, content: bytes, name: str = "a.npz", **words: Any) -> Any:
    return desk.post("/recordings", params={"name": name, **words}, content=content)


def view(desk: TestClient, **where: str) -> dict[str, Any]:
    answer = desk.get("/view", params=where)
    assert answer.status_code == 200
    seen: dict[str, Any] = answer.json()
    return seen


# -- the acts ---------------------------------------------------------------------------------------------------------


def test_the_desk_shows_what_next_says(desk: TestClient, run: Path) -> None:
    asked, seen = read_asked(run), view(desk)
    assert [(each["number"], each["task"], each["sentences"]) for each in seen["requests"]] == [
        (each.number, each.task, sentences(each, None)) for each in asked.requests
    ]
    assert seen["next_step"] in asked.then and seen["open"] == 2 and seen["answers"] == [] and seen["undo"] is None
    page = desk.get("/")
    assert page.status_code == 200 and "://" not in page.text, "it works without a network"
    named = re.findall(r'"(/page/[^"]+)"', page.text)
    assert "/page/desk.js" in named and {desk.get(each).status_code for each in named} == {200}


def test_a_recording_is_added_once(desk: TestClient, run: Path, tmp_path: Path) -> None:
    content = answering(run, 1, tmp_path)
    [said] = hand_over(desk, content, request=1, by="bo").json()["said"]
    assert said.startswith("Thank you. a.npz answers request 1") and ".uploads" not in said
    before = tree(run)
    [said] = hand_over(desk, content, name="again.npz", request=1).json()["said"]
    assert said.startswith("again.npz is there already, as demonstration 1") and tree(run) == before
    seen = view(desk)
    assert [each["number"] for each in seen["requests"]] == [0] and seen["demonstrations"] == 1
    assert [(each["what"], each["by"]) for each in seen["answers"]] == [("add", "bo")]
    assert seen["undo"] == {"demonstration": 1, "what": "add", "task": seen["answers"][0]["task"], "by": "bo"}
    assert list((run / ".uploads").iterdir()) == []


def test_who_says_the_task_is_believed_and_what_nobody_asked_for_counts(
    desk: TestClient, run: Path, tmp_path: Path
) -> None:
    silent = save(tmp_path / "a.npz", shown(0), task=None).read_bytes()
    answer = hand_over(desk, silent, "silent.npz")
    assert answer.status_code == 422 and "silent.npz does not say which task" in answer.json()["error"]
    open_tasks = [each["task"] for each in view(desk)["requests"]]
    other = next(task.name for task in SUITE.tasks if task.name not in open_tasks)
    [said] = hand_over(desk, silent, "silent.npz", task=other).json()["said"]
    assert "of which nothing is open" in said and view(desk)["open"] == 2


def test_skip_and_undo_do_what_the_commands_do(desk: TestClient, run: Path, tmp_path: Path) -> None:
    assert desk.post("/skip", json={"request": 0, "reason": " "}).json()["error"].startswith("The reason is empty")
    assert desk.post("/skip", json={"reason": "x"}).status_code == 422
    said = desk.post("/skip", json={"request": 0, "reason": "the gripper\nis broken", "by": "bo"}).json()["said"]
    assert said == ["Request 0 is skipped: the gripper is broken"]
    assert "skipped already" in desk.post("/skip", json={"request": 0, "reason": "x"}).json()["said"][0]
    seen = view(desk)
    assert seen["answers"][0]["reason"] == "the gripper is broken" and seen["undo"]["what"] == "skip"
    assert "open again" in desk.post("/undo", json={"demonstration": 0}).json()["said"][0]
    assert view(desk)["open"] == 2 and view(desk)["undo"] is None
    hand_over(desk, answering(run, 0, tmp_path))
    Campaign(run, SUITE).close_round()
    assert view(desk)["undo"] is None, "it was trained on"
    assert "was trained on" in desk.post("/undo", json={"demonstration": 0}).json()["error"]


def test_trials_are_noted_one_by_one_and_taken_back(desk: TestClient, run: Path) -> None:
    assert view(desk)["trials"]["policy"] is None
    (run / "judged").mkdir()
    (run / "judged" / "000002.safetensors").touch()
    assert view(desk)["trials"]["policy"] == 2
    trial = {"policy": 2, "task": "goal=1"}
    for more in ({"success": True, "id": "a"}, {"success": False, "reason": "slipped", "by": "bo", "id": "b"}):
        assert desk.post("/trials", json=trial | more).json()["said"][0].startswith("Noted: goal=1")
        assert "is there already" in desk.post("/trials", json=trial | more).json()["said"][0]
    assert desk.post("/trials", json=trial | {"success": True, "id": "b"}).status_code == 422, "b says another thing"
    trials = view(desk)["trials"]
    assert [(each["task"], each["successes"], each["trials"]) for each in trials["rates"]] == [("goal=1", 1, 2)]
    assert (
        trials["last"]["reasons"] == ["slipped"] and trials["last"]["by"] == "bo" and trials["reasons"] == ["slipped"]
    )
    assert any("more trials, not more demonstrations" in sentence for sentence in trials["sentences"])
    assert desk.post("/trials/withdraw", json={"entry": trials["last"]["entry"]}).status_code == 200
    assert view(desk)["trials"]["rates"][0]["trials"] == 1
    for wrong in ({"task": "goal=7"}, {"success": "yes"}, {"policy": True}, {"id": ""}, {"id": "a b"}):
        assert desk.post("/trials", json=trial | {"success": True, "id": "c"} | wrong).status_code == 422
    assert desk.post("/trials/withdraw", json={"entry": "nothing"}).status_code == 422


def test_the_view_follows_the_run_and_names_a_damaged_file(desk: TestClient, run: Path) -> None:
    columns = "demonstrations,task,return,success,score\n"
    (run / "curve.csv").write_text(f"{columns}2,goal=1,0.5,0.5,0.75\n2,mean,0.5,0.5,0.5\n")
    seen = view(desk)
    assert seen["curve"] == [[2, 0.5]]
    assert {each["task"]: each["score"] for each in seen["tasks"]}["goal=1"] == 0.75
    (run / "curve.csv").write_text("nothing\n")
    assert "curve.csv has the columns" in view(desk)["error"]
    (run / "curve.csv").unlink()
    assert view(desk)["curve"] == [] and "error" not in view(desk)


def test_who_is_at_a_request_is_known_to_the_others_for_seconds() -> None:
    now = 0.0
    presence = Presence(lambda: now)
    assert presence.others("a", "ann", "0") == []
    assert presence.others("b", "bo", "1") == [{"by": "ann", "request": 0}]
    now = 5.0
    assert presence.others("a", "ann", "0") == [{"by": "bo", "request": 1}]
    now = 7.0
    assert presence.others("a", "ann", "") == []
    for number in range(300):
        presence.others(f"many-{number}", "x" * 1000, "1")
    assert len(presence.others("", "", "")) <= 100


def test_the_start_of_a_task_is_shown_by_an_earlier_recording(tmp_path: Path) -> None:
    run, tasks = tmp_path / "run", ["left", "right"]
    pictures = {"image/front": Spec((4, 6, 3), "uint8"), "image/wrist": Spec((3, 8, 10), "uint8")}
    suite = StaticSuite(name="lab", observation={**pictures, "state": Spec((2,))}, action_dim=2, tasks=tasks)
    campaign = Campaign(run, suite, RoundRobin())
    [asked] = campaign.ask(1)
    numbers = np.arange(5 * 72).reshape(5, 4, 6, 3).astype(np.uint8)
    observations = {"image/front": numbers, "image/wrist": np.full((5, 3, 8, 10), 200, np.uint8)}
    state = {"state": np.zeros((5, 2), np.float32)}
    trajectory = Trajectory(observations | state, np.zeros((5, 2), np.float32), None, asked.task)
    campaign.receive(trajectory)
    campaign.ask(2)
    for desk in served(run):
        seen = {each["task"]: each["picture"] for each in view(desk)["requests"]}
        assert seen == {task: 0 if task == asked.task else None for task in seen} and asked.task in seen
        answer = desk.get("/start/0")
        picture = np.asarray(Image.open(io.BytesIO(answer.content)))
        assert answer.headers["content-type"] == "image/png" and picture.shape == (8, 12 + 10, 3), "side by side"
        assert (picture[:, 12:] == 200).all() and abs(picture[:, :12].mean() - numbers[0].mean()) < 1
        for number, code in (("7", 422), ("x", 422), ("..%2fconfig", 404)):
            assert desk.get(f"/start/{number}").status_code == code
    (run / "demonstrations" / "000000.safetensors").write_bytes(b"nothing")
    for desk in served(run):
        assert "truncated" in desk.get("/start/0").json()["error"]


def test_a_run_without_pictures_shows_none(desk: TestClient, run: Path, tmp_path: Path) -> None:
    hand_over(desk, answering(run, 0, tmp_path))
    assert {each["picture"] for each in view(desk)["requests"]} == {None}
    assert desk.get("/start/0").status_code == 404


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.7", "", "["]
)
def test_a_name_that_is_made_to_mean_this_machine_is_not_answered(desk: TestClient, host: str) -> None:
    assert desk.get("/view", headers={"host": host, "origin": f"http://{host}"}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:8470", "127.0.0.5", "[::1]:8470"])
def test_this_machine_has_several_names_and_a_tunnel_other_ports(desk: TestClient, host: str) -> None:
    headers = {"host": host, "origin": f"http://{host}"}
    assert desk.get("/view", headers=headers).status_code == 200
    assert desk.post("/skip", json={"request": 0, "reason": "x"}, headers=headers).status_code == 200


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://evil.example", "null", "http://localhost", ""])
def test_a_page_of_another_server_cannot_do_anything(desk: TestClient, run: Path, origin: str, tmp_path: Path) -> None:
    content, before = answering(run, 0, tmp_path), tree(run)
    headers = {"origin": origin}
    for path in ("/recordings?name=a.npz", "/skip", "/undo", "/trials", "/trials/withdraw"):
        assert desk.post(path, content=content, headers=headers).status_code == 403
    assert tree(run) == before


def test_what_changes_something_has_to_say_where_it_comes_from(desk: TestClient, run: Path) -> None:
    del desk.headers["origin"]
    assert desk.get("/view").status_code == 200, "as a browser asks for it"
    assert desk.post("/skip", json={"request": 0, "reason": "x"}).status_code == 403
    assert view(desk)["open"] == 2


def test_beyond_this_machine_nothing_is_answered_without_the_token(run: Path, tmp_path: Path) -> None:
    content, before = answering(run, 0, tmp_path), tree(run) | {".uploads": None}
    for desk in served(run, TOKEN):
        for path in ("/", "/view", "/page/desk.js", "/start/0", "/?token=wrong", f"/?token={TOKEN}x", "/?token=é"):
            assert desk.get(path, follow_redirects=False).status_code == 401
        for path in ("/recordings?name=a.npz", "/skip", "/undo", "/trials", "/trials/withdraw"):
            assert desk.post(path, content=content).status_code == 401
        desk.cookies.set("amf-desk-8470", "wrong")
        assert hand_over(desk, content).status_code == 401
        assert tree(run) == before
        desk.cookies.clear()
        opened = desk.get(f"/?token={TOKEN}", follow_redirects=False)
        assert (opened.status_code, opened.headers["location"]) == (303, "/")
        cookie = opened.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=lax" in cookie
        assert desk.get("/").status_code == 200 and view(desk)["open"] == 2
        assert hand_over(desk, content).status_code == 200
        other = {"origin": "http://evil.example"}
        assert desk.post("/skip", json={"request": 1, "reason": "x"}, headers=other).status_code == 403


def test_nothing_from_elsewhere_runs_in_the_page(desk: TestClient) -> None:
    for path in ("/", "/view", "/page/nothing.js"):
        headers = desk.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"] and "'unsafe" not in str(headers)
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


NAMES = [
    "../a.npz",
    "..",
    ".",
    "",
    " ",
    "/etc/passwd",
    "a/b.npz",
    "..\\a.npz",
    "a\x00.npz",
    "a\n.npz",
    "x" * 300,
    "\ud800",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_that_leads_elsewhere_is_refused(run: Path, name: str) -> None:
    uploads = Uploads(run)
    with uploads.opened(), pytest.raises(InputError, match="no name of a file"), uploads.place(name):
        pass


def test_a_recording_of_such_a_name_is_not_taken_in(desk: TestClient, run: Path, tmp_path: Path) -> None:
    content, before = answering(run, 0, tmp_path), tree(tmp_path)
    for name in ("../../a.npz", "..\\a.npz", "", "..", "%2e%2e/a.npz"):
        assert hand_over(desk, content, name).status_code == 422
    for path in ("/page/../application.py", "/page/..%2fapplication.py", "/page/%2e%2e%2fapplication.py"):
        assert desk.get(path).status_code == 404
    assert tree(tmp_path) == before
    assert check_name("Größe 1 (2).npz") == "Größe 1 (2).npz"


def test_a_file_that_cannot_be_used_is_refused_by_name(desk: TestClient, run: Path, tmp_path: Path) -> None:
    good = answering(run, 0, tmp_path)
    before = tree(run)
    for content, message in (
        (good[:300], "bad.npz is truncated"),
        (b"", "bad.npz holds no demonstrations"),
        (b"\x80\x04", "bad.npz is a Python pickle"),
    ):
        answer = hand_over(desk, content, "bad.npz", request=0)
        assert answer.status_code == 422 and message in answer.json()["error"]
        assert ".uploads" not in answer.json()["error"] and tree(run) == before


def test_what_is_too_large_is_not_taken_in(run: Path, tmp_path: Path) -> None:
    content = answering(run, 0, tmp_path)

    def pieces() -> Iterator[bytes]:
        yield from (content[:100], content[100:])

    for desk in served(run, largest=len(content) - 1):
        before = tree(run)
        for sent in (content, pieces()):  # with and without its length said before
            answer = desk.post("/recordings", params={"name": "a.npz"}, content=sent)
            assert answer.status_code == 413 and "larger than" in answer.json()["error"]
        assert tree(run) == before
        assert desk.post("/skip", content=b" " * 2**17).status_code == 413
    for desk in served(run, largest=len(content)):
        assert desk.post("/recordings", params={"name": "a.npz"}, content=pieces()).status_code == 200


def test_a_full_disk_is_said(desk: TestClient, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(self: Uploads, path: Path, pieces: AsyncIterable[bytes]) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Uploads, "write", full)
    answer = hand_over(desk, b"x")
    assert answer.status_code == 507 and "no space left on the disk" in answer.json()["error"]
    assert list((run / ".uploads").iterdir()) == []


def test_what_is_no_json_is_refused(desk: TestClient) -> None:
    for content in (b"", b"[]", b"{", b"[" * 10000, b'{"request": 1e3, "reason": "x"}', b'{"request": 0, "reason": 3}'):
        assert desk.post("/skip", content=content).status_code == 422
    assert desk.get("/skip").status_code == 405 and desk.post("/nothing").status_code == 404


# -- the folder of uploads --------------------------------------------------------------------------------------------


def test_what_a_killed_server_left_is_removed_at_the_next_start(run: Path) -> None:
    before = tree(run)
    (run / ".uploads" / "half").mkdir(parents=True)
    (run / ".uploads" / "half" / "a.npz").write_bytes(b"half")
    (run / ".uploads" / "link").symlink_to(run / "demonstrations")
    with Uploads(run).opened():
        assert tree(run) == before | {".uploads": None}
        with pytest.raises(InputError, match="Another `amf desk` serves"), Uploads(run).opened():
            pass
    assert tree(run) == before


def test_serving_needs_no_torch(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(answering(run, 0, tmp_path))
    code = """
import sys
from pathlib import Path
from starlette.testclient import TestClient
from amf_lightning.command_line import desk
from amf_lightning.desk.application import Desk
from amf_lightning.desk.uploads import Uploads
run, here = Path(sys.argv[1]), "http://localhost"
with Uploads(run).opened() as uploads:
    application = Desk(run, uploads, "", lambda error, folder: None).application(None, 1)
    with TestClient(application, base_url=here, headers={"origin": here}) as client:
        added = client.post("/recordings?name=a.npz&request=0", content=Path("a.npz").read_bytes())
        done = [added, client.post("/undo", json={"demonstration": 0}), client.get("/view"), client.get("/")]
        assert [answer.status_code for answer in done] == [200] * 4, [answer.text for answer in done]
assert not {"torch", "lightning", "gymnasium", "matplotlib"} & set(sys.modules)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-c", code, str(run)]
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_second_recording_of_a_request_counts_without_one(desk: TestClient, run: Path, tmp_path: Path) -> None:
    """Two people have recorded the same: the second recording is not lost."""
    request = Campaign(run).ledger.request(0)
    assert request is not None
    files = [save(tmp_path / f"{seed}.npz", shown(request.task_index, seed)).read_bytes() for seed in (0, 1)]
    assert hand_over(desk, files[0], "first.npz", request=0).status_code == 200
    answer = hand_over(desk, files[1], "second.npz", request=0)
    assert answer.status_code == 422 and "Request 0 is not open" in answer.json()["error"]
    assert "counts as" in hand_over(desk, files[1], "second.npz").json()["said"][0]


def test_a_file_with_several_recordings_is_taken_in_whole_or_not_at_all(
    desk: TestClient, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    episodes = [shown(0), replace(shown(1), task="nothing of the suite")]
    monkeypatch.setattr(
        "amf_lightning.demonstrations.recordings.read_demonstrations", lambda path, task: iter(episodes)
    )
    answer = hand_over(desk, b"x", "two.h5")
    assert answer.status_code == 422 and "nothing of the suite" in answer.json()["error"]
    assert answer.json()["said"] == [] and view(desk)["demonstrations"] == 0
    episodes[1] = shown(1)
    assert len(hand_over(desk, b"x", "two.h5").json()["said"]) == 2 and view(desk)["demonstrations"] == 2
