"""The pages in a real browser: by keyboard alone, in both schemes, at both widths, with hostile names."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.web.auth import encode_key
from live.berths import start_berth, start_ready
from live.browser import Browser, find_browser
from live.server import Server

PROGRAM = find_browser()
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(PROGRAM is None, reason="no chromium on PATH; install it to look at the pages"),
]
Serve = Callable[[Sequence[str], Mapping[str, str], int], Server]
HOSTILE = ["<script>document.title='taken'</script>", "<img src=x onerror=\"document.title='taken'\">", "plain"]
# Every text's contrast with what lies behind it, by WCAG's formula: the pairs below 4.5, or 3 for large text.
CONTRAST = """(() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return {r, g, b, a}; };
  const part = (value) => { value /= 255; return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
  const light = ({r, g, b}) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const behind = (e) => { for (; e; e = e.parentElement) {
    const found = parse(getComputedStyle(e).backgroundColor); if (found.a === 1) return found; }
    return parse("255 255 255"); };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const shown = own || e.matches("input, textarea, select");
    if (!shown || !e.checkVisibility() || e.closest("noscript, .hidden")) continue;
    const style = getComputedStyle(e), [one, other] = [light(parse(style.color)), light(behind(e))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const least = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
    if (ratio < least) poor.push(`${e.className || e.tagName} ${ratio.toFixed(2)}`);
  }
  return poor;
})()"""


@pytest.fixture(scope="module")
def page_store(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """iris@1, people, and `flowers`, whose labels and first feature are markup."""
    folder = tmp_path_factory.mktemp("flowers")
    copied = folder / "store"
    shutil.copytree(store, copied)
    features, target = load_iris(return_X_y=True, as_frame=True)
    features = features.rename(columns={"sepal length (cm)": "<b>length</b>"})
    joblib.dump(LogisticRegression(max_iter=1000).fit(features, [HOSTILE[at] for at in target]), folder / "a.joblib")
    features.to_csv(folder / "a.csv", index=False)
    add_version(copied, folder / "a.joblib", AddRequest("flowers", "1", sample=folder / "a.csv"), LoadOptions())
    return copied


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """As `serve`, for servers that all tests of this file share."""
    started: list[Server] = []
    folder = tmp_path_factory.mktemp("servers")

    def serve(command: Sequence[str], env: Mapping[str, str], port: int) -> Server:
        started.append(Server(command, env, port, folder / f"{port}.log"))
        started[-1].wait_accepting()
        return started[-1]

    yield serve
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def browser(servers: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of this file; it ends before the servers, which would wait for its connections."""
    found = Browser(PROGRAM or "", tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def url(servers: Serve, page_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A server whose models are all ready."""
    run_dir = tmp_path_factory.mktemp("run")
    return start_ready(servers, page_store, run_dir, models="iris@1,people,flowers", workers=1, slot="green").url


@pytest.fixture(scope="module")
def locked_url(servers: Serve, page_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A server with a key, `open sesame`, on which flowers cannot be loaded."""
    folder = tmp_path_factory.mktemp("locked")
    shutil.copytree(page_store, folder / "store")
    artifact = folder / "store" / "flowers" / "1" / "a.joblib"
    artifact.write_bytes(artifact.read_bytes()[:-1] + b"!")
    (folder / "keys").write_text(f"ann:{encode_key('open sesame')}\n", "utf-8")
    settings = {"models": "iris@1,flowers", "workers": 1, "api_keys_file": folder / "keys"}
    return start_berth(servers, folder / "store", folder / "run", **settings).url


def open_console(browser: Browser, url: str, width: int = 1280, dark: bool = False) -> None:
    """The start page, once it shows its models."""
    browser.events.clear()
    browser.open(f"{url}/", width, dark=dark)
    browser.wait("document.querySelectorAll('#models button').length > 0")


def open_locked(browser: Browser, url: str) -> None:
    """The start page of a server with a key, which names no model before the key was typed."""
    browser.events.clear()
    browser.open(f"{url}/")
    browser.wait("!document.querySelector('#key-form').hidden")
    assert browser.evaluate("document.querySelectorAll('#models button').length") == 0
    browser.evaluate("document.querySelector('#key').focus()")
    browser.type("open sesame")
    browser.press("Enter")
    browser.wait("document.querySelectorAll('#models button').length > 0")


def choose(browser: Browser, model: str) -> None:
    """Show one of the models."""
    names = "[...document.querySelectorAll('#models button')]"
    browser.evaluate(f"{names}.find((button) => button.textContent.startsWith('{model}')).click()")


def tab_to(browser: Browser, selector: str) -> None:
    """Press Tab until the element has the focus, and see that it shows."""
    for _ in range(60):
        browser.press("Tab")
        if browser.evaluate(f"document.activeElement.matches({selector!r})"):
            assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
    raise AssertionError(f"{selector} cannot be reached with Tab")


def test_predict_with_the_keyboard_alone(browser: Browser, url: str) -> None:
    open_console(browser, url)
    browser.wait("!!document.querySelector('#field-0')")
    tab_to(browser, "#field-2")
    browser.evaluate("document.activeElement.select()")
    browser.type("6.5")
    browser.press("Enter")
    browser.wait("document.querySelector('.prediction')?.textContent === '2'")
    assert browser.evaluate("document.querySelectorAll('.bar').length") == 3
    assert browser.evaluate("document.querySelector('.bar.first .name').textContent") == "2"
    assert "[5.1, 3.5, 6.5, 0.2]" in browser.evaluate("document.querySelector('#curl').textContent")
    tab_to(browser, "#copy")
    open_console(browser, url)
    tab_to(browser, "#models li:nth-child(2) button")
    browser.press("Enter")
    browser.wait("document.querySelector('h1').textContent.startsWith('people')")
    tab_to(browser, ".go button")
    browser.press("Enter")
    browser.wait("['yes', 'no'].includes(document.querySelector('.prediction')?.textContent)")
    assert browser.errors() == []


def test_a_refusal_is_shown_in_the_server_s_words(browser: Browser, url: str) -> None:
    open_console(browser, url)
    browser.wait("!!document.querySelector('#field-0')")
    browser.evaluate("document.querySelector('#field-0').value = ''")
    browser.evaluate("document.querySelector('.sheet form').requestSubmit()")
    browser.wait("document.querySelector('#result [role=alert]')?.textContent.includes('NaN')")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_and_can_be_read(browser: Browser, url: str, width: int, dark: bool) -> None:
    open_console(browser, url, width, dark)
    browser.wait("!!document.querySelector('.sheet form')")
    browser.evaluate("document.querySelector('.sheet form').requestSubmit()")
    browser.wait("!!document.querySelector('.prediction')")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(CONTRAST) == []
    browser.open(f"{url}/docs", width, dark=dark)
    browser.wait("document.querySelectorAll('.operation').length > 20")
    browser.evaluate("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    browser.wait("!!document.querySelector('#predict form')")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(CONTRAST) == []


def test_names_and_labels_are_text(browser: Browser, url: str) -> None:
    open_console(browser, url)
    choose(browser, "flowers")
    browser.wait("document.querySelector('h1').textContent.startsWith('flowers')")
    assert "<b>length</b>" in browser.evaluate("document.querySelector('.fields').textContent")
    browser.evaluate("document.querySelector('.sheet form').requestSubmit()")
    browser.wait("!!document.querySelector('.prediction')")
    names = browser.evaluate("[...document.querySelectorAll('.bar .name')].map((name) => name.textContent)")
    assert sorted(names) == sorted(HOSTILE)
    assert browser.evaluate("document.title") == "Berth"
    assert browser.evaluate("document.querySelectorAll('main img, main script, main b').length") == 0
    assert browser.errors() == []


def test_every_route_can_be_tried(browser: Browser, url: str) -> None:
    browser.events.clear()
    browser.open(f"{url}/docs")
    browser.wait("document.querySelectorAll('.operation').length > 20")
    routes = browser.evaluate("[...document.querySelectorAll('.operation:not(.schema)')].map((one) => one.id)")
    for route in routes:
        browser.evaluate(f"document.getElementById('{route}').open = true")
        browser.wait(f"!!document.querySelector('#{route} form')")
        if route == "static":
            browser.evaluate("document.querySelector('#static input').value = 'mark.svg'")
        browser.evaluate(f"document.querySelector('#{route} form').requestSubmit()")
        browser.wait(f"document.querySelector('#{route} .meta')?.textContent.startsWith('Status 200')")
    assert browser.errors() == []


def test_the_key_is_asked_for_and_kept_by_nobody(browser: Browser, locked_url: str) -> None:
    open_locked(browser, locked_url)
    browser.wait("!!document.querySelector('.sheet form') && document.querySelector('#key-form').hidden")
    browser.evaluate("document.querySelector('.sheet form').requestSubmit()")
    browser.wait("document.querySelector('.prediction')?.textContent === '0'")
    assert "$BERTH_KEY" in browser.evaluate("document.querySelector('#curl').textContent")
    assert not browser.evaluate("localStorage.length + sessionStorage.length + document.cookie.length")


def test_a_failed_model_is_named_with_its_reason(browser: Browser, locked_url: str) -> None:
    open_locked(browser, locked_url)
    choose(browser, "flowers")
    browser.wait("document.querySelector('.sheet')?.textContent.includes('could not be loaded')")
    assert "sha256" in browser.evaluate("document.querySelector('.sheet').textContent")
    assert browser.evaluate("document.querySelector('#status').dataset.state") == "failed"
