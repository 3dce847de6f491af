"""Published results are those of the file, each with its source."""

import csv
from importlib import resources

import pytest

from tireid.comparison.published import read_cross_domain, read_published
from tireid.metrics.names import METRICS


def test_every_result_of_the_file_is_there_with_its_source():
    text = (
        resources.files("tireid.comparison").joinpath("published.csv").read_text(encoding="utf-8")
    )
    lines = list(csv.DictReader(text.splitlines()))
    rows = read_published()
    assert len(rows) == len(lines) > 30
    for row, line in zip(rows, lines, strict=True):
        assert row.source
        assert [row.method, str(row.year), row.dataset] == [
            line[n] for n in ("method", "year", "dataset")
        ]
        assert {"R1", "R5", "R10", "mAP"} <= set(line)
        for name in METRICS:
            value = line.get(name)
            assert row.metrics.get(name) == (float(value) if value else None)
            assert not value or 0 < float(value) < 100


def test_lgur_and_lcr2s_on_cuhk_pedes():
    found = {
        (row.method, row.image_encoder): row.metrics["R1"] for row in read_published("cuhk_pedes")
    }
    assert found["LGUR", "DeiT-Small"] == 65.25
    assert found["LCR2S", "ResNet-50"] == 67.36


@pytest.mark.parametrize("name", ["ICFG-PEDES", "icfg_pedes"])
def test_names_of_papers_and_configs(name):
    assert {row.dataset for row in read_published(name)} == {"ICFG-PEDES"}


def test_nothing_is_published_on_the_synthetic_data_set():
    assert read_published("synthetic") == []


def test_published_tests_on_other_data_sets_name_both_and_their_source():
    rows = read_cross_domain()
    assert len(rows) == 14
    assert all(row.train != row.test and row.source and row.metrics["R1"] > 0 for row in rows)
    irra = {(row.train, row.test): row.metrics for row in rows if row.method == "IRRA"}
    assert irra["RSTPReid", "CUHK-PEDES"] == {"R1": 32.80, "R5": 55.25, "mAP": 30.29}
