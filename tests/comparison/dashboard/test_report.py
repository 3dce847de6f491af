"""What the report shows: every panel by name, its runs, and the published results."""

import json
import re
from dataclasses import replace

import pytest
from wandb_workspaces.reports.v2.internal import PanelGrid, ReportViewspec, UnknownPanel

from tireid.comparison.dashboard.charts import seed_chart, seed_charts
from tireid.comparison.dashboard.report import Scope, build
from tireid.comparison.dashboard.server import request_of
from tireid.comparison.published import read_published
from tireid.comparison.table import escaped
from tireid.metrics.names import compared, headlines

pytestmark = pytest.mark.usefixtures("unreachable")
SCOPE = Scope("me", "tireid", "cuhk_pedes", group="like_for_like")


def built(scope=SCOPE):
    published = read_published(scope.dataset)
    return build(scope, published, seed_charts(published))


def grids(spec):
    return [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]


def panels(spec):
    return [panel for grid in grids(spec) for panel in grid["panelBankSectionConfig"]["panels"]]


def text(spec):
    """All that is written between the panels."""
    said = []
    for block in spec["blocks"]:
        said += [block.get("content", ""), *(child["text"] for child in block["children"])]
    return "\n".join(said)


@pytest.fixture(scope="module")
def spec():
    return request_of(built())["spec"]


def shown(spec, kind):
    return [panel["config"] for panel in panels(spec) if panel["viewType"] == kind]


def test_bars_are_the_metrics_of_both_splits_with_their_deviation(spec):
    bars = shown(spec, "Bar Chart")
    drawn = [metric for bar in bars for metric in bar["metrics"]]
    assert drawn == [*headlines("val/"), *compared("test/")]
    assert {"val/R1", "val/mAP", "test/R1", "test/R10", "test/mAP", "test/mINP"} <= set(drawn)
    assert {(bar["groupAgg"], bar["groupArea"]) for bar in bars} == {("mean", "stddev")}


def test_curves_are_validation_losses_and_gradients_with_their_range(spec):
    lines = shown(spec, "Run History Line Plot")
    assert [line["metrics"] or line["metricRegex"] for line in lines] == [
        ["val/R1"],
        ["val/mAP"],
        ["train/loss"],
        "^train/loss_",
        "^train/gradient_share_",
    ]
    assert {line["xAxis"] for line in lines} == {"trainer/global_step"}
    assert {(line["groupAgg"], line["groupArea"]) for line in lines} == {("mean", "minmax")}


def test_every_cost_is_drawn_against_both_qualities(spec):
    costs = ("train_seconds", "images_per_second", "peak_memory_mib", "parameters_million")
    assert [(plot["xAxis"], plot["yAxis"]) for plot in shown(spec, "Scatter Plot")] == [
        (f"summary:cost/{cost}", f"summary:test/{quality}")
        for cost in costs
        for quality in ("R1", "mAP")
    ]


def test_queries_galleries_and_similarities_are_those_of_each_run(spec):
    (table,) = shown(spec, "Weave")
    assert table["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"] == "queries"
    media = [browser["mediaKeys"] for browser in shown(spec, "Media Browser")]
    assert media == [["gallery_test"], ["similarity/spread"]]


def test_charts_ask_the_runs_for_what_they_draw(spec):
    presets = seed_charts(read_published("cuhk_pedes"))
    charts = shown(spec, "Vega2")
    assert [chart["fieldSettings"]["value"] for chart in charts] == ["test/R1", "test/mAP"]
    for chart, preset in zip(charts, presets, strict=True):
        assert chart["panelDefId"] == f"me/{preset.name}"
        fields = chart["userQuery"]["queryFields"][0]["fields"]
        asked = {f["name"]: f["args"][0]["value"] for f in fields if f.get("args")}
        assert asked == {
            "summary": [preset.metric],
            "config": ["label", "encoders", "selection", "settings", "seed"],
        }
        assert set(chart["fieldSettings"].values()) == {*asked["summary"], *asked["config"]}
        used = re.findall(r"\$\{field:([^}]+)\}", json.dumps(preset.spec))
        assert set(used) == set(chart["fieldSettings"])


def test_every_grid_takes_the_training_runs_of_the_group_on_the_data_set(spec):
    of_all = [
        ("tags", "IN", ["cuhk_pedes"]),
        ("jobType", "=", "train"),
        ("group", "=", "like_for_like"),
    ]
    found = [
        [(part["key"]["name"], part["op"], part["value"]) for part in runs["filters"]["filters"]]
        for grid in grids(spec)
        for runs in grid["runSets"]
    ]
    finished = [*of_all, ("state", "=", "finished")]
    assert found == [finished, finished, of_all, *[finished] * 4]


