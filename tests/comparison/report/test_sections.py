"""The sections of a report, against values computed by hand or from the data."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tireid.comparison.published import read_published
from tireid.comparison.report import load_comparison
from tireid.comparison.report.blocks import Figures, Fold, Note, Query, Table
from tireid.comparison.report.caption_groups import caption_group_tables, caption_groups
from tireid.comparison.report.costs import costs
from tireid.comparison.report.cross_domain import cross_domain
from tireid.comparison.report.curves import curves
from tireid.comparison.report.differences import differences
from tireid.comparison.report.explanations import explanations
from tireid.comparison.report.galleries import disagreements, galleries
from tireid.comparison.report.head import head
from tireid.comparison.report.similarities import similarities
from tireid.comparison.report.tables import results
from tireid.comparison.significance import paired_difference
from tireid.runs.results import Result, Runs, read_runs

PLAIN, LCR2S, LGUR = "plain <b>|*tower*", "LCR2S, made up", "LGUR, made up"


def result(label="a", seed=1, **other):
    fields = {
        "dataset": "synthetic",
        "selection": "val",
        "steps": 200,
        "seconds": 3600.0,
        "images_per_second": 100.0,
        "parameters": 2_340_000,
        "test_data": "f00",
        "settings": "5e7",
        "commit": "",
        "metrics": {"test/R1": 50.0},
    }
    return Result(label=label, seed=seed, **fields | other)


def of_table(*results):
    """A report of a CSV file, which tells nothing but results."""
    return load_comparison({Path("kept.csv"): Runs(list(results), [])})


def tables(section):
    return [block for block in section.blocks if isinstance(block, Table)]


def notes(section):
    return " ".join(block.text for block in section.blocks if isinstance(block, Note))


def column(table, name):
    """Cells of a column by the first cell of their line."""
    place = list(table.head).index(name)
    return {line.cells[0].removesuffix(" (control)"): line.cells[place] for line in table.lines}


def test_metrics_are_means_over_seeds_beside_encoders(comparison):
    table = tables(results(comparison))[0]
    row = next(row for row in comparison.rows if row.name == LGUR)
    values = [100 * float(q.values["R1"].mean()) for q in row.queries]
    shown = f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    assert column(table, "R@1")[LGUR] == shown
    assert column(table, "val mAP")[LGUR] != "-"  # no column of a CSV file: from the record
    assert column(table, "image encoder")[LGUR] == "ResNet"
    assert column(table, "text encoder")[LGUR] == "BiLstm"
    assert [line.mark for line in table.lines] == ["control", "", ""]
    assert len({line.swatch for line in table.lines}) == 3


def test_the_oracle_is_apart_and_called_so(comparison):
    first, second = tables(results(comparison))
    assert "ORACLE" not in str(first) + notes(results(comparison)).split("Teachers.")[0]
    assert [line.mark for line in second.lines] == ["oracle"]
    assert second.lines[0].cells[:3] == [
        LCR2S,
        "ORACLE: teacher, supports from the test identities",
        "77.7 ± 0.0",
    ]
    assert "no retrieval result" in notes(results(comparison))


def test_published_results_stand_beside_runs_on_the_same_data_only(comparison):
    table = tables(results(of_table(result(dataset="cuhk_pedes"))))[0]
    published = [line for line in table.lines if line.mark == "published"]
    expected = read_published("cuhk_pedes")
    assert len(published) == len(expected) > 3
    for line, one in zip(published, expected, strict=True):
        cells = dict(zip(table.head, line.cells, strict=True))
        assert cells["run"].startswith(f"{one.method} ({one.year})")
        assert float(cells["R@1"]) == one.metrics["R1"]
        assert cells["source"] == one.source
    made = results(comparison)
    assert not [line for line in tables(made)[0].lines if line.mark == "published"]
    assert "There are no published results on synthetic" in notes(made)
    fold = next(block for block in made.blocks if isinstance(block, Fold))
    warning, folded = fold.blocks
    assert isinstance(warning, Note)
    assert warning.warning
    assert isinstance(folded, Table)
    assert len(folded.lines) == len(read_published())
    for line, one in zip(folded.lines, read_published(), strict=True):
        for name, metric in (("R@1", "R1"), ("R@5", "R5"), ("R@10", "R10"), ("mAP", "mAP")):
            cell = line.cells[list(folded.head).index(name)]
            assert (None if cell == "-" else float(cell)) == one.metrics.get(metric)


def test_other_files_and_a_choice_on_test_are_said_in_red():
    comparison = of_table(result(), result("b", test_data="bad", selection="test"))
    section = head(comparison, when="now", command="tireid compare")
    warning = next(b for b in section.blocks if isinstance(b, Note) and b.warning)
    assert "CHOSEN ON TEST" in warning.text
    assert warning.text.endswith("b (CHOSEN ON TEST).")
    shown = results(comparison)
    assert any(isinstance(b, Note) and b.warning and "same files" in b.text for b in shown.blocks)
    assert list(column(tables(shown)[0], "test files").values()) == ["f00", "bad"]
    assert [line.mark for line in tables(shown)[0].lines] == ["", "warning"]
    assert "No two rows were tested on the same files" in notes(differences(comparison))
    assert "There is only one row" in notes(differences(of_table(result())))


def test_a_control_is_one_only_where_others_are_compared_with_it_and_not_one_chosen_on_test():
    comparison = of_table(
        result("baseline, best on test", selection="test"), result("baseline"), result("b")
    )
    assert [line.mark for line in tables(results(comparison))[0].lines] == [
        "warning",
        "control",
        "",
    ]
    (lonely,) = tables(results(of_table(result())))[0].lines
    assert (lonely.cells[0], lonely.mark) == ("a", "")


def test_the_head_counts_runs_and_lists_what_failed(comparison):
    facts, failed = tables(head(comparison, when="now", command="c"))
    assert ["runs", "6 runs in 3 rows; 1 failed"] in [line.cells for line in facts.lines]
    assert failed.lines[0].cells[1:] == ["failed", "ValueError: a <i>bad</i> value"]


def test_differences_are_those_of_the_bootstrap_against_the_control(comparison):
    section = differences(comparison, resamples=300)
    table = tables(section)[0]
    rows = {row.name: row for row in comparison.rows}
    one = paired_difference(rows[PLAIN].queries, rows[LGUR].queries, "R1", resamples=300)
    assert one.clear
    shown = column(table, "R@1 [95 %]")
    assert shown[LGUR] == f"+{one.mean:.1f} [+{one.low:.1f}, +{one.high:.1f}]"
    assert list(shown) == [LCR2S, LGUR]
    figures = next(block for block in section.blocks if isinstance(block, Figures)).figures
    assert len(figures) == 2
    assert shown[LGUR] in figures[0].alt


def test_any_row_may_be_the_control(made_runs):
    read = {made_runs: read_runs(made_runs)}
    comparison = load_comparison(read, control=LGUR)
    table = tables(differences(comparison, resamples=100))[0]
    assert list(column(table, "mAP [95 %]")) == [PLAIN, LCR2S]
    assert all(v.startswith("\N{MINUS SIGN}") for v in column(table, "mAP [95 %]").values())
    with pytest.raises(ValueError, match=r"control: expected one of plain.*; got 'LGUR'"):
        load_comparison(read, control="LGUR")


def test_the_control_is_the_baseline_of_the_same_encoders():
    def row(label, encoder, model):
        settings = {
            "image_encoder": {"module": {"_target_": f"tireid.encoders.x.{encoder}Encoder"}},
            "model": {"_target_": f"tireid.methods.{model}"},
        }
        return label, settings

    labels = [
        row("first", "Vit", "lgur.Lgur"),
        row("plain vit", "Vit", "baseline.Baseline"),
        row("plain resnet", "ResNet", "baseline.Baseline"),
        row("other", "ResNet", "lgur.Lgur"),
        row("lonely", "Clip", "lgur.Lgur"),
    ]
    comparison = of_table(*(result(label) for label, _ in labels))
    rows = [
        replace(row, runs=[replace(row.runs[0], settings=settings)])
        for row, (_, settings) in zip(comparison.rows, labels, strict=True)
    ]
    comparison = replace(comparison, rows=rows)
    assert [comparison.control_of(row).name for row in rows] == [
        *("plain vit", "plain vit", "plain resnet", "plain resnet", "plain vit")
    ]


def test_sections_say_what_runs_did_not_record():
    comparison = of_table(result("baseline"), result("b"))
    assert "not recorded by these runs" in notes(differences(comparison))
    assert notes(similarities(comparison)) == "Not recorded by these runs."
    assert notes(curves(comparison)) == "Not recorded by these runs."
    assert galleries(comparison) is None
    assert caption_group_tables(comparison) is None
    assert explanations(comparison) is None
    assert column(tables(costs(comparison))[0], "training, hours") == {
        "baseline": "1.0",
        "b": "1.0",
    }


def test_curves_are_means_of_what_was_logged(comparison):
    section = curves(comparison)
    (figures,) = section.blocks[1:]
    assert isinstance(figures, Figures)
    assert [name for name, _ in figures.key] == [row.name for row in comparison.rows]
    assert [one.title for one in figures.figures] == [
        *("validation R@1, percent", "validation mAP, percent", "training loss")
    ]
    assert f"{LGUR}: 30.0" in figures.figures[0].alt  # of 20 and 40
    assert f"{LGUR}: 2.0" in figures.figures[2].alt


def test_validations_of_the_record_stand_for_a_log_that_is_missing(comparison):
    run = replace(
        comparison.rows[0].runs[0],
        curves={},
        record={"validations": [{"epoch": 0, "val/R1": 3.0}, {"epoch": 1, "val/R1": 8.0}]},
    )
    alone = replace(comparison, rows=[replace(comparison.rows[0], runs=[run])])
    figures = curves(alone).blocks[-1]
    assert isinstance(figures, Figures)
    assert len(figures.figures) == 1
    assert "8.0" in figures.figures[0].alt


def test_a_teacher_is_a_price_of_its_student(comparison):
    table = tables(costs(comparison))[0]
    assert column(table, "training, minutes") == {PLAIN: "1.5", LCR2S: "1.5", LGUR: "1.5"}
    assert column(table, "teacher, minutes") == {PLAIN: "-", LCR2S: "4.5", LGUR: "-"}
    assert column(table, "both, minutes")[LCR2S] == "6.0"
    assert column(table, "peak memory, MiB")[LGUR] == "1002 ± 1"
    assert column(table, "of them trained")[LGUR] == "1.5"


def test_all_are_charged_for_a_shared_teacher_as_far_as_it_is_known(comparison):
    row = next(row for row in comparison.rows if row.name == LCR2S)

    def taught(name, seconds):
        runs = [
            replace(
                r, record=r.record | {"teacher": {"seconds": seconds, "run": f"{r.result.seed}"}}
            )
            for r in row.runs
        ]
        return replace(row, name=name, runs=runs)

    shared = replace(comparison, rows=[taught("trained", 240.0), taught("shared", 2.0)])
    assert column(tables(costs(shared))[0], "both, minutes") == {"trained": "5.5", "shared": "5.5"}
    alone = tables(costs(replace(comparison, rows=[taught("shared", 2.0)])))[0]
    assert column(alone, "teacher, minutes") == {"shared": "reused"}
    assert column(alone, "both, minutes") == {"shared": "-"}


def test_right_pairs_above_wrong_ones_are_counted(comparison):
    row = comparison.rows[0]
    zeros = np.zeros_like(row.queries[0].positives)
    positives, negatives = zeros.copy(), zeros.copy()
    positives[[50, 150]] = [1, 3]
    negatives[[100, 150]] = [1, 1]
    queries = replace(row.queries[0], positives=positives, negatives=negatives)
    alone = replace(comparison, rows=[replace(row, runs=[replace(row.runs[0], queries=queries)])])
    # Of 8 pairs of pairs: 3 above, and 3 in one bin, which count half.
    figures = similarities(alone).blocks[1]
    assert isinstance(figures, Figures)
    assert figures.figures[0].title == f"{PLAIN}: {100 * 4.5 / 8:.1f} %"


def test_groups_of_captions_are_read_from_the_ground_truth(comparison, made_data):
    section = caption_group_tables(comparison)
    assert section is not None
    found = tables(section)
    root = next(iter(comparison.splits.values())).root
    groupings = caption_groups(root, made_data)
    assert len(found) == len(groupings)
    row = next(row for row in comparison.rows if row.name == LCR2S)
    group = groupings["attribute in the caption"]["hair"]
    values = [100 * q.values["R1"][group].mean() for q in row.queries]
    shown = column(found[1], f"hair ({len(group)})")[LCR2S]
    assert shown == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def test_disagreements_are_first_here_and_far_there_in_every_seed(comparison):
    queries = comparison.rows[0].queries[0]

    def ranked(*ranks):
        return replace(queries, first_rank=np.array([*ranks, *[5] * (64 - len(ranks))]))

    first = [ranked(1, 1, 1, 2, 1, 1), ranked(1, 1, 1, 1, 1, 3)]
    second = [ranked(11, 10, 99, 99, 11, 99), ranked(40, 99, 99, 99, 12, 99)]
    assert disagreements(first, second).tolist() == [0, 2, 4]
    assert disagreements(second, first).tolist() == []


def test_galleries_show_what_was_found_with_marks_and_words(comparison, made_data):
    section = galleries(comparison)
    assert section is not None
    folds = [block for block in section.blocks if isinstance(block, Fold)]
    assert [fold.opened for fold in folds].count(True) == 1
    assert len(folds) == 3  # few rows: each against each
    fold = next(fold for fold in folds if LGUR in fold.summary and PLAIN in fold.summary)
    found = [block for block in fold.blocks if isinstance(block, Query)]
    assert 1 <= len(found) <= 3
    captions = [caption for record in made_data for caption in record.captions]
    rows = {row.name: row for row in comparison.rows}
    expected = disagreements(rows[LGUR].queries, rows[PLAIN].queries)
    for query in found:
        assert captions.index(query.caption) in expected
        winner, loser = query.answers
        assert (winner.method, loser.method) == (LGUR, PLAIN)
        assert winner.rank == "first correct image at rank 1, 1"
        assert winner.images[0].correct
        assert not any(one.correct for one in loser.images)
        assert winner.images[0].alt == f"Rank 1 of {LGUR}: the correct identity"
        assert len(winner.images) == 5
        assert query.described is not None
    assert fold.blocks[0] == Note(
        f"Found by {LGUR} and not by {PLAIN}: {len(expected)} of 64 queries"
        f"{'.' if len(found) == len(expected) else f', of which {len(found)} are shown.'}"
    )


def test_images_are_replaced_by_a_reason_if_the_data_differ_or_are_missing(
    made_runs, tmp_path, comparison
):
    run = shutil.copytree(made_runs / "lgur", tmp_path / "runs" / "lgur")
    shutil.copytree(made_runs / "baseline", tmp_path / "runs" / "baseline")
    for folder in tmp_path.glob("runs/*/seed*"):
        record = json.loads((folder / "metrics.json").read_text())
        record["data_sha256"]["test"] = "0" * 64
        (folder / "metrics.json").write_text(json.dumps(record))
    section = galleries(load_comparison({run.parent: read_runs(run.parent)}))
    assert section is not None
    assert "holds another test split" in notes(section)
    for config in tmp_path.glob("runs/*/seed*/config.yaml"):
        settings = yaml.safe_load(config.read_text())
        settings["dataset"]["read"]["cache_dir"] = str(tmp_path / "nowhere")
        config.write_text(yaml.safe_dump(settings))
    section = galleries(load_comparison({run.parent: read_runs(run.parent)}))
    assert section is not None
    assert "nowhere" in notes(section)
    assert "no such folder" in notes(section)
    told = caption_group_tables(load_comparison({run.parent: read_runs(run.parent)}))
    assert told is not None
    assert "no such folder" in notes(told)
    assert not (tmp_path / "nowhere").exists()
    assert not [block for block in section.blocks if isinstance(block, Fold)]


def test_images_of_real_people_are_left_out_unless_asked_for(made_runs, tmp_path):
    """The synthetic data set under the name of a real one."""
    runs = tmp_path / "runs"
    for model in ("baseline", "lgur"):
        shutil.copytree(made_runs / model, runs / model)
    world = next(iter(load_comparison({made_runs: read_runs(made_runs)}).splits.values())).root
    for config in runs.glob("*/seed*/config.yaml"):
        settings = yaml.safe_load(config.read_text())
        settings["dataset"] |= {
            "name": "cuhk_pedes",
            "root": str(world),
            "terms": "research only",
            "read": {
                "_target_": "tireid.data.cuhk_pedes.read_cuhk_pedes",
                "_partial_": True,
                "root": str(world),
            },
        }
        config.write_text(yaml.safe_dump(settings))
        drawn = config.parent / "explanations"
        drawn.mkdir()
        Image.new("RGB", (30, 20)).save(drawn / "overview.png")
    read = {runs: read_runs(runs)}
    shy = load_comparison(read)
    section = galleries(shy)
    assert section is not None
    assert "real people and has terms of use (research only)" in notes(section)
    assert not [block for block in section.blocks if isinstance(block, Fold)]
    hidden = explanations(shy)
    assert hidden is not None
    assert not [block for block in hidden.blocks if isinstance(block, Fold)]
    bold = load_comparison(read, pictures=True)
    section = galleries(bold)
    assert section is not None
    assert [block for block in section.blocks if isinstance(block, Fold)]
    shown = explanations(bold)
    assert shown is not None
    assert [block for block in shown.blocks if isinstance(block, Fold)]


def test_explanations_of_the_run_folders_are_shown_smaller(made_runs, tmp_path):
    run = shutil.copytree(made_runs / "lgur", tmp_path / "lgur")
    folder = run / "seed2" / "explanations"
    folder.mkdir()
    for name in ("overview.png", "atoms.png", "query_00001.png"):
        Image.new("RGB", (3000, 1500)).save(folder / name)
    section = explanations(load_comparison({run: read_runs(run)}))
    assert section is not None
    fold = section.blocks[1]
    assert isinstance(fold, Fold)
    figures = fold.blocks[0]
    assert isinstance(figures, Figures)
    assert [one.title for one in figures.figures] == ["captions and images", "dictionary atoms"]
    assert {one.width for one in figures.figures} == {1000}


def test_an_image_that_cannot_be_shown_stops_no_report(made_runs, tmp_path):
    run = shutil.copytree(made_runs / "lgur", tmp_path / "lgur")
    folder = run / "seed1" / "explanations"
    folder.mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "secret.png")
    (folder / "overview.png").symlink_to(tmp_path / "secret.png")
    (folder / "atoms.png").write_bytes(b"no image")
    os.mkfifo(folder / "supports.png")
    section = explanations(load_comparison({run: read_runs(run)}))
    assert section is not None
    fold = section.blocks[1]
    assert isinstance(fold, Fold)
    texts = [block.text for block in fold.blocks if isinstance(block, Note)]
    for text, reason in zip(
        texts,
        (
            "expected a file inside",
            "expected a readable image",
            "expected a regular file, got a pi",
        ),
        strict=True,
    ):
        assert reason in text
    assert [block for block in fold.blocks if isinstance(block, Figures)] == [Figures([])]


BROKEN = {
    "metrics.csv": b"epoch,step,train/loss\n0,x,1\n",
    "queries_test.npz": b"PK\x03\x04",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_read_is_a_note(made_runs, tmp_path, name):
    run = shutil.copytree(made_runs / "lgur", tmp_path / "lgur")
    (run / "seed1" / name).write_bytes(BROKEN[name])
    found = load_comparison({run: read_runs(run)})
    assert len(found.notes) == 1
    assert f"{name}: expected" in found.notes[0]


def test_rows_of_one_label_get_names_that_tell_them_apart():
    read = {
        Path("first"): Runs([result(), result("b"), result("c")], []),
        Path("second.csv"): Runs(
            [result(steps=400), result("b", settings="x"), result("d"), result("d", settings="y")],
            [],
        ),
    }
    assert [row.name for row in load_comparison(read).rows] == [
        *("a, 200 steps", "b, first", "c", "a, 400 steps", "b, second.csv"),
        *("d, settings 5e7", "d, settings y"),
    ]


def test_a_damaged_record_of_queries_is_said_and_the_rest_is_told(made_runs, tmp_path):
    run = shutil.copytree(made_runs / "lgur", tmp_path / "lgur")
    (run / "seed1" / "queries_test.npz").write_bytes(b"PK broken")
    comparison = load_comparison({run: read_runs(run)})
    assert "queries_test.npz" in comparison.notes[0]
    assert comparison.rows[0].queries == []
    assert column(tables(results(comparison))[0], "seeds")[LGUR] == "2"


@pytest.mark.parametrize(("tested", "fits"), [("a" * 64, True), ("b" * 64, False)])
def test_queries_of_a_later_evaluation_count_if_it_was_of_the_same_test(
    made_runs, tmp_path, tested, fits
):
    run = shutil.copytree(made_runs / "lgur", tmp_path / "lgur")
    for folder in run.glob("seed*"):
        record = json.loads((folder / "metrics.json").read_text())
        record |= {"tested_checkpoint": "epoch001_R1_9.00.ckpt", "data_sha256": {"test": tested}}
        (folder / "metrics.json").write_text(json.dumps(record))
        (folder / "queries_test.npz").rename(folder / "queries_test_epoch001_R1_9.00.npz")
        evaluation = {"checkpoint": "epoch001_R1_9.00.ckpt", "data_sha256": "a" * 64}
        (folder / "evaluation_test_epoch001_R1_9.00.json").write_text(json.dumps(evaluation))
    comparison = load_comparison({run: read_runs(run)})
    assert [run.queries is not None for run in comparison.rows[0].runs] == [fits, fits]


def test_a_seed_without_a_record_of_queries_is_not_said_of_all(made_runs, tmp_path):
    for model in ("baseline", "lgur"):
        shutil.copytree(made_runs / model, tmp_path / model)
    next(tmp_path.glob("lgur/*/queries_test.npz")).unlink()
    section = differences(load_comparison({tmp_path: read_runs(tmp_path)}), resamples=20)
    assert column(tables(section)[0], "R@1 [95 %]")[LGUR].startswith("not recorded by all of")
    for file in tmp_path.glob("lgur/*/queries_test.npz"):
        file.unlink()
    section = differences(load_comparison({tmp_path: read_runs(tmp_path)}), resamples=20)
    assert column(tables(section)[0], "R@1 [95 %]")[LGUR].startswith("not recorded by these")


def test_tests_on_other_data_sets_are_a_matrix_beside_published_ones(
    made_runs, comparison, tmp_path
):
    """Runs that were trained on ICFG-PEDES, one row also tested on two other sets."""
    assert cross_domain(comparison) is None
    left_out = shutil.ignore_patterns("lcr2s", "broken", "*.npz", "metrics.csv")
    root = shutil.copytree(made_runs, tmp_path / "runs", ignore=left_out)
    for config in root.glob("*/*/config.yaml"):
        config.write_text(config.read_text().replace("name: synthetic", "name: icfg_pedes"))
    for seed, value in ((1, 40.0), (2, 42.0)):
        for name in ("rstpreid", "cuhk_pedes"):
            record = {"metrics": {"test/R1": value}, "data_sha256": name, "dataset": name}
            folder = root / f"lgur/seed{seed}"
            (folder / f"evaluation_{name}_test_best.json").write_text(json.dumps(record))
            tested = json.loads((folder / "metrics.json").read_text())
            tested["tested_checkpoint"] = "checkpoints/best.ckpt"
            (folder / "metrics.json").write_text(json.dumps(tested))
    (root / "lgur/seed1/evaluation_other_test_best.json").write_text("[broken")
    section = cross_domain(load_comparison({root: read_runs(root)}))
    first = tables(section)[0]
    assert first.head == ["run", "trained on", "icfg_pedes", "cuhk_pedes", "rstpreid", "source"]
    cells = {line.cells[0]: list(line.cells[1:]) for line in first.lines}
    assert cells[LGUR][2:4] == ["41.0 ± 1.4", "41.0 ± 1.4"]
    assert cells[PLAIN][2:4] == ["-", "-"]
    published = [line.cells for line in first.lines if line.mark == "published"]
    assert ["LGUR (2022), published", "ICFG-PEDES", "-", "25.44", "-"] in [
        list(line[:5]) for line in published
    ]
    assert "icfg_pedes and rstpreid both hold images of MSMT17" in notes(section)
