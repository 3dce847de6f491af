"""The page in a real browser: type, filter, mark, upload, link, keyboard, narrow and wide."""

import os
import shutil
import threading
import time

import pytest

import tireid

pytest.importorskip("fastapi", reason="needs tireid[serve]")
pytest.importorskip("uvicorn", reason="needs tireid[serve]")
pytest.importorskip("playwright", reason="needs playwright")

import uvicorn
from playwright import sync_api as api

from tireid.search.page.app import make_app

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; set CHROMIUM=..."),
]


@pytest.fixture
def address(pictures, index_it, draw, tmp_path):
    """Return the address of a page that serves 40 images."""
    for number in range(28):
        draw(pictures / f"more_{number}_c{number % 3}_120000.png", number + 20)
    index_it(pictures, name_pattern=r"_c(?P<camera>\d+)_(?P<time>\d{6})")
    with tireid.Index.open(tmp_path / "gallery", device="cpu") as index:
        _ = index.retriever
        server = uvicorn.Server(uvicorn.Config(make_app(index), port=0, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def browser():
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=[400, 1400])
def tab(browser, address, request):
    """Return a tab that has opened the page; nothing it did may be foreign or a failure."""
    opened = browser.new_page(viewport={"width": request.param, "height": 900})
    faults = []
    opened.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else 0)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("request", lambda r: None if r.url.startswith(address) else faults.append(r.url))
    opened.goto(address)
    yield opened
    assert [fault for fault in faults if not fault.startswith("data:")] == []


def results(tab, count):
    api.expect(tab.locator("#results li")).to_have_count(count)
    return tab.locator("#results li")


def names(tab):
    return tab.locator("#results img").evaluate_all("all => all.map((image) => image.alt)")


def test_one_can_search_refine_and_come_back(tab, pictures):
    tab.get_by_label("Describe the person").fill("a woman in red")
    tab.keyboard.press("Enter")
    results(tab, 24)
    assert tab.url.endswith("?q=a+woman+in+red")
    tab.locator("#more").scroll_into_view_if_needed()
    results(tab, 40)
    all_names = names(tab)
    assert [int(name.split()[1].strip(",")) for name in all_names] == list(range(1, 41))

    tab.get_by_text("Filter, leave out").click()
    tab.get_by_role("button", name="camera", exact=True).click()
    tab.keyboard.type("2")
    tab.keyboard.press("Enter")
    results(tab, 13)
    assert all("_c2_" in name for name in names(tab))
    tab.go_back()
    results(tab, 24)
    assert names(tab) == all_names[:24]

    fifth = tab.locator("#results li").nth(4)
    fifth.get_by_role("button", name="right").click()
    api.expect(tab.locator("#marks")).to_contain_text("1 marked right")
    api.expect(tab.locator("[aria-pressed=true].right")).to_have_count(1)
    link = tab.url
    refined = names(tab)
    tab.get_by_role("button", name="Forget these").click()
    api.expect(tab.locator("#marks")).to_be_empty()
    tab.goto(link)
    results(tab, 24)
    assert names(tab) == refined

    path = sorted(pictures.rglob("*.png"))[3]
    tab.goto(link.partition("?")[0])
    tab.get_by_text("Filter, leave out").click()
    tab.get_by_label("An image of the person").set_input_files(path)
    results(tab, 24)
    assert names(tab)[0].endswith(path.name)

    tab.locator("#results li").nth(2).get_by_role("button", name="like").click()
    api.expect(tab.locator("#marks")).to_contain_text("1 marked right")
    with tab.expect_download() as download:
        tab.get_by_role("link", name="Results as CSV").click()
    assert download.value.suggested_filename == "results.csv"


def test_the_large_view_is_opened_and_closed_by_keyboard(tab):
    tab.get_by_role("button", name="a man in a yellow jacket").click()
    first = results(tab, 24).first.locator("button.image")
    first.focus()
    tab.keyboard.press("Enter")
    api.expect(tab.get_by_role("dialog")).to_be_visible()
    api.expect(tab.locator("#large-fields")).to_contain_text("camera")
    assert tab.locator("#large-image").evaluate("image => image.decode().then(() => true)")
    tab.get_by_role("button", name="Why was it found?").press("Enter")
    api.expect(tab.locator("#why .words li")).to_have_count(6)
    api.expect(tab.locator("#why figcaption")).to_contain_text("of the image")
    assert tab.locator("#why img").evaluate("image => image.decode().then(() => true)")
    tab.keyboard.press("Escape")
    api.expect(tab.get_by_role("dialog")).to_be_hidden()
    api.expect(first).to_be_focused()


def test_nothing_is_wider_than_the_screen(tab):
    tab.get_by_role("button", name="a man in a yellow jacket").click()
    results(tab, 24)
    tab.get_by_text("Filter, leave out").click()
    width = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert tab.evaluate(width)


def test_a_wrong_filter_is_said_where_results_would_be(browser, address):
    tab = browser.new_page()
    tab.goto(f"{address}/?q=a&where=camrea%3D3")
    api.expect(tab.get_by_role("status")).to_contain_text("did you mean camera")


def test_marking_by_keyboard_keeps_place_and_number_of_results(tab):
    tab.get_by_role("button", name="a man in a yellow jacket").click()
    results(tab, 24)
    tab.locator("#more").scroll_into_view_if_needed()
    last = results(tab, 40).nth(30)
    key = last.get_attribute("data-id")
    last.get_by_role("button", name="right").focus()
    tab.keyboard.press("Enter")
    api.expect(tab.locator("#marks")).to_contain_text("1 marked right")
    api.expect(tab.locator("[aria-pressed=true].right")).to_be_focused()
    assert (
        results(tab, 40)
        .locator("[aria-pressed=true]")
        .evaluate("button => button.closest('li').dataset.id")
        == key
    )


def test_the_large_view_goes_on_by_arrow_keys(tab):
    tab.get_by_role("button", name="a man in a yellow jacket").click()
    results(tab, 24).first.locator("button.image").click()
    api.expect(tab.get_by_role("button", name="Previous")).to_be_disabled()
    for _ in range(2):
        tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowLeft")
    api.expect(tab.locator("#large-fields")).to_contain_text("rank2")
    assert tab.locator("#large-image").get_attribute("alt") in names(tab)[1]


def test_an_image_that_is_gone_is_said(browser, address, pictures):
    for path in pictures.rglob("*.png"):
        path.unlink()
    tab = browser.new_page()
    tab.goto(f"{address}/?q=a")
    api.expect(tab.locator("#results .gone").first).to_contain_text("is gone")
