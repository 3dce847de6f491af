"""The rows of a sweep: the jobs they make, who wins over them, and what is refused."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from hydra_plugins.tireid_rows import job_overrides
from tireid.files import conf_dir
from tireid.sweeps.overrides import override_text

# Seeds and rows: what the folders of earlier sweeps are named after.
SWEEPS = {
    "methods_quick": (2, "baseline lgur_infonce irra lcr2s rde"),
    "lgur_ablation": (
        3,
        "baseline baseline_sdm baseline_ranking lgur lgur_sdm lgur_infonce lgur_official_columns "
        "lgur_no_dictionary lgur_no_guidance lgur_no_foreground lgur_mean_pooling lgur_max_pooling "
        "lgur_dictionary_100 lgur_prototypes_1 lgur_separate_prototypes",
    ),
    "lcr2s_search": (
        2,
        "baseline search_start search_features_4 search_features_16 search_relations_0 "
        "search_relations_4 search_relations_16 search_warmup search_enriched_only search_memory "
        "search_memory_features_4 search_teacher_2x_memory search_teacher_2x_memory_features_4 "
        "search_teacher_2x_memory_features_16",
    ),
    "lcr2s_all_steps": (2, "baseline_2x baseline_3x from_teacher from_teacher_features_4"),
    "lcr2s_ablation": (
        2,
        "lcr2s lcr2s_no_distillation lcr2s_features_only lcr2s_relations_only lcr2s_mean_fusion "
        "lcr2s_heads_1 lcr2s_supports_1 lcr2s_supports_3 lcr2s_plain",
    ),
    "like_for_like": (
        3,
        "vit_bilstm_baseline vit_bilstm_lgur vit_bilstm_irra vit_bilstm_lcr2s "
        "vit_bilstm_lcr2s_lgur vit_bilstm_rde resnet_textcnn_baseline resnet_textcnn_lgur "
        "resnet_textcnn_irra resnet_textcnn_lcr2s resnet_textcnn_lcr2s_lgur resnet_textcnn_rde "
        "vit_bilstm_baseline_sdm vit_bilstm_baseline_tal vit_bilstm_lgur_sdm vit_bilstm_lgur_tal "
        "vit_bilstm_irra_sdm vit_bilstm_lcr2s_sdm vit_bilstm_lcr2s_tal "
        "clip_baseline clip_lgur",
    ),
}


@pytest.fixture(scope="module")
def jobs_of():
    """Return a function from overrides of the command line to the jobs of the sweep."""

    def jobs(*overrides):
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            plain = [text for text in overrides if not text.startswith("seed=")]
            cfg = compose("train", plain, return_hydra_config=True)
        task = [text for text in overrides if not text.startswith("hydra")]
        return job_overrides(cfg.hydra.sweeper, task)

    return jobs


def test_every_sweep_has_its_jobs_here():
    assert {path.stem for path in (Path(conf_dir()) / "sweep").glob("*.yaml")} == set(SWEEPS)


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_sweep_runs_each_row_with_each_seed_in_the_folder_it_always_had(jobs_of, sweep):
    seeds, rows = SWEEPS[sweep]
    jobs = jobs_of(f"sweep={sweep}")
    expected = [(str(s + 1), row) for s in range(seeds) for row in rows.split()]
    assert [(told(job)["seed"], told(job)["hydra.job.name"]) for job in jobs] == expected
    labels, folders = set(), []
    for job in jobs[: len(rows.split())]:
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            cfg = compose("train", job, return_hydra_config=True)
        assert cfg.skip_finished is True
        labels.add(cfg.label)
        folders.append(cfg.hydra.sweep.subdir)
    assert len(labels) == len(folders)
    assert folders == [f"{row}/seed1" for row in rows.split()]


def told(job):
    return dict(text.split("=", 1) for text in job)


def test_the_command_line_wins_over_rows_and_chooses_among_them(jobs_of):
    (job,) = jobs_of(
        "sweep=lgur_ablation",
        "hydra.sweeper.only=[lgur_prototypes_1]",
        "seed=7",
        "model.head.num_prototypes=2",
    )
    assert job == [
        "seed=7",
        "hydra.job.name=lgur_prototypes_1",
        'label="LGUR, InfoNCE, 1 prototype (6)"',
        "model=lgur",
        "model/alignment=infonce",
        "sweep=lgur_ablation",
        "model.head.num_prototypes=2",
    ]
    with pytest.raises(ValueError, match=r"only: expected rows of the sweep \(baseline, .*got lgr"):
        jobs_of("sweep=lgur_ablation", "hydra.sweeper.only=[lgr]")


def test_a_row_refers_to_what_the_sweep_sets_unless_that_is_swept(jobs_of):
    row = "hydra.sweeper.only=[search_start]"
    job = jobs_of("sweep=lcr2s_search", row, "max_epochs=3", "paths.runs_dir=my runs", "seed=1")[0]
    assert "teaching.max_epochs=3" in job
    assert 'teaching.shared_dir="my runs/sweeps/teachers"' in job
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        cfg = compose("train", ["sweep=lcr2s_search"], return_hydra_config=True)
    with pytest.raises(ValueError, match="max_epochs: expected one value"):
        job_overrides(cfg.hydra.sweeper, ["max_epochs=1,2"])


def test_a_grid_without_rows_is_that_of_the_basic_sweeper(jobs_of):
    basic = OmegaConf.create(
        {
            "_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
            "params": {"seed": "1,2"},
        }
    )
    basic.max_batch_size = None
    assert job_overrides(basic, ["model=lgur"]) == [[f"seed={s}", "model=lgur"] for s in (1, 2)]
    assert job_overrides(OmegaConf.create({"_target_": "some.other.Sweeper"}), []) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([None, True, 1.5, [1, "a"]], "[null,true,1.5,[1,a]]"),
        ("runs/a-b.c", "runs/a-b.c"),
        ("LGUR, (ours)", '"LGUR, (ours)"'),
        ('say "a\\b"', '"say \\"a\\b\\""'),
        ('\\"', '"\\\\\\""'),
        ("end\\", '"end\\\\"'),
        ("null", '"null"'),
        ("4", '"4"'),
    ],
)
def test_values_of_yaml_are_written_as_overrides(compose_config, value, text):
    assert override_text(value) == text
    assert compose_config(f"label={text}").label == value
