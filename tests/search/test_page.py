"""The server of the page: what it answers, and whom."""

import base64
import csv
import io
import os
import socket
import sys
from ipaddress import ip_address

import pytest
from PIL import Image

import tireid

pytest.importorskip("fastapi", reason="needs tireid[serve]")

from fastapi.testclient import TestClient

from tireid.cli import serve
from tireid.search.page import guard, images
from tireid.search.page.app import make_app
from tireid.search.page.guard import is_local

ANYWHERE = str(ip_address(0))


def page_of(index):
    return TestClient(make_app(index), base_url="http://127.0.0.1:8600")


@pytest.fixture
def index(kept):
    return kept[1]


@pytest.fixture
def page(index):
    return page_of(index)


@pytest.fixture
def own_index(pictures, index_it, tmp_path):
    """Return an index of `pictures`, which the test may change."""
    index_it(pictures, name_pattern=r"_c(?P<camera>\d+)_(?P<time>\d{6})")
    with tireid.Index.open(tmp_path / "gallery", device="cpu") as opened:
        yield opened


def test_a_query_is_an_address_and_its_results_are_the_index_s(page, index):
    found = page.get("/search", params={"q": "a woman in red", "count": 5}).json()
    expected = index.search("a woman in red", 5)
    assert [(r["rank"], r["id"], r["name"]) for r in found] == [
        (r.rank, str(r.id), r.path.name) for r in expected
    ]
    rest = page.get("/search", params={"q": "a woman in red", "start": 5, "count": 20}).json()
    assert [result["rank"] for result in rest] == list(range(6, 13))


def test_paths_of_this_machine_are_not_told(page, kept):
    found = page.get("/search", params={"q": "a woman"})
    assert str(kept[0].parent) not in found.text


def test_filters_marks_and_unwanted_words_count(page, index):
    found = page.get("/search", params={"q": "a woman", "where": "camera=2"}).json()
    assert {result["fields"]["camera"] for result in found} == {2}
    first = found[0]["id"]
    like = page.get("/search", params={"right": first, "count": 1}).json()
    assert like[0]["id"] == first
    params = {"q": "a woman", "right": [first], "wrong": [found[1]["id"]], "without": "a bag"}
    assert page.get("/search", params=params).status_code == 200


def test_an_image_that_is_sent_is_searched_with(page, kept):
    path = sorted(kept[0].rglob("*.png"))[4]
    name = page.post("/upload", content=path.read_bytes()).json()["upload"]
    found = page.get("/search", params={"upload": name, "count": 1}).json()
    assert found[0]["name"] == path.name


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "expected a sentence"),
        ({"q": "a", "where": "camera"}, "where: expected"),
        ({"q": "a", "upload": "0" * 16}, "no longer held"),
        ({"right": "7"}, "got the id 7"),
    ],
)
def test_a_wrong_query_is_refused_with_its_reason(page, params, message):
    answer = page.get("/search", params=params)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_an_index_that_does_not_answer_is_said_here_and_its_place_only_in_the_terminal(
    page, index, monkeypatch, capsys
):
    def gone(*_, **__):
        raise OSError("/secret/index.sqlite: disk I/O error; nothing was lost")

    monkeypatch.setattr(index._engine, "search", gone)
    answer = page.get("/search", params={"q": "a woman"})
    assert answer.status_code == 503
    assert "cannot be read now" in answer.json()["error"]
    assert "secret" not in answer.text
    assert "/secret/index.sqlite: disk I/O error" in capsys.readouterr().err


@pytest.mark.parametrize("params", [{"q": "a", "count": 0}, {"q": "a", "count": 10**9}, {"x": 1}])
def test_a_query_out_of_bounds_is_refused(page, params):
    assert page.get("/search", params=params).status_code == 422


def test_what_is_sent_must_be_an_image_of_limited_size(page, monkeypatch):
    answer = page.post("/upload", content=b"no image")
    assert answer.status_code == 400
    assert answer.json() == {"error": "upload: expected an image that can be read"}
    monkeypatch.setattr("tireid.search.page.app.MOST_BYTES", 10)
    assert page.post("/upload", content=b"x" * 11).status_code == 413


def test_the_oldest_upload_is_dropped(monkeypatch):
    monkeypatch.setattr(images, "_KEPT", 2)
    uploads, names = images.Uploads(), []
    for colour in ("red", "green", "blue"):
        content = io.BytesIO()
        Image.new("RGB", (9, 9), colour).save(content, "PNG")
        names.append(uploads.add(content.getvalue()))
    assert uploads.get(names[2]).getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(ValueError, match="no longer held"):
        uploads.get(names[0])


