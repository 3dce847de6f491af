"""The benchmark runs, and what it compares is the same arithmetic."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def lgur_step(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("lgur_step")


@pytest.fixture
def variants(lgur_step):
    """Tiny variants in double precision, over one batch."""
    model = lgur_step.build_model(quick=True).double()
    batch = lgur_step.make_batch(model, 5)
    batch = batch._replace(images=batch.images.double())
    built = lgur_step.build_variants(model, batch, lgur_step.VARIANTS)
    built[lgur_step.REFERENCE].network.double()
    return model, built


def test_the_reference_has_every_trained_weight(lgur_step, variants):
    model, built = variants
    reference = built[lgur_step.REFERENCE].network
    pairs = list(reference.correspondence(model, "data"))
    for mine, theirs in pairs:
        assert torch.equal(mine, theirs)
    covered = sum(mine.numel() for mine, _ in pairs)
    for network in (reference, model):
        assert covered == sum(p.numel() for p in network.parameters() if p.requires_grad)


def test_losses_and_gradients_are_the_references(lgur_step, variants):
    model, built = variants
    assert lgur_step.compare(model, built) < 1e-12
    reference = built[lgur_step.REFERENCE].network
    model.eval()
    reference.eval()
    for name in (lgur_step.PLAIN, lgur_step.CACHED):
        with lgur_step.recorded_triplets() as triplets:
            built[name].loss().backward()
        built[lgur_step.REFERENCE].loss(triplets).backward()
        for number, (theirs, ours) in enumerate(reference.correspondence(model, "grad")):
            torch.testing.assert_close(ours, theirs, msg=lambda m, n=number: f"tensor {n}: {m}")
        model.zero_grad()
        reference.zero_grad()


def test_other_arithmetic_is_refused(lgur_step, variants):
    model, built = variants
    with torch.no_grad():
        model.head.dictionary[0, 0, 0] += 1
    with pytest.raises(ValueError, match="loss: expected the reference's within 1e-05"):
        lgur_step.compare(model, built)


@pytest.mark.long
@pytest.mark.slow
def test_the_script_measures_and_writes(tmp_path):
    output = tmp_path / "deeper" / "step.json"
    command = [sys.executable, str(BENCHMARKS / "lgur_step.py"), "--quick", "--rounds", "2"]
    command += ["--batch-size", "4", "--threads", "1", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "times the reference's" in done.stdout
    record = json.loads(output.read_text())
    assert record["loss_difference"] <= 1e-5
    assert list(record["variants"]) == [
        "reference",
        "tireid",
        "tireid, text cache",
        "tireid, text cache, bf16",
    ]
    for variant in record["variants"].values():
        assert len(variant["all_seconds"]) == 2
        assert variant["images_per_second"] == pytest.approx(4 / variant["seconds"])
        assert variant["seconds"] <= sum(max(s, 0) for s in variant["phases"].values()) * 2
        assert variant["peak_memory_mib"] > 100
    assert record["variants"]["reference"]["speed_ratio"] == 1


@pytest.mark.long
@pytest.mark.slow
def test_the_steps_of_lcr2s_are_measured_in_steps_of_the_control(tmp_path):
    output = tmp_path / "step.json"
    command = [sys.executable, str(BENCHMARKS / "lcr2s_step.py"), "--rounds", "2"]
    command += ["--batch-size", "4", "--threads", "1", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())["variants"]
    assert found["baseline"]["baseline_steps"] == 1
    assert "teacher, dataset 4 + 4" in done.stdout
    for variant in found.values():
        ratios = [
            mine / base
            for mine, base in zip(
                variant["all_seconds"], found["baseline"]["all_seconds"], strict=True
            )
        ]
        assert variant["baseline_steps"] == pytest.approx(sum(ratios) / 2)


@pytest.fixture
def overview(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("overview")


def write(folder, name, **content):
    (folder / f"{name}.json").write_text(json.dumps(content))


def cells_of(table):
    columns = [list(column.cells) for column in table.columns]
    return {row[0]: row[1:] for row in zip(*columns, strict=True)}


def test_one_table_tells_every_ratio_what_is_asked_and_what_was_not_measured(overview, tmp_path):
    work = {"ratio": 1.6, "lowest": 1.5, "highest": 1.75, "seconds": 2.0}
    works = {"evaluation": work, "per-query records": work | {"seconds": 2.5}}
    names = [f"{s}, {k}" for s in ("CUHK-PEDES", "ICFG-PEDES") for k in ("trained", "untrained")]
    one = {"one query in 100,000": {"top_k": work}}
    write(tmp_path, "evaluation", found=dict.fromkeys(names, works) | one)
    ways = {"fast": work, "packed": work | {"ratio": 20.0}}
    write(tmp_path, "input", found={"160x480": ways, "400x1000": ways})
    write(tmp_path, "large_gallery", images=9000, found={"512": {"peak_mib": 3000.0}})
    speed = {"speed_ratio": 2.2, "speed_ratio_range": [2.0, 2.3]}
    lgur = dict.fromkeys(overview.LGUR_ASKED, speed)
    write(tmp_path, "lgur_step", variants=lgur)
    row = {"method": "lgur", "identity": "sampled", "ids": 50_000, "seconds": 1.0, "peak_mib": 900}
    write(tmp_path, "identity_heads", found=[row | {"ratio": 0.25, "ratio_range": [0.2, 0.3]}])
    rows = cells_of(overview.make_table(tmp_path))
    product = "float32 product"
    assert rows["evaluation, CUHK-PEDES, trained"] == (
        *(product, "1.60", "1.50, 1.75", "at most 1.50", "no", "bench-evaluation"),
    )
    assert rows["evaluation, ICFG-PEDES, trained"][3:5] == ("at most 1.70", "yes")
    assert rows["records, CUHK-PEDES, trained"][:2] == ("evaluation", "1.25")
    assert rows["one query in 100,000"][4] == "no"
    assert rows["input, 160x480, packed"][3:5] == ("at least 15.00", "yes")
    assert rows["evaluation, 9,000 images of 512"][1:5] == (
        *("3,000 MiB", "", "at most 1,907 MiB", "no"),
    )
    assert rows["LGUR, speed of tireid"][3:5] == ("at least 2.00", "yes")
    assert rows["LGUR, speed of tireid, text cache"][3:5] == ("at least 2.40", "no")
    assert rows["lgur, 50,000 identities sampled"][1] == "0.25"
    assert rows["lcr2s_step"][1] == "not measured"


def test_every_benchmark_has_a_target_that_runs_it(overview):
    makefile = (BENCHMARKS.parent / "Makefile").read_text()
    assert overview.BENCHES.keys() == overview.ROWS.keys()
    for bench, target in overview.BENCHES.items():
        assert f"\n{target}: " in makefile
        assert f"benchmarks/{bench}.py $(ARGS)" in makefile


@pytest.mark.slow
def test_the_memory_of_a_large_gallery_is_measured_in_a_process_of_its_own(tmp_path):
    output = tmp_path / "gallery.json"
    command = [sys.executable, str(BENCHMARKS / "large_gallery.py"), "--images", "20000"]
    subprocess.run([*command, "--dims", "64", "--output", str(output)], check=True, timeout=200)
    found = json.loads(output.read_text())
    assert 1 < found["found"]["64"]["peak_mib"] < 1000
    assert found["commit"] is None or len(found["commit"]) == 40


@pytest.mark.long
@pytest.mark.slow
def test_steps_are_measured_by_their_identities_and_what_is_too_large_is_left_out(tmp_path):
    output = tmp_path / "heads.json"
    command = [sys.executable, str(BENCHMARKS / "identity_heads.py"), "--rounds", "1"]
    command += ["--methods", "baseline", "--ids", "3000", "--most", "0.02"]
    subprocess.run([*command, "--output", str(output)], check=True, timeout=400)
    exact, sampled = json.loads(output.read_text())["found"]
    assert "seconds" not in exact  # 4 x 3,000 x 512 numbers are 0.023 GiB
    assert sampled["share"] == pytest.approx(1 / 3)
    assert sampled["peak_mib"] > 100


@pytest.mark.long
@pytest.mark.slow
def test_the_gpu_bench_runs_with_tiny_sizes_and_reports_what_fails(tmp_path):
    output = tmp_path / "gpu.json"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--tiny", "--rounds", "1"]
    command += ["--parts", "steps", "evaluation", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())
    assert {row["step"] for row in found["steps"]} >= {"baseline", "LGUR", "LCR2S student, once"}
    assert all(row["images_per_second"] > 0 for row in found["steps"])
    assert found["evaluation"][0]["seconds"] > 0
    assert found["errors"] == {}
    late = subprocess.run([*command, "--minutes", "0"], capture_output=True, text=True, timeout=100)
    assert late.returncode == 1
    assert "no time left" in json.loads(output.read_text())["errors"]["steps"]


@pytest.mark.slow
def test_search_is_timed_and_finds_the_exact_best(untrained_run, tmp_path):
    script = BENCHMARKS / "search.py"
    run = untrained_run("model=lgur")
    small = ["--vectors", "3000", "--dim", "32", "--queries", "5", "--run", str(run)]
    output = tmp_path / "search.json"
    command = [sys.executable, str(script), *small, "--images", "40", "--output", str(output)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "3,000 vectors of 32, float16" in shown
    assert json.loads(output.read_text())["found"]["recall"] >= 0.9
    assert "40 JPEGs" in shown


@pytest.mark.slow
def test_the_input_bench_compares_all_ways_on_the_same_images(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "input.py"), "--rounds", "1", "--images", "2"]
    subprocess.run([*command, "--output", str(tmp_path / "input.json")], check=True, timeout=200)
    found = json.loads((tmp_path / "input.json").read_text())["found"]
    assert set(found) == {
        *(f"{size}{kind}" for size in ("160x480", "400x1000") for kind in ("", ", augmented")),
        *(f"{size}, change of pixels" for size in ("160x480", "400x1000")),
    }
    for name, rows in found.items():
        if name.endswith("pixels"):
            assert rows["mean"] < 1
        else:
            assert rows["pillow"]["ratio"] == 1
            assert rows["packed"]["ratio"] > 3
