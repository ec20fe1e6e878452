"""The experiments page in a real browser: the verdict, shares, intervals as pictures; by keyboard, at both widths."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.tensors.arrays import TensorSpec
from live.berths import ask, running_ready
from live.browser import Browser, find_browser, text_of
from live.server import HOST, Server
from live.test_page import CONTRAST, tab_to
from web.test_experiments import SECRET, SPLIT, write

PROGRAM = find_browser()
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(PROGRAM is None, reason="no chromium on PATH; install it to look at the pages"),
]
USERS = 500
CODE = """
def load(directory):
    return lambda inputs: {"prediction": inputs["x"][:, 0]}
"""
EXPERIMENTS = (
    SPLIT | {"model": "best"},
    SPLIT | {"name": "checkout", "model": "price", "policy": "thompson"},
    {"name": "next", "model": "churn", "shadow": {"model": "churn@2", "share": 0}},
)
ROWS = "[...document.querySelectorAll('table.arms tbody tr')]"


def send_users(server: Server) -> list[str]:
    """Users of best, of whom the second arm's all like it and the first arm's every second; their arms."""
    connection, arms, items = http.client.HTTPConnection(HOST, server.port, timeout=30), [], []
    for user in range(USERS):
        fields = {"Content-Type": "application/json", "X-User-Id": f"user-{user}"}
        connection.request("POST", "/predict", json.dumps({"model": "best", "features": [[1.0]]}), fields)
        response = connection.getresponse()
        response.read()
        arms.append(response.headers["X-Berth-Arm"])
        reward = int(arms[-1] == "churn@2" or user % 2)
        items.append({"receipt": response.headers["X-Berth-Receipt"], "reward": reward})
    connection.close()
    assert ask(server, "POST", "/feedback", items)[1]["accepted"] == USERS
    return arms


@pytest.fixture(scope="module")
def arms() -> list[str]:
    """Filled by `server`."""
    return []


@pytest.fixture(scope="module")
def server(arms: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An experiment that is decided, a bandit without rewards, and a shadow alone; models that need no library."""
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "code").mkdir()
    (folder / "code" / "model.py").write_text(CODE, "utf-8")
    inputs, outputs = (TensorSpec("x", "FP64", (-1, 1)),), (TensorSpec("prediction", "FP64", (-1,)),)
    for version in ("1", "2"):
        request = AddRequest("churn", version, "python", inputs=inputs, outputs=outputs)
        add_version(folder / "store", folder / "code", request, LoadOptions(allow_code=True))
    (folder / "secret").write_text(SECRET, "utf-8")
    file = write(folder / "experiments.json", *EXPERIMENTS)
    settings = {"models": "churn@1,churn@2", "experiment_file": file, "feedback_key_file": folder / "secret"}
    with running_ready(folder / "store", folder, workers=1, allow_code=True, **settings) as running:
        arms += send_users(running)
        yield running


def open_experiments(browser: Browser, server: Server, width: int = 1280, dark: bool = False) -> None:
    browser.events.clear()
    browser.open(f"{server.url}/experiments", width, dark=dark)
    browser.wait("document.querySelector('table.arms') !== null")


def test_the_verdict_stands_above_the_arms(browser: Browser, server: Server, arms: list[str]) -> None:
    open_experiments(browser, server)
    assert text_of(browser, "h1") == "q4 fixed, on best"
    assert text_of(browser, "#verdict").startswith("churn@2 is better by 0.5")
    good = browser.evaluate("getComputedStyle(document.querySelector('#verdict b')).color")
    assert good != browser.evaluate("getComputedStyle(document.querySelector('h1')).color")
    rows = [row.split("\t") for row in browser.evaluate(f"{ROWS}.map((row) => row.innerText)")]
    counts = [str(arms.count(key)) for key in ("churn@1", "churn@2")]
    assert [(row[0], row[1], row[5]) for row in rows] == [
        ("churn@1", "50.0 %", counts[0]),
        ("churn@2", "50.0 %", counts[1]),
    ]
    names = browser.evaluate(f"{ROWS}.map((row) => row.querySelector('svg[role=img]').ariaLabel)")
    assert names[1].startswith("mean 1.00, between 0.9")
    assert "as the file says" in text_of(browser, ".note")
    assert browser.errors() == []  # no script failed, no policy was violated


def test_intervals_share_one_scale(browser: Browser, server: Server) -> None:
    """The dot of the better arm lies right of the other's, each between the ends of its line."""
    open_experiments(browser, server)
    script = """.map((row) => [...row.querySelectorAll('circle, line.range')].map((each) =>
      each.matches('circle') ? +each.getAttribute('cx') : [+each.getAttribute('x1'), +each.getAttribute('x2')]))"""
    (line, dot), (other_line, other_dot) = browser.evaluate(f"{ROWS}{script}")
    assert line[0] < dot < line[1] < other_line[0] < other_dot < other_line[1]


def test_the_keyboard_reaches_every_experiment(browser: Browser, server: Server) -> None:
    open_experiments(browser, server)
    tab_to(browser, "#experiments li:nth-child(2) button")
    browser.press("Enter")
    browser.wait("document.querySelector('h1').textContent.startsWith('checkout')")
    assert text_of(browser, "#verdict").startswith("keep going")
    assert "not enough rewards" in text_of(browser, "table.arms")
    assert browser.evaluate("document.activeElement.matches('#experiments [aria-current]')")
    tab_to(browser, "#experiments li:nth-child(3) button")
    browser.press("Enter")
    browser.wait("document.querySelector('h1').textContent.startsWith('next')")
    assert "a shadow alone" in text_of(browser, "#verdict")
    assert text_of(browser, ".note").startswith("Shadow churn@2")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_and_can_be_read(browser: Browser, server: Server, width: int, dark: bool, tmp_path: Path) -> None:
    open_experiments(browser, server, width, dark)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(CONTRAST) == []
    browser.screenshot(tmp_path / "experiments.png")
    assert (tmp_path / "experiments.png").stat().st_size > 10_000