def test_images_are_served_small_and_without_metadata(own_index, pictures, index_it):
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    Image.new("RGB", (3000, 2000), "red").save(pictures / "large.jpg", exif=exif)
    index_it(pictures)
    result = own_index.search("a woman", 1, where="path ~ large.jpg")[0]
    for thumb, most in ((True, 240), (False, 1600)):
        answer = page_of(own_index).get(f"/image/{result.id}", params={"thumb": thumb})
        assert answer.headers["content-type"] == "image/jpeg"
        assert b"secret" not in answer.content
        with Image.open(io.BytesIO(answer.content)) as image:
            assert image.width == most


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/image/12345", 404),
        ("/image/99999999999999999999", 404),
        ("/image/..%2F..%2Fetc%2Fpasswd", 404),
        ("/image/-1", 404),
        ("/image/a.png", 422),
        ("/..%2F..%2Fapp.py", 404),
        ("/app.py", 404),
        ("/static/page.html", 404),
        ("/%2Fetc%2Fpasswd", 404),
        ("/docs", 404),
        ("/openapi.json", 404),
    ],
)
def test_nothing_but_the_index_s_images_is_served(page, path, code):
    assert page.get(path).status_code == code


def test_an_image_that_is_gone_is_not_found_and_its_path_not_told(own_index, pictures):
    result = own_index.search("a woman", 1)[0]
    result.path.unlink()
    answer = page_of(own_index).get(f"/image/{result.id}")
    assert answer.status_code == 404
    assert str(pictures) not in answer.text


def test_another_file_in_the_place_of_one_that_was_indexed_is_not_served(
    own_index, pictures, draw, tmp_path
):
    page = page_of(own_index)
    one, other = own_index.search("a woman", 2)
    secret = draw(tmp_path / "elsewhere" / "secret.png", 99)
    one.path.unlink()
    one.path.symlink_to(secret)
    assert page.get(f"/image/{one.id}").status_code == 404
    content = other.path.read_bytes()
    other.path.write_bytes(content)  # touched: still the one that was indexed
    os.utime(other.path, ns=(1, 1))
    assert page.get(f"/image/{other.id}").status_code == 200
    other.path.write_bytes(content[::-1])
    assert page.get(f"/scene/{other.id}").status_code == 404


def test_the_page_takes_nothing_from_elsewhere(page):
    for name in ("", "page.js", "page.css"):
        answer = page.get(f"/{name}")
        assert answer.status_code == 200
        assert "//" not in answer.text.replace("// ", "")
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert page.get("/about").json() == {
        "total": 12,
        "fields": ["camera", "time"],
        "synthetic": True,
    }


def test_a_result_is_explained_by_the_words_and_places_of_its_query(page, index):
    result = index.search("a woman in red", 1)[0]
    told = page.get(f"/why/{result.id}", params={"q": "a woman in red", "right": result.id}).json()
    asked = ["a woman in red", "woman in red", "a in red", "a woman red", "a woman in"]
    scores = index.embed(asked, right=[result.id]) @ index.retriever.encode_image([result.path]).T
    losses = (scores[0] - scores[1:])[:, 0]
    assert [one["word"] for one in told["words"]] == ["a", "woman", "in", "red"]
    assert [one["weight"] for one in told["words"]] == pytest.approx(losses.tolist(), abs=1e-5)
    assert told["score"] == pytest.approx(float(scores[0]), abs=1e-5)
    drawn = base64.b64decode(told["map"].removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(drawn)) as image:
        height, width = index.retriever.image_size
        assert image.height >= 256
        assert image.width / image.height == pytest.approx(width / height)
    assert "third of the image" in told["places"] or "No place" in told["places"]


def test_a_query_without_a_sentence_is_explained_by_places_alone(page, index):
    key = index.search("a woman", 1)[0].id
    told = page.get(f"/why/{key}", params={"right": key}).json()
    assert told["words"] == []
    assert told["map"]


def test_an_image_that_is_gone_or_foreign_is_not_explained(own_index, pictures):
    page, result = page_of(own_index), own_index.search("a woman", 1)[0]
    result.path.unlink()
    for key in (result.id, 12345):
        answer = page.get(f"/why/{key}", params={"q": "a woman"})
        assert answer.status_code == 404
        assert str(pictures) not in answer.text
    assert page.get(f"/why/{result.id}").status_code == 400


