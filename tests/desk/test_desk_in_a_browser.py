"""The page of `amf desk` in a headless Chromium, used as people use it: by keys, by taps, by drag and drop."""

import base64
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from amf_process import amf, tree, write_config
from desk_process import Serving, serving, until
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from tiny_recordings import SUITE, save, shown

from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.curve import MEAN
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.selection.baselines import RoundRobin

WAITING = 75
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="clicks in a real browser, and no Chromium is installed (Debian: apt install chromium)"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Root, as in CI, has no sandbox; the only page that is opened is ours.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Browser, there: Serving, by: str = "", **options: Any) -> Page:
    """The page, which has shown the run, in a browser of its own; whatever it complains of fails the test."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.on("filechooser", lambda _: None)  # else each list of files is waited for anew, and may come before that
    page.goto(there.url)
    expect(page.locator("#state")).not_to_be_empty(timeout=15_000)
    if by:
        page.get_by_label("You are").fill(by)
        page.get_by_label("You are").press("Tab")
    return page


def task(page: Page) -> str:
    return page.locator("#task").inner_text()


def recorded(folder: Path, name: str, seed: int) -> Path:
    """A file that shows a task."""
    index = next(each.index for each in SUITE.tasks if each.name == name)
    return save(folder / f"{index}-{seed}.npz", shown(index, seed))


def drop(page: Page, file: Path) -> None:
    """Drops a file on the page."""
    content = base64.b64encode(file.read_bytes()).decode()
    carried = page.evaluate_handle(
        """([content, name]) => {
          const carried = new DataTransfer();
          carried.items.add(new File([Uint8Array.from(atob(content), (each) => each.charCodeAt(0))], name));
          return carried;
        }""",
        [content, file.name],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": carried})


def choose(page: Page, file: Path, key: str = "r") -> None:
    """Hands a file over by a key and the list of files that comes up."""
    with page.expect_file_chooser() as chooser:
        page.keyboard.press(key)
    chooser.value.set_files(file)


def sent(page: Page) -> Locator:
    """What became of the last recording."""
    return page.locator("#sent li").first


def test_five_rounds_are_played_on_the_page(browser: Browser, tmp_path: Path) -> None:
    """One operator at a desktop, by keys and by drag and drop; `amf fit` runs in between."""
    path = write_config(tmp_path, active={"budget": 5, "batch_size": 1}, data={"steps_per_round": 2})
    content = yaml.safe_load(path.read_text()) | {"expert": "AwaitedExpert", "evaluation": "ReportedEpisodes"}
    path.write_text(yaml.safe_dump(content))
    run = tmp_path / "run"

    def fit(code: int = WAITING) -> None:
        outcome = amf("fit", "--config=tiny.yaml", f"--trainer.default_root_dir={run}", cwd=tmp_path)
        assert outcome.code == code, outcome.said

    fit()
    asked = []
    with serving(run) as there:
        page = opened(browser, there, "ann")
        expect(page.locator("#state")).to_have_text("waiting")
        for round in range(5):
            expect(page.locator("#which")).to_have_text(f"Request {round}")
            asked.append(task(page))
            file = recorded(tmp_path, asked[-1], round)
            if round % 2:
                drop(page, file)
            else:
                choose(page, file)
            expect(sent(page)).to_contain_text(f"answers request {round}")
            expect(page.locator("#task")).to_have_text("Nothing to record now")
            if round == 0:
                choose(page, file)
                expect(sent(page)).to_contain_text("is there already, as demonstration 0")
                page.keyboard.press("u")
                expect(page.locator("#said")).to_contain_text("is taken back; it is open again")
                choose(page, file)
                expect(sent(page)).to_contain_text("answers request 0")
            fit(0 if round == 4 else WAITING)
        expect(page.locator("#policy")).to_contain_text("after 5 demonstrations")  # a trial is of what the page shows
        try_all(page)
        expect(page.locator("#verdict")).to_contain_text("more trials")
        fit(0)
        expect(page.locator("#state")).to_have_text("finished")
        expect(page.locator("#progress")).to_have_text("5 of 5 demonstrations")
        expect(page.locator("#curve svg")).to_have_attribute("aria-label", "Mean score: 0.75 after 5")
        assert page.locator("#answers li").count() == 7, "five recordings, one of them taken back and given again"
        assert there.end(signal.SIGTERM) == 0
    done = RunFolder(run)
    assert [request.task for request in done.read_selections()] == asked and done.finished(5)
    assert [(row.demonstrations, row.score) for row in done.read_curve() if row.task == MEAN] == [(5, 0.75)]


def try_all(page: Page) -> None:
    """Three tasks succeed and one fails, by keys; one trial is taken back and done again."""
    for position, each in enumerate(SUITE.tasks):
        page.locator("#tried").select_option(each.name)
        page.locator("#trials-title").click()  # keys are for the page again
        page.locator("#tried").blur()
        page.keyboard.press("n" if position == 0 else "y")
        if position == 0:
            page.get_by_label("Why?").fill("slipped")
            page.keyboard.press("Enter")
            expect(page.locator("#withdrawn")).to_contain_text("slipped, by ann")
        expect(page.locator("#rates tbody tr")).to_have_count(position + 1)
    page.keyboard.press("z")
    expect(page.locator("#rates tbody tr")).to_have_count(3)
    page.keyboard.press("y")
    expect(page.locator("#rates tbody tr")).to_have_count(4)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with two open requests of different tasks."""
    Campaign(tmp_path / "run", SUITE, RoundRobin(), seed=5).ask(2)
    return tmp_path / "run"


