"""The page and the text: whole, harmless, the same tables, and right in a browser."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tireid.comparison.report import load_comparison, render, write_report
from tireid.comparison.report.blocks import Line, Note, Section, Table
from tireid.comparison.report.tables import results
from tireid.comparison.table import columns, escaped
from tireid.runs.results import Result, Runs

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
]
MEASURE = """<script>addEventListener("load", () => {
  document.querySelectorAll("details").forEach(one => one.open = true);
  const pictures = [...document.images];
  parent.document.body.dataset.found = JSON.stringify([
    document.documentElement.clientWidth,
    document.documentElement.scrollWidth,
    pictures.length,
    pictures.filter(one => !one.naturalWidth).length,
    performance.getEntriesByType("resource").filter(one => !one.name.startsWith("data:")).length,
    [...document.querySelectorAll(".scroll")].filter(o => o.scrollWidth > o.clientWidth).length,
  ]);
})</script>"""


class Elements(HTMLParser):
    """Collect the elements of a page and their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def written(comparison, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    page, text = write_report(comparison, folder, command="python -m tireid compare 'a <b>'")
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.md"]
    return page, text


def test_the_page_needs_nothing_else_and_runs_its_own_script_only(written):
    content = written[0].read_text(encoding="utf-8")
    elements = Elements(content)
    (script,) = re.findall(r"<script>(.*?)</script>", content, re.DOTALL)
    assert len(elements.of("script")) == 1
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert not [a for _, a in elements.found if any(name.startswith("on") for name in a)]
    pictures = elements.of("img")
    assert len(pictures) > 40
    assert all(one["src"].startswith("data:image/") and "alt" in one for one in pictures)
    assert {one["href"][0] for one in elements.of("a")} == {"#"}
    policy = next(a["content"] for a in elements.of("meta") if "http-equiv" in a)
    allowed = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'"
    assert policy.startswith(f"{allowed}; img-src data:")
    assert len(content) < 5e6


def test_plots_are_whole_and_their_labels_are_text(written):
    """A label is anybody's: no mathematics, no markup."""
    content = written[0].read_text(encoding="utf-8")
    drawn = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", content)
    assert len(drawn) >= 8
    for one in drawn:
        svg = base64.b64decode(one).decode()
        assert svg.rstrip().endswith("</svg>")
        assert "<script" not in svg


def test_labels_captions_and_commands_are_shown_as_they_are(written):
    page, text = (path.read_text(encoding="utf-8") for path in written)
    assert "plain &lt;b&gt;|*tower*" in page
    assert "plain <b>" not in page
    assert "a &lt;i&gt;bad&lt;/i&gt; value" in page
    assert "a <i>bad" not in text
    assert "plain &lt;b&gt;\\|\\*tower\\*" in text


def test_the_text_has_the_tables_of_the_page(written):
    page, text = (path.read_text(encoding="utf-8") for path in written)
    plain = html.unescape(re.sub(r"\s*<[^>]*>\s*", " ", page))
    rows = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    assert len(rows) > 30
    for line in rows:
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        for cell in cells:
            shown = html.unescape(re.sub(r"\\(.)", r"\1", cell.strip()))
            assert " ".join(shown.split()) in " ".join(plain.split()), shown


def test_text_stays_on_its_line_and_is_no_markup():
    assert escaped("a\n| [x](y) <z> `c` &") == "a \\| \\[x\\](y) &lt;z&gt; \\`c\\` &amp;"
    table = Table(["name", "number", "said"], [Line(["a|b", "1", "x"])], "T", right=1)
    section = Section("s", "Title", [Note("seen", warning=True), table])
    assert render("report.md", "Page", [section]).splitlines() == [
        *("# Page", "", "## Title", "", "**seen**", "", "T:", ""),
        *("| name | number | said |", "| --- | ---: | --- |", "| a\\|b | 1 | x |"),
    ]


def browse(path, folder, *flags):
    assert CHROMIUM is not None
    profile = folder / "profile"
    return subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def console_of(done):
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def measured(content, width, folder):
    """Return what `MEASURE` finds in a page of a width.

    It is a copy that may measure itself, in a frame: a window has a least width. Its policy
    forbids to fetch as that of the page does.
    """
    copy = re.sub(r"script-src 'sha256-[^']+'", "script-src 'unsafe-inline'", content)
    copy = html.escape(copy.replace("</body>", f"{MEASURE}</body>"))
    frame = folder / "frame.html"
    style = f"border: 0; width: {width}px; height: 900px"
    frame.write_text(f'<!doctype html><body><iframe style="{style}" srcdoc="{copy}"></iframe>')
    done = browse(frame, folder, "--window-size=1500,1000", "--dump-dom")
    assert not console_of(done)
    found = re.search(r'data-found="\[([\d,]+)\]"', done.stdout)
    assert found is not None
    return [int(number) for number in found[1].split(",")]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("width", "cut"), [(400, True), (1400, False)])