def test_results_as_csv_hold_every_field_and_no_formula(own_index, pictures, draw, index_it):
    draw(pictures / "=1+1.png", 50)
    index_it(pictures)
    answer = page_of(own_index).get("/results.csv", params={"q": "a woman", "count": 13})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 13
    assert set(rows[0]) == {"rank", "score", "path", "camera", "time"}
    assert answer.headers["content-disposition"] == 'attachment; filename="results.csv"'


class TestWhoIsAnswered:
    def test_without_a_password_only_requests_to_this_machine(self, index):
        app = make_app(index)
        for host, code in (("localhost:8600", 200), ("127.0.0.1", 200), ("evil.example:80", 403)):
            assert TestClient(app, base_url=f"http://{host}").get("/about").status_code == code

    @pytest.mark.parametrize("given", [None, "wrong", "ünicode"])
    def test_with_one_nothing_is_answered_without_it(self, index, given):
        client = TestClient(make_app(index, "ünd secret"), base_url="http://10.0.0.5")
        key = next(iter(index.search("a", 1))).id
        for path in ("/", "/about", "/search?q=a", f"/image/{key}", "/page.js"):
            answer = client.get(path, headers={} if given is None else basic(given))
            assert answer.status_code == 401
            assert "Basic" in answer.headers["www-authenticate"]
        assert client.get("/about", headers=basic("ünd secret")).status_code == 200

    @pytest.mark.parametrize("header", ["Basic", "Basic !!", "Bearer x", "Basic eA==", ""])
    def test_a_broken_header_is_no_password(self, index, header):
        client = TestClient(make_app(index, "secret"))
        assert client.get("/about", headers={"Authorization": header}).status_code == 401

    @pytest.mark.parametrize(
        ("host", "local"),
        [
            *(("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.8.8.8", True)),
            *((ANYWHERE, False), ("::", False), ("10.0.0.5", False), ("example.org", False)),
        ],
    )
    def test_a_host_is_this_machine_s_or_not(self, host, local):
        assert is_local(host) == local

    @pytest.mark.parametrize(
        ("headers", "code"),
        [
            ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}, 403),
            ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "empty"}, 403),  # another port
            ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}, 200),  # a link
            ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "image"}, 200),
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://127.0.0.1:8600"}, 200),
            ({}, 200),
        ],
    )
    def test_a_page_of_elsewhere_may_link_here_and_no_more(self, page, headers, code):
        assert page.get("/about", headers=headers).status_code == code

    def test_a_page_of_elsewhere_sends_no_image(self, page):
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
        assert page.post("/upload", content=b"x", headers=headers).status_code == 403

    def test_passwords_cannot_be_tried_without_end(self, index, monkeypatch):
        client = TestClient(make_app(index, "secret"))
        now = [1000.0]
        monkeypatch.setattr(guard.time, "monotonic", lambda: now[0])
        assert [client.get("/about").status_code for _ in range(20)] == [401] * 20  # none given
        given = [client.get("/about", headers=basic(str(n))).status_code for n in range(12)]
        assert given == [401] * 10 + [429] * 2
        assert client.get("/about", headers=basic("secret")).status_code == 429
        now[0] += 61
        assert client.get("/about", headers=basic("secret")).status_code == 200

    @pytest.mark.parametrize("host", ["127.0.0.1.evil.example", "[::1", "", "evil.example:80"])
    def test_a_host_that_is_not_this_machine_is_refused(self, page, host):
        assert page.get("/about", headers={"Host": host}).status_code == 403

    @pytest.mark.parametrize("host", ["127.8.8.8:8600", "[::1]", "[::1]:8600", "LOCALHOST:1"])
    def test_every_name_of_this_machine_is_answered(self, page, host):
        assert page.get("/about", headers={"Host": host}).status_code == 200

    def test_listening_elsewhere_needs_a_password(self, monkeypatch, capsys, tmp_path):
        pytest.importorskip("uvicorn")
        monkeypatch.delenv("TIREID_PASSWORD", raising=False)
        monkeypatch.setattr(sys, "argv", ["tireid serve", str(tmp_path), "--host", ANYWHERE])
        with pytest.raises(SystemExit) as exit_:
            serve.main()
        assert exit_.value.code == 1
        assert "set TIREID_PASSWORD=" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said_before_anything_is_loaded(monkeypatch, capsys, tmp_path):
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(sys, "argv", ["tireid serve", str(tmp_path), "--port", str(port)])
        with pytest.raises(SystemExit) as exit_:
            serve.main()
    assert exit_.value.code == 1
    assert f"port: expected a free one of 127.0.0.1, got {port}" in capsys.readouterr().err


def basic(password):
    return {"Authorization": f"Basic {base64.b64encode(f'any:{password}'.encode()).decode()}"}
