"""What labels have shown, in a real browser: the interval beside the reference, confused classes, errors, widths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from live.berths import ask, running_ready
from live.browser import Browser, find_browser, text_of
from live.server import Server
from live.test_page import CONTRAST, tab_to

PROGRAM = find_browser()
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(PROGRAM is None, reason="no chromium on PATH; install it to look at the pages"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """iris@1, right for 240 of 300 labels where it promised 0.96; prices@1 with errors; plain@1 without a label."""
    folder = tmp_path_factory.mktemp("labelled")
    iris = load_iris()
    joblib.dump(LogisticRegression(max_iter=1000).fit(iris.data, iris.target), folder / "iris.joblib")
    joblib.dump(LinearRegression().fit(iris.data[:, :3], iris.data[:, 3]), folder / "prices.joblib")
    promised = {"iris": {"accuracy": 0.96}, "prices": {"mae": 2.0}}
    for name, file in (("iris", "iris"), ("prices", "prices"), ("plain", "iris")):
        metadata = {"metrics": promised[name]} if name in promised else {}
        request = AddRequest(name, "1", metadata=metadata)
        add_version(folder / "store", folder / f"{file}.joblib", request, LoadOptions())
    with running_ready(folder / "store", folder, models="iris,prices,plain", workers=1) as running:
        truth = [0] * 240 + [1] * 50 + [2] * 10
        labels = {"model": "iris", "version": "1", "prediction": [0] * 300, "truth": truth}
        errors = np.random.default_rng(0).normal(0, 1, 300).tolist()
        numbers = {"model": "prices", "version": "1", "prediction": [0.0] * 300, "truth": errors}
        assert ask(running, "POST", "/feedback", [labels, numbers])[1] == {"accepted": 2, "rejected": []}
        yield running


def open_quality(browser: Browser, server: Server, width: int = 1280, dark: bool = False) -> None:
    browser.events.clear()
    browser.open(f"{server.url}/drift", width, dark=dark)
    browser.wait("document.querySelector('.quality') !== null")


def test_a_worse_model_is_named_in_words_and_in_red(browser: Browser, server: Server) -> None:
    open_quality(browser, server)
    assert text_of(browser, "#status") == "A model is worse than its reference"
    section = text_of(browser, ".quality")
    assert "300 labels since the server started." in section
    assert "Worse than when it was added." in section
    assert "Accuracy80.0% (75.1% to 84.1%), reference 96.0%" in section
    picture = browser.evaluate("document.querySelector('.interval svg').ariaLabel")
    assert picture == "80.0%, 95% interval 75.1% to 84.1%; the version was added with 96.0%"
    red = browser.evaluate("getComputedStyle(document.querySelector('.interval .point')).fill")
    assert red == browser.evaluate("getComputedStyle(document.querySelector('.quality .bad')).color")
    rows = browser.evaluate("[...document.querySelectorAll('.confusion tbody tr')].map((row) => row.innerText)")
    assert [row.split("\t") for row in rows] == [["0", "240", "·", "·"], ["1", "50", "·", "·"], ["2", "10", "·", "·"]]
    assert browser.errors() == []  # no script failed, no policy was violated


def test_numbers_have_errors_and_models_without_labels_nothing(browser: Browser, server: Server) -> None:
    open_quality(browser, server)
    tab_to(browser, "#models li:nth-child(2) button")
    browser.press("Enter")
    browser.wait("document.querySelector('h1').textContent.startsWith('prices')")
    section = text_of(browser, ".quality")
    assert "Not worse than when it was added." in section
    assert "Mean absolute error0.8" in section
    assert "Root mean square error 1.0" in section
    shares = browser.evaluate("[...document.querySelectorAll('.quality .bar')].map((bar) => bar.innerText)")
    assert any(share.startswith("0.1 to 1") for share in shares)
    tab_to(browser, "#models li:nth-child(3) button")
    browser.press("Enter")
    browser.wait("document.querySelector('h1').textContent.startsWith('plain')")
    assert browser.evaluate("document.querySelector('.quality')") is None


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_and_can_be_read(browser: Browser, server: Server, width: int, dark: bool, tmp_path: Path) -> None:
    open_quality(browser, server, width, dark)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(CONTRAST) == []
    browser.screenshot(tmp_path / "quality.png")
    assert (tmp_path / "quality.png").stat().st_size > 10_000


def test_a_hostile_class_name_is_text(browser: Browser, server: Server) -> None:
    """Labels come from the model; the page makes elements from text alone."""
    report = {
        "labels": 1, "worse": None, "reference": {}, "accuracy": {"value": 0, "low": 0, "high": 0.8}, "mae": None,
        "confusion": [{"predicted": "<img src=x onerror=alert(1)>", "truth": "b", "rows": 1}], "reward": None,
        "delay_seconds": 7200, "reward_rows": 0,
    }  # fmt: skip
    open_quality(browser, server)
    script = f"import('./static/quality.js').then((it) => it.qualitySection({json.dumps(report)}).innerHTML)"
    made = browser.evaluate(script)
    assert "&lt;img src=x" in made
    assert "<img" not in made
    assert "on average 2 hours after the prediction" in made
