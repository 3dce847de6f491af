"""The report of a tested run to Weights & Biases, to a logger that only remembers."""

import json
from unittest.mock import Mock

import pytest
import torch
from PIL import Image

from tireid.callbacks.query_images import interesting_queries
from tireid.callbacks.query_record import QueryRecord
from tireid.callbacks.wandb_report import WandbReport
from tireid.methods.base import RetrievalModule
from tireid.retrieval.query_results import query_results
from tireid.tracking.artifacts import kept
from tireid.tracking.logger import WandbLogger

wandb = pytest.importorskip("wandb")


@pytest.fixture
def folder(tmp_path):
    """The folder of a run that was tested."""
    record = {"metrics": {"test/R1": 50.0}, "seconds": {"training": 9.0}, "steps": 7}
    record |= {"images_per_second": 3.0, "peak_memory_mib": 100.0, "parameters": {"total": 2e6}}
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocabulary.json").write_text("{}")
    return tmp_path


@pytest.fixture
def model():
    """A method of one weight."""
    made = RetrievalModule()
    made.weight = torch.nn.Parameter(torch.ones(2))
    return made


@pytest.fixture
def logger():
    config = {"label": "a: b", "encoders": "c+d", "dataset/name": "synthetic", "settings": "e5"}
    return Mock(spec=WandbLogger, experiment=object(), config=config)


@pytest.fixture
def tested(split, after_test, logger, folder):
    """Return a function from attributes to a trainer whose queries were recorded."""

    def made(**attributes):
        queries = QueryRecord(str(folder))
        queries.results = query_results(*split, k=4)
        attributes = {"loggers": [logger], "ckpt_path": "/run/epoch001.ckpt"} | attributes
        return after_test(queries, **attributes)

    return made


def report(folder, trainer, model, **settings):
    WandbReport(str(folder), seed=3, **settings).on_test_end(trainer, model)


def logged_row(logger):
    ((row, step), _) = logger.log_row.call_args
    assert step == 7
    return row


def artifacts(logger):
    return {call.args[0].name: call.args[0] for call in logger.log_artifact.call_args_list}


def test_queries_similarities_and_figures_are_one_row(folder, tested, model, logger, records):
    (folder / "curves.png").write_bytes(records[0].image_path.read_bytes())
    report(folder, tested(), model, num_queries=2, top_k=3)
    row = logged_row(logger)
    assert set(row) == {
        *("curves", "queries"),
        *("similarity/positives", "similarity/negatives", "similarity/spread"),
    }
    table = row["queries"]
    assert table.columns[:3] == ["kind", "query", "caption"]
    assert table.columns[-4:] == ["described", "rank 1", "rank 2", "rank 3"]
    assert len(table.data) >= 4


def test_a_line_of_the_table_has_the_best_images_with_scores(folder, split, tested, model, logger):
    report(folder, tested(), model, num_queries=1, top_k=2)
    table = logged_row(logger)["queries"]
    results = query_results(*split, k=4)
    for query, row in zip(interesting_queries(results, 1), table.data, strict=True):
        line = dict(zip(table.columns, row, strict=True))
        assert (line["kind"], line["query"]) == (query.kind, query.number)
        assert line["caption"] == f"caption {query.number % 2} of image {query.number // 2}"
        assert line["person"] == split.text_pids[query.number]
        assert line["first rank"] == results.first_rank[query.number]
        for rank in (1, 2):
            assert line[f"score {rank}"] == pytest.approx(results.scores[query.number, rank - 1])
            right = results.right[query.number, rank - 1]
            assert line[f"right {rank}"] == ("\N{CHECK MARK}" if right else "\N{MULTIPLICATION X}")
            assert isinstance(line[f"rank {rank}"], wandb.Image)
        assert isinstance(line["described"], wandb.Image)
        assert "score 3" not in line


def test_large_images_are_logged_smaller(folder, tested, model, logger, records):
    for record in records:
        Image.new("RGB", (40, 1000), "blue").save(record.image_path)
    report(folder, tested(), model, num_queries=1, top_k=1)
    shown = logged_row(logger)["queries"].get_column("described")
    assert {image.image.size for image in shown} == {(10 + 8, 256 + 8)}


def test_an_image_that_is_not_in_the_gallery_is_left_out(folder, split, after_test, model, logger):
    queries = QueryRecord(str(folder))
    queries.results = query_results(*split._replace(image_index=split.image_index * 0 - 1), k=1)
    report(folder, after_test(queries, loggers=[logger]), model)
    table = logged_row(logger)["queries"]
    assert set(table.get_column("described")) == {None}


@pytest.mark.parametrize(
    ("pictures", "shown", "said"),
    [("auto", False, True), (True, True, False), (False, False, False)],
)
def test_images_of_real_people_need_to_be_asked_for(
    folder, tested, model, logger, capsys, pictures, shown, said
):
    trainer = tested()
    trainer.datamodule.name = "cuhk_pedes"
    report(folder, trainer, model, pictures=pictures)
    assert ("rank 1" in logged_row(logger)["queries"].columns) == shown
    assert ("no images of cuhk_pedes are logged" in capsys.readouterr().out) == said


