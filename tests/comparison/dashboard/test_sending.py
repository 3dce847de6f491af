"""The report on the server: created once, then updated in place, with clear errors."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import wandb_workspaces.reports.v2 as wr

from tireid.cli.dashboard import main
from tireid.comparison.dashboard.charts import seed_charts
from tireid.comparison.dashboard.report import Scope, build
from tireid.comparison.dashboard.server import send, write
from tireid.comparison.published import read_published


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["tireid dashboard", "--entity", "me", *words])
    main()


def content(server):
    (view,) = server.views.values()
    return json.loads(view["spec"])


def test_the_second_run_updates_the_same_report(server, monkeypatch, capsys):
    run(monkeypatch, "--group", "like_for_like")
    first = capsys.readouterr().out
    (id,) = server.views
    sent = without_identity(content(server))
    assert first.startswith("created: https://app.test/me/tireid/reports/")
    run(monkeypatch, "--group", "like_for_like")
    second = capsys.readouterr().out
    assert list(server.views) == [id]
    assert second == first.replace("created", "updated")
    assert without_identity(content(server)) == sent


def test_an_update_replaces_the_blocks_and_keeps_what_people_added(server):
    send(Scope("me", "tireid", "synthetic"))
    (view,) = server.views.values()
    spec = json.loads(view["spec"])
    panels = len(spec["blocks"])
    spec["blocks"] = spec["blocks"][:3]
    spec["discussionThreads"] = [{"id": "a remark"}]
    view["spec"] = json.dumps(spec)
    send(Scope("me", "tireid", "synthetic"))
    assert len(content(server)["blocks"]) == panels
    assert content(server)["discussionThreads"] == [{"id": "a remark"}]


def test_without_an_entity_it_is_the_accounts(server, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_ENTITY", raising=False)
    monkeypatch.setattr(sys, "argv", ["tireid dashboard"])
    main()
    assert capsys.readouterr().out.startswith("created: https://app.test/me/tireid/reports/")


def test_another_group_has_a_report_of_its_own(server):
    server.runs.append(server.runs[0] | {"group": "other"})
    first = send(Scope("me", "tireid", "synthetic"))
    second = send(Scope("me", "tireid", "synthetic", group="other"))
    assert first != second
    assert len(server.views) == 2


def test_a_renamed_report_is_updated_by_its_address(server, monkeypatch):
    url = send(Scope("me", "tireid", "synthetic"))
    (view,) = server.views.values()
    view["displayName"] = "renamed"
    run(monkeypatch, "--url", url)
    (view,) = server.views.values()
    assert view["displayName"] == "renamed"


def test_two_reports_of_one_title_need_an_address(server, monkeypatch, capsys):
    scope = Scope("me", "tireid", "synthetic")
    published = read_published("synthetic")
    for _ in range(2):
        build(scope, published, seed_charts(published)).save()
    with pytest.raises(SystemExit):
        run(monkeypatch)
    assert (
        "got 2: say which with --url: https://app.test/me/tireid/reports/"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://app.test/me/tireid",
        "https://app.test/me/tireid/reports/gone--Vmlldzo5OTk5",
        "nonsense",
    ],
)
def test_an_address_without_a_report_is_an_error(server, monkeypatch, capsys, url):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--url", url)
    assert f"error: {url}: expected the address of a report" in capsys.readouterr().err
    assert not server.views


def test_a_report_of_another_project_is_left_alone(server, monkeypatch, capsys):
    server.projects.add("other")
    other = wr.Report(entity="me", project="other", title="theirs").save()
    with pytest.raises(SystemExit):
        run(monkeypatch, "--url", other.url)
    assert "expected a report of me/tireid, got one of me/other" in capsys.readouterr().err
    assert [view["displayName"] for view in server.views.values()] == ["theirs"]


def test_a_project_that_is_not_there_is_not_made(server, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--project", "tierid")
    assert "tierid" in capsys.readouterr().err
    assert "CreateProject" not in server.requests
    assert not server.views


def test_a_data_set_without_finished_runs_is_said(server, monkeypatch, capsys):
    server.runs[0] |= {"state": "running"}
    for words in (["--dataset", "synthetic"], ["--dataset", "cuhk_pedes", "--group", "mine"]):
        with pytest.raises(SystemExit):
            run(monkeypatch, *words)
        said = capsys.readouterr().err
        assert f"me/tireid: expected finished runs on {words[1]}" in " ".join(said.split())
    assert not server.views


def test_panels_of_what_no_run_has_logged_are_left_out(server):
    def shown():
        send(Scope("me", "tireid", "synthetic"))
        text = json.dumps(content(server))
        return "gallery_test" in text, "gradient_share" in text

    assert shown() == (True, True)
    server.runs[0] = server.runs[0] | {"config.model/gradient_share_steps": 0}
    del server.runs[0]["summary_metrics.gallery_test"]
    assert shown() == (False, False)


def test_charts_are_kept_once_and_drawn_by_their_names(server):
    send(Scope("me", "tireid", "cuhk_pedes"))
    kept = dict(server.charts)
    send(Scope("me", "tireid", "cuhk_pedes"))
    assert server.charts == kept
    drawn = {
        panel["config"]["panelDefId"]
        for block in content(server)["blocks"]
        if block["type"] == "panel-grid"
        for panel in block["metadata"]["panelBankSectionConfig"]["panels"]
        if panel["viewType"] == "Vega2"
    }
    assert drawn == {f"me/{name}" for name in kept}
    assert len(kept) == 2


def test_charts_that_the_server_refuses_are_left_out_and_said(server, capsys):
    server.refuse = 403
    send(Scope("me", "tireid", "synthetic"))
    said = capsys.readouterr().out
    assert said.count("left out: the chart") == 2
    assert "refused here" in said
    assert "Vega2" not in json.dumps(content(server))
    assert "Run History Line Plot" in json.dumps(content(server))


def test_run_sets_name_their_project_by_its_number(server):
    send(Scope("me", "tireid", "synthetic"))
    grids = [block for block in content(server)["blocks"] if block["type"] == "panel-grid"]
    projects = [runs["project"] for grid in grids for runs in grid["metadata"]["runSets"]]
    assert len(projects) == len(grids) > 4
    assert all(p == {"name": "tireid", "entityName": "me", "id": "7"} for p in projects)


def test_a_dry_run_writes_what_would_be_sent_without_key_or_network(
    unreachable, monkeypatch, tmp_path, capsys
):
    run(monkeypatch, "--dataset", "cuhk_pedes", "--dry-run", str(tmp_path / "a" / "b.json"))
    written = json.loads((tmp_path / "a" / "b.json").read_text(encoding="utf-8"))
    assert written["report"]["displayName"] == "Methods compared on cuhk_pedes"
    assert (written["report"]["entityName"], written["report"]["projectName"]) == ("me", "tireid")
    assert len(written["charts"]) == 2
    assert "written, not sent" in capsys.readouterr().out


def test_a_dry_run_is_what_is_sent(server, tmp_path):
    scope = Scope("me", "tireid", "rstpreid")
    write(scope, tmp_path / "a.json")
    written = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert not server.requests
    send(scope)
    assert {chart["name"]: chart["spec"] for chart in written["charts"]} == server.charts
    assert without_identity(written["report"]["spec"]) == without_identity(content(server))


def without_identity(node):
    """Leave out random names, and the projects that only the server knows."""
    if isinstance(node, dict):
        left = {"id", "__id__", "project"}
        return {name: without_identity(value) for name, value in node.items() if name not in left}
    return [without_identity(item) for item in node] if isinstance(node, list) else node


@pytest.mark.parametrize("name", ["wandb", "wandb_workspaces"])
def test_without_the_client_it_says_what_to_install(monkeypatch, capsys, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch)
    assert stop.value.code == 1
    assert f"expected {name}, got none: pip install -e '.[wandb]'" in capsys.readouterr().err


@pytest.mark.slow
def test_without_a_key_it_says_what_to_do_and_does_not_ask(tmp_path):
    """On a terminal, where wandb would ask for one."""
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    places = {"HOME": tmp_path, "NETRC": tmp_path / "netrc", "WANDB_CONFIG_DIR": tmp_path}
    process = subprocess.Popen(
        [sys.executable, "-m", "tireid", "dashboard"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=kept | {name: str(place) for name, place in places.items()},
    )
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 4096):
            said += part
    except OSError:  # the other end is closed
        pass
    assert process.wait(timeout=60) == 1
    lines = said.decode().splitlines()
    assert len(lines) == 1
    assert "run `wandb login` once, or set WANDB_API_KEY" in lines[0]
    assert not [path for path in Path(tmp_path).rglob("*") if path.is_file()]


def test_kept_off_the_network_it_says_so(server, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(SystemExit):
        run(monkeypatch)
    assert "error: WANDB_MODE=offline: expected online or nothing" in capsys.readouterr().err
    assert not server.requests


def test_a_name_that_a_filter_cannot_hold_is_an_error(server, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--group", "o'clock")
    assert "group: expected letters, digits" in capsys.readouterr().err
    assert not server.requests
