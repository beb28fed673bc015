"""What happens around every run: parameters and inputs are checked, the last line names the report."""

import logging
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any, cast

from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol, DataCatalog, DatasetError
from kedro.pipeline import Node, Pipeline

from brain_tumor.networks import require_network
from brain_tumor.networks.library import find_class, is_library, require_trusted
from brain_tumor.project.config_files import require_settings, use_project_logging
from brain_tumor.project.experiments import choose_experiments, find_experiments
from brain_tumor.project.inputs import require_inputs, require_paths
from brain_tumor.project.parameters import list_known, list_settings, look_up, put, require_known, require_whole_lists
from brain_tumor.project.paths import resolve_paths
from brain_tumor.project.suggestions import explain_unknown
from brain_tumor.project.up_to_date import UpToDate
from brain_tumor.project.values import check_values

logger = logging.getLogger(__name__)

TRUSTED = "trusted_packages"
"""Parameter: packages of the user's own whose networks may be built."""


class Parameters:
    """A misspelt parameter or a wrong value is an error before anything runs, not a run with the defaults.

    A path means the same wherever it is given.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Check environment, names and values; write paths out.

        The catalog sees run parameters only, so those of the files become run parameters too.

        Raises:
            ValueError: naming the key, the rule and what was got.
        """
        loader = cast("OmegaConfigLoader", context.config_loader)
        use_project_logging(Path(context.project_path))
        require_environment(loader)
        require_settings(loader)
        base = _read(loader, loader.base_env)
        given = loader.runtime_params or {}
        env = loader.env or loader.default_run_env
        with suppress(MissingConfigException):  # an environment may have no parameters
            require_whole_lists(_read(loader, env), base, f"in conf/{env}/parameters*.yml")
        written = _read(loader)
        self.experiments = find_experiments(written, given)
        choose_experiments(self.experiments)
        settings = list_settings(pipelines)
        known = list_known(base, settings)
        for name in written:
            if "." in name:
                rule = "is one name with a dot in it; write it as a block in a block"
                raise ValueError(f"'{name}' in a parameters file {rule}")
        require_known(written, known, f"in conf/{env}/parameters*.yml")
        require_known(given, known, "in --params")
        require_whole_lists(given, written, "in --params")
        merged = loader["parameters"]
        self.paths = resolve_paths(merged)
        single: dict[str, Any] = {name: value for name, value in merged.items() if isinstance(value, str | int)}
        self.parameters = merged
        trusted = merged.get(TRUSTED) or []
        # The command line gives a name alone.
        self.trusted = [str(trusted)] if isinstance(trusted, str | int) else [*trusted]
        single[TRUSTED] = self.trusted
        given_values = {name: value for name, value in given.items() if value is not None}
        loader.runtime_params = single | given_values
        for name, path in self.paths.items():
            put(loader.runtime_params, name, path)
        check_values(loader["parameters"], settings, known)

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Refuse a run whose inputs aren't there. Report sources and settings that it is given and doesn't use."""
        given = run_params["runtime_params"] or {}
        self._require_networks(pipeline)
        self._require_network_of_scans(pipeline, catalog)
        # Paths of the parameters files may be for other pipelines; only those of the command line are reported.
        unread = require_paths(self.paths, pipeline, catalog)
        unused = {name for name in unread if name in given}
        at_work = {(node.namespace or "").split(".")[0] for node in pipeline.nodes}
        for task in ("segmentation", "classification"):
            late = [name for name in given if name in (f"{task}_source", f"data_{task}")]
            # Training alone takes prepared data, whatever the settings of their preparation.
            if late and task in at_work and f"data_{task}" not in at_work:
                words = "this run prepares no data, so it doesn't use %s: it takes what is prepared in data/"
                logger.warning(words, " and ".join(late))
                unused -= {*late}
        if unused:
            logger.warning("this run doesn't use %s", " and ".join(sorted(unused)))
        require_inputs(pipeline, catalog, pipelines, run_params["env"], with_params=bool(given))

    def _require_networks(self, pipeline: Pipeline) -> None:
        """Refuse a run that trains a network which there isn't, before data are prepared for it."""
        trained = {node.namespace for node in pipeline.nodes if "training" in node.tags}
        for task, networks in self.experiments.items():
            if any(f"{task}.{experiment}" in trained for experiment in networks):
                for setting in ("loss", "optimiser"):
                    self._require_class(f"{task}.recipe.{setting}")
            for experiment, network in networks.items():
                name = f"{task}.{experiment}"
                if name in trained:
                    require_trusted(network, self.trusted, f"{name}.network")
                    require_network(network)
                    _require_weights(name, look_up(self.parameters, f"{name}.pretrained"))

    def _require_network_of_scans(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Refuse a network that doesn't fit before raw scans are prepared for it, not after."""
        entry = "inference_segmentation.network"
        if entry in pipeline.inputs() and "data_raw_scans.source" in pipeline.inputs() and catalog.exists(entry):
            from brain_tumor.data.scans.data_set import DataSet
            from brain_tumor.pipelines.inference.scan_index import require_match

            data_set = DataSet.model_validate(look_up(self.parameters, "data_segmentation.data_set"))
            try:
                network = catalog.load(entry)
            except DatasetError as error:
                # Kedro's words go before those that say what is wrong.
                raise ValueError(str(error.__cause__ or error)) from error
            require_match(network, data_set, look_up(self.parameters, "inference_names"))

    def _require_class(self, setting: str) -> None:
        """Refuse a loss or an optimiser of a library which there isn't."""
        name = look_up(self.parameters, setting)
        if not is_library(name):
            return
        require_trusted(name, self.trusted, setting)
        from torch import nn, optim

        what = setting.rpartition(".")[2]
        find_class(name, nn.Module if what == "loss" else optim.Optimizer, what)


def _require_weights(name: str, pretrained: object) -> None:
    if isinstance(pretrained, str) and not Path(pretrained).expanduser().is_file():
        remedy = "give a file of weights, or true for those of the library"
        raise FileNotFoundError(f"{name}.pretrained is {pretrained}, which isn't there; {remedy}")


def _read(loader: OmegaConfigLoader, env: str | None = None) -> dict[str, Any]:
    """What the parameters files hold: those of one environment, or those of base and of the run's together."""
    return OmegaConfigLoader(
        loader.conf_source,
        env or loader.env,
        base_env=env or loader.base_env,
        default_run_env=loader.default_run_env,
        merge_strategy=loader.merge_strategy,
    )["parameters"]


def require_environment(loader: OmegaConfigLoader) -> None:
    """Refuse an environment without a folder, wherever the configuration is: in a folder or in an archive.

    Raises:
        ValueError: naming those that there are.
    """
    env = loader.env or loader.default_run_env
    # Kedro has no public way into an archive.
    files, folder = loader._fs, Path(loader._get_conf_env_path(env))
    if files.isdir(folder.as_posix()):
        return
    beside = files.ls(folder.parent.as_posix(), detail=False)
    known = [Path(path).name for path in beside if files.isdir(path)]
    raise ValueError(f"{explain_unknown('environment', env, known)} (--env; folders of {loader.conf_source})")


class Failures:
    """What can't be read or written is called by its name in the catalog."""

    @hook_impl
    def on_pipeline_error(self, error: Exception, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Put an entry's name in place of its class and all of its arguments.

        Raises:
            DatasetError: in place of Kedro's.
        """
        if not isinstance(error, DatasetError):
            return
        for name in sorted(pipeline.datasets()):
            # Kedro's words: "Failed while loading data from dataset CLASS(ARGUMENTS).", and the reason below.
            before, found, reason = str(error).partition(f" dataset {catalog.get(name)!s}.\n")
            if found:
                action = "read" if "loading" in before else "written"
                raise DatasetError(f"{name} can't be {action}: {reason}") from error


class RunSummary:
    """A line for each node, and a last one.

    Which reports the run wrote, or else where its results are, and how long it took.

    Args:
        up_to_date: which nodes were skipped.
    """

    def __init__(self, up_to_date: UpToDate) -> None:
        self.up_to_date = up_to_date
        self.places: dict[str, str] = {}

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Start the clock, number the nodes."""
        self.start = perf_counter()
        total = len(pipeline.nodes)
        self.places = {}
        for place, node in enumerate(pipeline.nodes, start=1):
            self.places[node.name] = f"{place}/{total} "

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Say what is running."""
        # A spawned process has no numbers.
        place = self.places.get(node.name, "")
        logger.info("> %s%s", place, node.name)

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Say where the reports are, or else the folder that all results are in."""
        minutes, seconds = divmod(round(perf_counter() - self.start), 60)
        took = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
        if self.up_to_date.skipped:
            took += f"; {self.up_to_date.skipped} of {self.up_to_date.total} nodes were up to date"
        paths = {}
        for name in sorted(pipeline.outputs()):
            # Kedro has no public way to a dataset's file.
            paths[name] = catalog[name]._describe().get("filepath")
        reports = [str(path or name) for name, path in paths.items() if name.endswith("report")]
        folders = sorted({str(Path(path).parent) for path in paths.values() if path})
        result = "Done"
        if reports:
            result = f"Report: {', '.join(reports)}"
        elif folders:
            result = f"Done: {', '.join(folders)}"
        logger.info("%s (%s)", result, took)
