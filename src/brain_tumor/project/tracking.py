"""Test scores for MLflow."""

from collections.abc import Iterator

import pandas as pd
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from brain_tumor.data.common.sets import TEST

SCORES = (("segmentation", "summary"), ("classification", "scores"))
"""Tasks, and their tables of a network's test scores."""


class Tracking:
    """With `training.mlflow` set, test scores join the run of the training they belong to."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember where experiments are tracked."""
        self.address = context.config_loader["parameters"].get("training", {}).get("mlflow")

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Log the scores that this run wrote.

        Here and not when they are saved: a process that saves them may have no hooks.
        """
        tables = {}
        for name in sorted(pipeline.all_outputs()):
            parts = name.split(".")
            if (parts[0], parts[-1]) in SCORES and catalog.exists(name):
                tables[name] = parts
        if not self.address or not tables:
            return
        from mlflow import MlflowClient

        client = MlflowClient(self.address)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        for name, (task, network, _) in tables.items():
            trained = catalog.load(f"{task}.{network}.network").description
            # Files of earlier versions have no list of checkpoints.
            for mark in trained.get("checkpoints", []):
                runs = client.search_runs(experiments, f"tags.fingerprint = '{mark}'", max_results=1)
                for run in runs:
                    for metric, value in _list_scores(task, catalog.load(name)):
                        client.log_metric(run.info.run_id, metric, value)


def _list_scores(task: str, table: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Mean metrics of a network over the volumes of test patients, or its scores on each set of test images."""
    if task == "segmentation":
        of_volumes = (table["set"] == TEST) & (table["protocol"] == "volume")
        for row in table[of_volumes].itertuples():
            yield f"test_{row.metric}_{row.target}", row.mean
    else:
        for row in table.dropna(subset="value").itertuples():
            yield f"{row.test_set}_test_{row.metric}", row.value