def test_two_people_answer_different_requests_at_once(browser: Browser, run: Path, tmp_path: Path) -> None:
    """One at a desktop, one with a telephone, who sees at which request the other is."""
    with serving(run) as there:
        one = opened(browser, there, "ann")
        expect(one.locator("#which")).to_have_text("Request 0, and 1 more")
        until(lambda: one.evaluate("fetch('/view?desk=x').then((answer) => answer.json())")["others"])
        phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
        two = opened(browser, there, "bo", **phone)
        expect(two.locator("#which")).to_have_text("Request 1, and 1 more")
        assert {task(one), task(two)} == {request.task for request in Campaign(run).pending}
        two.locator("#previous").tap()
        expect(two.locator("#elsewhere")).to_have_text("ann is at this request, too.")
        two.locator("#next").tap()
        expect(two.locator("#elsewhere")).to_be_hidden()
        choose(one, recorded(tmp_path, task(one), 1))
        two.locator("#skip").tap()
        two.get_by_label("Why will it not come?").fill("the gripper is broken")
        two.locator("#confirm").tap()
        for page in (one, two):
            expect(page.locator("#task")).to_have_text("Nothing to record now")
            expect(page.locator("#answers li")).to_have_count(2)
            expect(page.locator("#answers")).to_contain_text("skipped by bo “the gripper is broken”")
            expect(page.locator("#answers")).to_contain_text("recorded by ann")
            one.locator("#undo").wait_for()
        assert two.evaluate("document.documentElement.scrollWidth") == 390
        small = """[...document.querySelectorAll("button, input, select")].filter((each) => each.offsetParent)
          .filter((each) => Math.min(each.offsetWidth, each.offsetHeight) < 44).map((each) => each.id)"""
        assert two.evaluate(small) == [], "targets of fingers"


def test_a_server_killed_in_mid_upload_loses_and_halves_nothing(browser: Browser, run: Path, tmp_path: Path) -> None:
    file = recorded(tmp_path, Campaign(run).pending[0].task, 0)
    whole = file.read_bytes()
    file.write_bytes(whole + b"\0" * 2**20)  # so that it takes a while, and is no archive
    before = tree(run)
    with serving(run) as there:
        page = opened(browser, there)
        slow = page.context.new_cdp_session(page)
        slow.send("Network.enable")
        line = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 100_000}
        slow.send("Network.emulateNetworkConditions", line)
        choose(page, file)
        until(lambda: any((run / ".uploads").glob("*/*.npz")))
        there.end(signal.SIGKILL)
        expect(sent(page)).to_contain_text("did not arrive whole")
        expect(page.locator("#alert")).to_contain_text("cannot be reached")
        left = tree(run)
        assert {name: left[name] for name in before} == before
    with serving(run, "--port", str(there.port)):
        assert tree(run) == before | {".uploads": None}
        expect(page.locator("#alert")).to_be_hidden()
        slow.send("Network.emulateNetworkConditions", line | {"uploadThroughput": -1})
        choose(page, file)
        expect(sent(page)).to_contain_text(re.compile(rf"{file.name} (is truncated|holds)"))
        file.write_bytes(whole)
        choose(page, file)
        expect(sent(page)).to_contain_text("answers request 0")
    assert Campaign(run).status().total.answered == 1


def test_beyond_this_machine_the_address_with_the_token_opens_it(browser: Browser, run: Path) -> None:
    with serving(run, "--host", "0.0.0.0") as there:
        here = f"http://127.0.0.1:{there.port}/"
        page = browser.new_context().new_page()
        answer = page.goto(here)
        assert answer is not None and answer.status == 401
        page.goto(here + "?" + there.url.partition("?")[2])
        expect(page.locator("#state")).not_to_be_empty()
        assert page.url == here, "the token is not left in the address"
        page.keyboard.press("s")
        page.get_by_label("Why will it not come?").fill("no time")
        page.keyboard.press("Enter")
        expect(page.locator("#said")).to_contain_text("is skipped: no time")
