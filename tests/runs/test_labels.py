"""Rows are named by what tells them apart."""

from pathlib import Path

from tireid.runs.results import CompleteRun, Result, distinctly_labelled


def run(label, settings, *overrides, dataset="synthetic", **values):
    fields = {"seed": 1, "selection": "val", "steps": 1, "seconds": 1.0, "images_per_second": 1.0}
    fields |= {"parameters": 1, "test_data": "f00", "commit": "", "metrics": {}}
    result = Result(label=label, dataset=dataset, settings=settings, **fields)
    return CompleteRun(Path(), result, values, overrides)


def distinct_labels(runs):
    return [result.label for result in distinctly_labelled(runs)]


def test_a_label_of_its_own_stays():
    runs = [run("a", "1", "seed=1", "x=1"), run("a", "1", "seed=2", "x=1"), run("b", "2", "x=2")]
    assert distinct_labels(runs) == ["a", "a", "b"]


def test_a_shared_label_is_followed_by_the_overrides_that_differ():
    runs = [
        run("Lgur", "1", "model=lgur", "batch_size=32", "seed=1", "+a.b=1"),
        run("Lgur", "2", "model=lgur", "batch_size=64", "seed=2", "paths.cache_dir=x"),
        run("Baseline", "3", "model=baseline", "batch_size=32", "seed=1"),
        run("Baseline", "4", "model=baseline", "batch_size=64", "seed=1"),
    ]
    assert distinct_labels(runs) == [
        "Lgur, batch_size=32, a.b=1",
        "Lgur, batch_size=64",
        "Baseline, batch_size=32",
        "Baseline, batch_size=64",
    ]


def test_where_overrides_do_not_tell_the_settings_do():
    runs = [
        run("a", "1", **{"x": 1, "y": 2, "seed": 1, "supports.seed": 1}),
        run("a", "2", **{"x": 1, "y": 3, "seed": 2, "supports.seed": 2}),
    ]
    assert distinct_labels(runs) == ["a, y=2", "a, y=3"]
    many = [run("a", str(n), **{f"x{i}": n for i in range(5)}) for n in range(2)]
    assert distinct_labels(many)[1] == "a, x0=1, x1=1, x2=1 and 2 more"


def test_one_label_on_two_data_sets_is_told_apart_by_them():
    runs = [run("a", "1", "dataset=x", dataset="x"), run("a", "2", "dataset=y", dataset="y")]
    assert distinct_labels(runs) == ["a", "a"]