def test_published_results_stand_beside_runs_on_a_wide_page_without_scrolling(tmp_path, width, cut):
    metrics = dict.fromkeys(columns(), 56.78) | {"val/mAP": 56.78}
    fields = {"dataset": "cuhk_pedes", "selection": "val", "steps": 63_840, "seconds": 1.0}
    fields |= {"images_per_second": 1.0, "parameters": 123_456_789, "test_data": "f00"}
    fields |= {"settings": "5e7", "commit": "", "metrics": metrics}
    both = [Result(label="LGUR, DeiT-Small", seed=seed, **fields) for seed in (1, 2)]
    deit, bert = (
        {"module": {"_target_": f"tireid.encoders.{target}"}, "pretrained": name}
        for target, name in (
            ("vit.VitEncoder", "facebook/deit-small-distilled-patch16-224"),
            ("lstm.BiLstmEncoder", "bert-base-uncased"),
        )
    )
    settings = {"image_encoder": deit, "text_encoder": bert}
    comparison = load_comparison({Path("kept.csv"): Runs(both, [])})
    (row,) = comparison.rows
    row = replace(row, runs=[replace(run, settings=settings) for run in row.runs])
    section = results(replace(comparison, rows=[row]))
    content = render("report.html", "A", [Section("about", "", []), section])
    assert "Vit (deit-small-distilled-patch16-224)" in content
    assert (measured(content, width, tmp_path)[-1] > 0) == cut


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_shows_all_of_it_and_fetches_nothing(written, tmp_path, width):
    page = written[0]
    size = f"--window-size={width},900"
    assert not console_of(browse(page, tmp_path, size, "--dump-dom"))

    content = page.read_text(encoding="utf-8")
    client, scrolled, pictures, broken, fetched, _ = measured(content, width, tmp_path)
    assert client == width
    assert scrolled == width  # tables scroll in their boxes, the page does not
    assert pictures == len(Elements(content).of("img"))
    assert (broken, fetched) == (0, 0)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_browser_would_say_if_something_were_fetched(tmp_path):
    """What the test above relies on."""
    page = tmp_path / "page.html"
    content = render("report.html", "a", [Section("about", "", [])])
    page.write_text(content.replace("</body>", '<img src="http://127.0.0.1:9/x.png"></body>'))
    assert "Content Security Policy" in console_of(browse(page, tmp_path, "--dump-dom"))[0]


USE = """<script>addEventListener("load", () => {
  const table = document.querySelector("#results table");
  const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const buttons = [...table.querySelectorAll("button")];
  const press = (name) => buttons.find((button) => button.textContent === name).click();
  const found = [names().join("|")];
  for (const name of ["R@1", "R@1", "run"]) { press(name); found.push(names().join("|")); }
  document.querySelector("figure img").click();
  found.push(document.querySelector("dialog[open] img").src.slice(0, 15));
  document.querySelector("dialog").click();
  found.push(document.querySelectorAll("dialog[open]").length);
  document.body.dataset.found = JSON.stringify(found);
})</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_columns_sort_and_images_enlarge(written, tmp_path):
    page = tmp_path / "page.html"
    content = written[0].read_text(encoding="utf-8")
    copy = re.sub(r"script-src 'sha256-[^']+'", "script-src 'unsafe-inline'", content)
    page.write_text(copy.replace("</body>", f"{USE}</body>"))
    done = browse(page, tmp_path, "--dump-dom")
    found = json.loads(html.unescape(re.search(r'data-found="([^"]+)"', done.stdout)[1]))
    starts = [order.partition(" ")[0].strip(",") for order in found[:4]]
    assert starts == ["plain", "LGUR", "plain", "LCR2S"]
    assert found[4:] == ["data:image/svg+", 0]
