"""`evaluate` gives a run's figures again."""

from tireid.training.evaluate import evaluate


def test_same_figures_again(lgur_run, compose_config):
    folder, metrics = lgur_run
    for split in ("test", "val"):
        found = evaluate(
            compose_config(f"run={folder}", f"split={split}", "accelerator=cpu", name="evaluate")
        )
        expected = {name: v for name, v in metrics.items() if name.startswith(f"{split}/")}
        assert found == expected