def test_the_summary_has_what_the_run_cost(folder, tested, model, logger):
    report(folder, tested(), model)
    summary = {}
    for call in logger.update_summary.call_args_list:
        summary |= call.args[0]
    assert summary["cost/train_seconds"] == 9.0
    assert summary["cost/parameters_million"] == 2.0
    assert summary["steps"] == 7


@pytest.mark.parametrize(
    ("selection", "alias"), [("val", "best"), ("last", "last"), ("test", "chosen-on-test")]
)
def test_the_model_and_its_results_are_artifacts(folder, tested, model, logger, selection, alias):
    report(folder, tested(), model, selection=selection)
    made = artifacts(logger)
    assert set(made) == {"a-b-c-d-synthetic-e5", "a-b-c-d-synthetic-e5-queries"}
    one = made["a-b-c-d-synthetic-e5"]
    assert one.kind == "model"
    assert set(one.files) == {
        *("metrics.json", "config.yaml", "tokenizer/vocabulary.json"),
        "model.safetensors",
    }
    assert one.aliases == [alias, "seed3"]
    assert f"{alias}: the newest of which" in one.description
    assert one.metadata == {
        "metrics": {"test/R1": 50.0},
        "checkpoint": "epoch001.ckpt",
        "seed": 3,
    }
    assert list(made["a-b-c-d-synthetic-e5-queries"].files) == ["queries_test.npz"]
    assert kept(folder)._replace(description=one.description) == one


def test_a_long_label_is_cut_and_the_settings_stay_in_the_names(folder, tested, model, logger):
    logger.config["label"] = "model.head.dictionary_size=3 " * 20
    report(folder, tested(), model)
    for name in artifacts(logger):
        assert len(name) <= 128  # more is refused
        assert name.removesuffix("-queries").endswith("-c-d-synthetic-e5")


def test_the_checkpoint_may_be_left_out(folder, tested, model, logger):
    report(folder, tested(), model, checkpoint=False)
    files = artifacts(logger)["a-b-c-d-synthetic-e5"].files
    assert not [name for name in files if name.startswith(("checkpoints/", "model."))]


def test_the_whole_checkpoint_is_logged_if_asked_for(folder, tested, model, logger):
    report(folder, tested(), model, checkpoint=True)
    files = artifacts(logger)["a-b-c-d-synthetic-e5"].files
    assert "checkpoints/epoch001.ckpt" in files
    assert "model.safetensors" not in files


@pytest.mark.usefixtures("unchecked")
def test_what_may_be_logged_of_a_checkpoint_is_told(folder):
    with pytest.raises(ValueError, match="checkpoint: expected weights, true or false, got 'all'"):
        WandbReport(str(folder), seed=3, checkpoint="all")


def test_of_a_part_of_the_split_there_is_no_table(folder, tested, model, logger):
    trainer = tested()
    trainer.datamodule.records = lambda split: []
    report(folder, trainer, model)
    assert "queries" not in logged_row(logger)


def test_without_recorded_queries_the_rest_is_logged(folder, after_test, model, logger):
    report(folder, after_test(loggers=[logger]), model)
    assert logged_row(logger) == {}
    assert len(artifacts(logger)) == 2


def test_without_its_logger_or_on_another_process_nothing_is_logged(folder, tested, model, logger):
    report(folder, tested(loggers=[]), model)
    report(folder, tested(is_global_zero=False), model)
    logger.experiment = None
    report(folder, tested(), model)
    assert not logger.log_row.called
    assert not logger.log_artifact.called


def test_what_fails_is_a_warning(folder, tested, model, logger):
    logger.log_row.side_effect = OSError("No space left on device")
    with pytest.warns(UserWarning, match="wandb: the test was not logged: OSError: No space"):
        report(folder, tested(), model)


@pytest.mark.usefixtures("unchecked")
def test_steps_between_gradients_are_a_number(folder):
    with pytest.raises(ValueError, match=r"log_gradients: expected a whole number .* got True"):
        WandbReport(str(folder), 3, log_gradients=True)


def test_a_note_that_leads_elsewhere_is_refused(folder):
    (folder / "wandb").mkdir()
    note = {"name": "m", "files": {"a": "../../etc/passwd"}, "aliases": [], "metadata": {}}
    (folder / "wandb" / "model_artifact.json").write_text(json.dumps(note))
    with pytest.raises(ValueError, match="files: expected paths inside"):
        kept(folder)


@pytest.mark.usefixtures("unchecked")
def test_pictures_are_auto_true_or_false(folder):
    with pytest.raises(ValueError, match=r"callbacks\.wandb\.pictures: expected auto, .* 'some'"):
        WandbReport(str(folder), 3, pictures="some")
