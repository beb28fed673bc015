"""What happens around every run: parameters are checked, and the last line says where the report is."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any, cast

from kedro.config import OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from omegaconf import OmegaConf

from brain_tumor.up_to_date import UpToDate

logger = logging.getLogger(__name__)


class Parameters:
    """A misspelt `--params` key is an error, not a run with the defaults; paths in a parameters file reach the catalog as those of `--params` do."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Compare the keys given with those in the parameters files; let the catalog, which sees run parameters only, see the files' paths too.

        Raises:
            ValueError: naming the key, and the one that was probably meant.
        """
        loader = cast("OmegaConfigLoader", context.config_loader)
        written = OmegaConfigLoader(
            loader.conf_source, loader.env, base_env=loader.base_env, default_run_env=loader.default_run_env, merge_strategy=loader.merge_strategy
        )["parameters"]
        _require_known(written, loader)
        known = set(_paths(written))
        for key in _paths(loader.runtime_params or {}):
            parents = [key.rsplit(".", n)[0] for n in range(key.count(".") + 1)]
            if key not in known and not any(_is_leaf(parent, written) for parent in parents):
                raise _unknown(key, known, "parameters are in conf/*/parameters*.yml")
        loader.runtime_params = {key: value for key, value in written.items() if isinstance(value, str | int)} | (loader.runtime_params or {})

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline) -> None:
        """Say so where a source or a setting of the data is given to a run that takes the data as they were prepared before."""
        at_work = {(node.namespace or "").split(".")[0] for node in pipeline.nodes}
        for task in ("segmentation", "classification"):
            given = [key for key in run_params["runtime_params"] or {} if key in (f"{task}_source", f"data_{task}")]
            if given and task in at_work and f"data_{task}" not in at_work:
                logger.warning("this run prepares no data, so %s is not used: it takes what is prepared in data/", " and ".join(given))


def _require_known(written: Mapping[str, Any], loader: OmegaConfigLoader) -> None:
    """Refuse a name that no file of `conf/base` has: of a parameter, or in a block. What is deeper is checked by the settings that it becomes."""
    files = sorted((Path(loader.conf_source) / str(loader.base_env)).rglob("parameters*.y*ml"))  # as they stand: only names are asked for
    known = {path for file in files for path in _paths(cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(file)))) if path.count(".") < 2}
    for key in _paths(written):
        if key.count(".") < 2 and key not in known and not key.startswith("_"):
            raise _unknown(key, known, f"it is in conf/{loader.env or loader.default_run_env}/parameters*.yml, and not in conf/{loader.base_env}")
    for name in written:
        if "." in name:
            raise ValueError(f"'{name}' in a parameters file is one name with a dot in it; write it as a block in a block")


def _unknown(key: str, known: Iterable[str], where: str) -> ValueError:
    close = get_close_matches(key, known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ";"
    return ValueError(f"there is no parameter '{key}'{hint} {where}")


def _paths(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{key}.")


def _is_leaf(path: str, tree: Any) -> bool:
    """Whether the path ends at a value that isn't a block, where a block may be given instead."""
    for key in path.split("."):
        if not isinstance(tree, Mapping) or key not in tree:
            return False
        tree = tree[key]
    return not isinstance(tree, Mapping)


class Tracking:
    """With `training.mlflow` set, test scores join the run of the training they belong to."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember where experiments are tracked."""
        self.address = dict(context.params.get("training", {})).get("mlflow")  # a mapping, or the settings checked

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log the means of a network's metrics over the test patients, or its scores on each set of test images."""
        task, _, entry = dataset_name.partition(".")
        if not self.address or (task, entry.rpartition(".")[2]) not in (("segmentation", "summary"), ("classification", "scores")):
            return
        from mlflow import MlflowClient

        network = dataset_name.split(".")[1]
        client = MlflowClient(self.address)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        runs = client.search_runs(experiments, f"tags.experiment = '{network}'", max_results=1)  # the last one; none if it was trained untracked
        if task == "segmentation":
            scores = {f"test_{row.metric}_{row.target}": row.mean for row in data.itertuples()}
        else:
            scores = {f"{row.test_set}_test_{row.metric}": row.value for row in data.dropna(subset="value").itertuples()}
        for run, (name, value) in product(runs, scores.items()):
            client.log_metric(run.info.run_id, name, value)


class RunSummary:
    """A line for each node, and a last one: which reports the run wrote, or else where its results are, and how long it took.

    Args:
        up_to_date: which nodes were left out.
    """

    def __init__(self, up_to_date: UpToDate) -> None:
        self.up_to_date = up_to_date

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Start the clock."""
        self.start = perf_counter()

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Say what is running."""
        logger.info("> %s", node.name)

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Say where the reports are, or else the folder that all results are in."""
        minutes, seconds = divmod(round(perf_counter() - self.start), 60)
        took = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
        if self.up_to_date.skipped:
            took += f"; {self.up_to_date.skipped} of {self.up_to_date.total} nodes were up to date"
        paths = {name: catalog[name]._describe().get("filepath") for name in sorted(pipeline.outputs())}
        reports = [str(path or name) for name, path in paths.items() if name.endswith("report")]
        folders = sorted({str(Path(path).parent) for path in paths.values() if path})
        logger.info("%s (%s)", f"Report: {', '.join(reports)}" if reports else f"Done: {', '.join(folders)}" if folders else "Done", took)