def test_runs_are_grouped_by_settings():
    """By the names under which runs log them; `value` is the server's."""
    (grid, *_) = grids(request_of(built(replace(SCOPE, by=("label", "model.head.parts"))))["spec"])
    assert grid["runSets"][0]["grouping"] == [
        {"section": "config", "name": "label.value"},
        {"section": "config", "name": "model/head/parts.value"},
    ]


def test_panels_do_not_overlap(spec):
    for grid in grids(spec):
        cells = [
            (x, y)
            for panel in grid["panelBankSectionConfig"]["panels"]
            for at in [panel["layout"]]
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        ]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < 24


def test_published_results_are_rows_with_their_sources(spec):
    said = text(spec)
    published = read_published("cuhk_pedes")
    assert len(published) > 5
    for row in published:
        figures = [
            f"{row.metrics[m]:.2f}" if m in row.metrics else "-" for m in ("R1", "R5", "R10", "mAP")
        ]
        cells = [f"{row.method} ({row.year})", row.image_encoder, row.text_encoder, row.dataset]
        assert f"| {' | '.join(map(escaped, [*cells, *figures, row.source]))} |" in said
    assert "icfg" not in said.lower()


@pytest.mark.parametrize("metric", ["R1", "mAP"])
def test_reference_lines_are_the_published_results(metric):
    published = read_published("cuhk_pedes")
    _, *layers = seed_chart(f"test/{metric}", published).spec["layer"]
    (rule,) = [layer for layer in layers if layer["mark"]["type"] == "rule"]
    expected = sorted(row.metrics[metric] for row in published if metric in row.metrics)
    assert [row["value"] for row in rule["data"]["values"]] == expected
    named = [
        row["name"]
        for layer in layers
        if layer["mark"]["type"] == "text"
        for row in layer["data"]["values"]
    ]
    assert sorted(named) == sorted(row["name"] for row in rule["data"]["values"])
    assert len(named) == len(set(named))


def test_synthetic_data_have_no_reference_lines_and_the_report_says_so():
    spec = request_of(built(Scope("me", "tireid", "synthetic")))["spec"]
    assert "There are no published results on synthetic." in text(spec)
    assert "CUHK" not in text(spec)
    chart = seed_chart("test/R1", read_published("synthetic"))
    assert len(chart.spec["layer"]) == 1
    assert "published" not in chart.title


def test_it_says_what_chose_what_and_what_it_is_not_for(spec):
    said = text(spec)
    assert "chosen on the validation split" in said
    assert "consent" in said


def test_a_chart_of_another_content_has_another_name():
    published = read_published("cuhk_pedes")
    one = seed_chart("test/R1", published)
    others = [
        seed_chart("test/mAP", published),
        seed_chart("test/R1", published[1:]),
        seed_chart("test/R1", []),
    ]
    assert len({one.name, *(other.name for other in others)}) == 4
    assert seed_chart("test/R1", published).name == one.name


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dataset", ["cuhk_pedes", "synthetic"])
def test_the_client_can_load_the_report_and_knows_every_panel(dataset):
    spec = request_of(built(replace(SCOPE, dataset=dataset)))["spec"]
    loaded = ReportViewspec.model_validate({"spec": json.dumps(spec)}).spec
    shown = [
        panel
        for block in loaded.blocks
        if isinstance(block, PanelGrid)
        for panel in block.metadata.panel_bank_section_config.panels
    ]
    assert len(shown) == len(panels(spec)) > 20
    assert not [panel for panel in shown if isinstance(panel, UnknownPanel)]


@pytest.mark.parametrize("group", ["like_for_like", "2026-11 a.b @x+y"])
def test_names_reach_the_filter_as_they_are(group):
    runs = request_of(built(replace(SCOPE, group=group)))["spec"]
    (grid, *_) = grids(runs)
    assert grid["runSets"][0]["filters"]["filters"][2]["value"] == group


@pytest.mark.parametrize("name", ["a'b", 'a"b', "a/b", "a(b)", ""])
def test_other_names_are_errors(name):
    with pytest.raises(ValueError, match="group: expected letters"):
        replace(SCOPE, group=name)


def test_a_title_that_is_too_long_is_an_error():
    with pytest.raises(ValueError, match="take a shorter group"):
        replace(SCOPE, group="x" * 120)
