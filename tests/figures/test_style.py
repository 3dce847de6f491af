"""Saved figures do not take over the style that a notebook has set."""

import io

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from tireid.callbacks.query_images import similarity_plot
from tireid.callbacks.result_gallery import GalleryRow, draw_gallery
from tireid.callbacks.training_curves import draw_curves
from tireid.comparison.chart import draw_results
from tireid.comparison.report.style import Style, drawing, figure, swatch
from tireid.figures import own_style
from tireid.retrieval.query_results import QueryResults
from tireid.runs.results import Result
from tireid.sweeps.chart import draw_study
from tireid.sweeps.study import Trial, read_space

ODD = r"$\alpha_1 50 % \frac{ {行} $x #&_^"
STYLES = [
    {"figure.facecolor": "black", "axes.facecolor": "black", "text.color": "white"},
    {"font.size": 30, "savefig.dpi": 20, "savefig.bbox": "tight", "axes.grid": True},
    {"text.usetex": True, "axes.formatter.use_locale": True, "lines.linewidth": 9},
]


def gallery(folder):
    Image.new("RGB", (16, 40), "#808080").save(folder / "a.png")
    row = GalleryRow(ODD, folder / "a.png", [folder / "a.png"] * 2, [0.5, 0.25], [True, False])
    draw_gallery([row], folder / "out.png", "a title")
    return folder / "out.png"


def results(folder):
    fields = {"dataset": "synthetic", "selection": "val", "steps": 2, "seconds": 1.0}
    fields |= {"images_per_second": 1.0, "parameters": 1, "test_data": "f", "settings": "5"}
    metrics = {"test/R1": 40.0, "test/mAP": 30.0}
    both = [Result(label=ODD, seed=s, commit="", metrics=metrics, **fields) for s in (1, 2)]
    draw_results(both, folder / "out.png", ODD)
    return folder / "out.png"


def curves(folder):
    columns = {"train/loss": [(0, 4.0), (9, 0.5)], "val/R1": [(5, 10.0), (9, 20.0)]}
    draw_curves(columns, folder / "out.png")
    return folder / "out.png"


def study(folder):
    pytest.importorskip("optuna", reason="needs the extra `sweep`")
    space = read_space({"a.b": {"float": [0.001, 1.0], "log": True}})
    trials = [Trial(n, folder, (f"a.b={0.01 * (n + 1)}",), "complete", 10.0 + n) for n in range(2)]
    draw_study(trials, space, "val/R1", folder / "out.png")
    return folder / "out.png"


def similarities(folder):
    counts = np.arange(4, dtype=np.int64)
    found = QueryResults(
        pids=np.zeros(1, np.int64),
        first_rank=np.ones(1, np.int32),
        own=np.zeros(1, np.int32),
        found=np.zeros((1, 1), np.int32),
        scores=np.zeros((1, 1), np.float32),
        right=np.ones((1, 1), bool),
        values={},
        edges=np.linspace(-1, 1, 5),
        positives=counts,
        negatives=counts[::-1].copy(),
    )
    file = io.BytesIO()
    similarity_plot(found).save(file, "PNG")
    (folder / "out.png").write_bytes(file.getvalue())
    return folder / "out.png"


def page(folder):
    with drawing(3.0, 2.0) as drawn:
        drawn.add_subplot().set_title(ODD)
        source = figure(drawn, "").source
    (folder / "out").write_text(source + swatch(Style.of(0)))
    return folder / "out"


@pytest.mark.parametrize("draw", [gallery, results, curves, study, similarities, page])
def test_a_figure_is_the_same_under_any_style(draw, tmp_path):
    expected = draw(tmp_path).read_bytes()
    for changed in STYLES:
        with mpl.rc_context(changed):
            assert draw(tmp_path).read_bytes() == expected
            assert mpl.rcParams[next(iter(changed))] == next(iter(changed.values()))


def test_settings_of_its_own_hold_inside_and_the_callers_come_back():
    with mpl.rc_context({"font.size": 30}):
        with own_style({"text.parse_math": False}):
            assert (mpl.rcParams["font.size"], mpl.rcParams["text.parse_math"]) == (10.0, False)
        assert (mpl.rcParams["font.size"], mpl.rcParams["text.parse_math"]) == (30.0, True)
