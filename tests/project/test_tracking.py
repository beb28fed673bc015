"""What MLflow is told of a run; skipped where the extra is not installed."""

import pandas as pd
import pytest
from kedro.runner import ParallelRunner
from support import run

mlflow = pytest.importorskip("mlflow", reason="MLflow is an extra: pip install 'brain-tumor-mri[mlflow]'")


pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own


def tracked(address):
    client = mlflow.MlflowClient(address)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return {run.data.tags["experiment"]: run for run in runs}, client


@pytest.mark.parametrize(
    ("task", "source", "monitor"),
    [("segmentation", "sample", "validation_dice"), ("classification", "images", "validation_likelihood")],
)
def test_each_network_has_a_run_with_its_log_and_its_test_scores(project, request, task, source, monitor):
    address = f"sqlite:///{project}/mlflow.db"
    run(project, task, **{f"{task}_source": str(request.getfixturevalue(source)), "training": {"mlflow": address}})
    runs, client = tracked(address)
    folders = {path.name for path in (project / "data/06_models" / task).iterdir()}
    assert set(runs) == folders
    for name, own in runs.items():
        log = pd.read_csv(project / f"data/06_models/{task}/{name}/training_log.csv")
        history = client.get_metric_history(own.info.run_id, monitor)
        assert [metric.value for metric in sorted(history, key=lambda metric: metric.step)] == pytest.approx(
            log[monitor].tolist()
        )
        if task == "classification":
            scores = pd.read_csv(project / f"data/08_reporting/{task}/{name}/scores.csv").dropna(subset="value")
            expected = {f"{row.test_set}_test_{row.metric}": row.value for row in scores.itertuples()}
            assert expected["deduplicated_test_accuracy"] >= 0
        else:
            summary = pd.read_csv(project / f"data/08_reporting/{task}/{name}/summary.csv")
            volumes = summary.query("set == 'test' and protocol == 'volume'")
            expected = {f"test_{row.metric}_{row.target}": row.mean for row in volumes.itertuples()}
        tested = {key: value for key, value in own.data.metrics.items() if "test_" in key}
        assert tested == pytest.approx(expected, nan_ok=True)


def test_scores_join_the_training_they_are_of_whatever_runs_the_nodes(project, sample, monkeypatch):
    """Two trainings of one network, then the first one's again, from its checkpoint.

    At last in a process without hooks.
    """
    address = f"sqlite:///{project}/mlflow.db"
    preparing = ("index_slices", "prepare_slices", "describe_patients", "split_patients")
    training = ("train_network", "predict_patients", "count_pixels", "score_patients", "summarise_scores")
    data, own = (
        [f"data_segmentation.{name}" for name in preparing],
        [f"segmentation.classic_unet.{name}" for name in training],
    )

    def track(seed, nodes, **options):
        settings = {"segmentation_source": str(sample), "training": {"mlflow": address, "seed": seed}}
        run(project, node_names=nodes, **options, **settings)

    track(0, data + own)
    track(1, own)
    track(0, own)
    monkeypatch.setenv("KEDRO_MP_CONTEXT", "spawn")
    track(0, own[-1:], runner=ParallelRunner(max_workers=1))
    client = mlflow.MlflowClient(address)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    logged = {run.data.params["seed"]: client.get_metric_history(run.info.run_id, "test_dice_WT") for run in runs}
    assert {seed: len(values) for seed, values in logged.items()} == {"0": 3, "1": 1}
