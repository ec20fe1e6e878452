"""The drift page in a real browser: what drifted is on top, in words and in red; by keyboard, at both widths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

from berth.web.auth import encode_key
from live.berths import ask, running_ready
from live.browser import Browser, find_browser, text_of
from live.server import Server
from live.test_page import CONTRAST, tab_to

PROGRAM = find_browser()
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(PROGRAM is None, reason="no chromium on PATH; install it to look at the pages"),
]
KEY = "open sesame"
SHIFTED = "petal width (cm)"
CARDS = "document.querySelectorAll('.feature')"


@pytest.fixture(scope="module")
def server(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """iris@1 after 500 rows with wider petals, people after none, and prices, which has no profile; behind a key."""
    folder = tmp_path_factory.mktemp("drifted")
    (folder / "keys").write_text(f"ann:{encode_key(KEY)}\n", "utf-8")
    settings = {"models": "iris@1,people,prices", "workers": 1, "api_keys_file": folder / "keys"}
    with running_ready(store, folder, **settings) as running:
        rows = (load_iris().data + np.array([0, 0, 0, 3]))[[at % 150 for at in range(500)]]
        assert ask(running, "POST", "/predict", {"features": rows.tolist()}, X_Api_Key=KEY)[0] == 200
        yield running


def open_drift(browser: Browser, server: Server, width: int = 1280, dark: bool = False) -> None:
    """The page, once a key was typed and it shows the features."""
    browser.events.clear()
    browser.open(f"{server.url}/drift", width, dark=dark)
    browser.wait("!document.querySelector('#key-form').hidden")
    assert browser.evaluate(f"{CARDS}.length") == 0
    browser.evaluate("document.querySelector('#key').focus()")
    browser.type(KEY)
    browser.press("Enter")
    browser.wait(f"{CARDS}.length === 5 && document.querySelector('#key-form').hidden")


def test_what_drifted_is_on_top_in_words_and_in_red(browser: Browser, server: Server) -> None:
    open_drift(browser, server)
    top = text_of(browser, ".feature")
    assert top.startswith(SHIFTED)
    assert "Drifted: " in top
    assert "Grew most: above 2.5, from 0.0% of the sample to 100.0% of the requests." in top
    assert "far above the sample's range" in top
    drifted = browser.evaluate(f"[...{CARDS}].map((card) => card.matches('.drifted'))")
    assert drifted == [True, True, False, False, False]
    assert "Like the sample" in text_of(browser, ".feature:not(.drifted)")
    red = browser.evaluate("getComputedStyle(document.querySelector('.observed rect')).fill")
    assert red == browser.evaluate("getComputedStyle(document.querySelector('.drifted .verdict')).color")
    assert browser.evaluate(f"[...{CARDS}].map((card) => card.querySelectorAll('svg[role=img]').length)") == [2] * 5
    names = browser.evaluate("[...document.querySelectorAll('.feature svg')].map((svg) => svg.ariaLabel)")
    assert names[:2] == ["Sample: most values in 0.2 to 0.4, 24.0%", "Requests: most values in above 2.5, 100.0%"]
    assert f"2 of 5 drifted: {SHIFTED}, prediction." in text_of(browser, ".lead")
    assert text_of(browser, "#status") == "A model has drifted"
    # Before the key was typed, and nothing else: no script failed, no policy was violated.
    assert all("401 (UNAUTHORIZED)" in error for error in browser.errors())


def test_models_without_figures_say_why(browser: Browser, server: Server) -> None:
    open_drift(browser, server)
    tab_to(browser, "#models li:nth-child(2) button")
    browser.press("Enter")
    browser.wait("document.querySelector('h1').textContent.startsWith('people')")
    assert "Fewer than 100 rows" in text_of(browser, "#sheet .notice")
    assert "Not judged yet" in text_of(browser, ".feature")
    assert browser.evaluate("document.activeElement.matches('#models [aria-current]')")
    tab_to(browser, "#models li:nth-child(3) button")
    browser.press("Enter")
    browser.wait("document.querySelector('h1').textContent.startsWith('prices')")
    assert "no profile: add the model with --sample" in text_of(browser, "#sheet .notice")


def test_the_bins_are_a_table_that_the_keyboard_opens(browser: Browser, server: Server) -> None:
    open_drift(browser, server)
    tab_to(browser, "summary")
    browser.press("Enter")
    browser.wait("document.querySelector('.feature details').open")
    rows = browser.evaluate(
        "[...document.querySelectorAll('.feature details[open] tbody tr')].map((row) => row.innerText)"
    )
    assert rows[-1].split("\t") == ["above 2.5", "0.0%", "100.0%"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_and_can_be_read(browser: Browser, server: Server, width: int, dark: bool, tmp_path: Path) -> None:
    open_drift(browser, server, width, dark)
    browser.evaluate("document.querySelector('.feature details').open = true")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(CONTRAST) == []
    browser.screenshot(tmp_path / "drift.png")
    assert (tmp_path / "drift.png").stat().st_size > 10_000


def test_the_start_page_leads_to_it(browser: Browser, server: Server) -> None:
    browser.open(f"{server.url}/")
    browser.evaluate("document.querySelector('nav a[href=drift]').click()")
    browser.wait("document.title === 'Drift · Berth'")
