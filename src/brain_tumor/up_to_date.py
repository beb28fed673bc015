"""Nodes are not run again where nothing that their outputs are made from has changed.

After a node has run, `data/.provenance/<node>.json` has a digest of its code, of each of its inputs, parameters and outputs. In the next run the node is up
to date if all of them are the same and no node before it runs. `RUN_ALL` set in the environment, or the folder deleted, runs everything again.
"""

import hashlib
import inspect
import json
import logging
import os
import platform
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import AbstractDataset, DataCatalog
from kedro.pipeline import Node, Pipeline
from pydantic import BaseModel

from brain_tumor.code_digest import digest_code

logger = logging.getLogger(__name__)

RUN_ALL = "BRAIN_TUMOR_RUN_ALL"
"""A variable of the environment: if it is set, every node runs."""

FOLDER = Path("data/.provenance")

ALWAYS = ("inference_segmentation", "inference_classification")
"""Namespaces whose nodes always run: new scans and images are asked for by who runs them."""

WHOLE = 32 * 2**20
"""Bytes: files up to this size are compared by what they hold, larger ones and those in folders by size and times."""

ABSENT = "absent"

MACHINE = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Variables of the environment that decide where and how torch computes."""


@dataclass(frozen=True)
class Provenance:
    """What a node's outputs were made from. All values are digests.

    Attributes:
        code: of the node's function, of what it imports, and versions of libraries.
        inputs: of each input and parameter.
        outputs: of each output, and of the caches that the node fills.
        run: when the run began in which they were made.
    """

    code: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    run: str

    def changes(self, now: "Provenance") -> list[str]:
        """Names of what isn't the same any more."""
        was, is_now = self.inputs | self.outputs, now.inputs | now.outputs
        changed = [name for name in was if was[name] != is_now.get(name)]
        return [*changed, "its code"] if self.code != now.code else changed


class NotComparableError(Exception):
    """What a node is made from can't be compared with what it was made from: it always runs."""


class UpToDate:
    """Leaves the nodes that are up to date out of a run, and writes down what the others made their outputs from.

    Attributes:
        total: nodes of the run.
        skipped: how many of them were up to date.
    """

    def __init__(self) -> None:
        self.total = self.skipped = 0
        self._catalog: DataCatalog | None = None  # of the run in progress; None in a process that was spawned

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember where records are."""
        self._folder = Path(context.project_path) / FOLDER

    @hook_impl(trylast=True)  # other hooks see the whole pipeline
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Take the nodes that are up to date out of the pipeline. Nodes that were asked for by name run."""
        self._catalog, self._run, self._whole = catalog, run_params["run_id"], dict(vars(pipeline))
        self._maker = {output: node.name for node in pipeline.nodes for output in node.outputs}
        self._saved: dict[str, set[str]] = defaultdict(set)
        self._loaded: dict[str, dict[str, str]] = {}
        entries = Entries(catalog)
        self._before = {name: state for name in pipeline.inputs() if (state := entries.try_state(name))}
        named = run_params.get("node_names") or run_params.get("only_missing_outputs")
        stale = pipeline.nodes if named or os.environ.get(RUN_ALL) else self._find_stale(pipeline, entries)
        self.total, self.skipped = len(pipeline.nodes), len(pipeline.nodes) - len(stale)
        if self.skipped:
            words = "%d of %d nodes are up to date: nothing that their outputs are made from has changed (%s=1 runs them again)"
            logger.info(words, self.skipped, self.total, RUN_ALL)
            _become(pipeline, vars(Pipeline(stale)))  # Kedro shows hooks the pipeline that it is about to run, but takes none from them

    def _find_stale(self, pipeline: Pipeline, entries: "Entries") -> list[Node]:
        """Nodes that aren't up to date, and all that come after them."""
        stale: set[Node] = set()
        for node in pipeline.nodes:
            if pipeline.node_dependencies[node] & stale or not self._is_up_to_date(node, entries):
                stale.add(node)
        return [node for node in pipeline.nodes if node in stale]

    def _is_up_to_date(self, node: Node, entries: "Entries") -> bool:
        was = self._read(node.name)
        if was is None or (node.namespace or "").split(".")[0] in ALWAYS:
            return False
        try:
            changed = was.changes(entries.find_provenance(node))
        except NotComparableError:
            return False
        if changed:
            logger.info("%s runs again: since it ran, there is a change of %s", node.name, ", ".join(changed))
        return not changed

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Remember what was loaded that no node of this run makes: simulated and downloaded sources are written when they are loaded."""
        if self._catalog is not None:
            entries = Entries(self._catalog)
            outside = [name for name in node.inputs if name in self._before and not _is_parameter(name)]
            self._loaded[node.name] = {name: state for name in outside if (state := entries.try_state(name))}

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """When all outputs of a node are saved, write down what they were made from."""
        if self._catalog is None:
            return
        self._saved[node.name].add(dataset_name)
        if self._saved[node.name] == set(node.outputs):
            self._write(node)

    @hook_impl(tryfirst=True)  # other hooks see the whole pipeline
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog, run_result: dict[str, Any]) -> None:
        """Write down what nodes did in processes where no hook is called; hand the pipeline back as it was, with all of its outputs."""
        for node in pipeline.nodes:
            was = self._read(node.name)
            if was is None or was.run != self._run:
                self._write(node)
        self._end(pipeline)
        run_result |= {name: catalog[name] for name in pipeline.outputs()}

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self, pipeline: Pipeline) -> None:
        """Hand the pipeline back as it was."""
        self._end(pipeline)

    def _end(self, pipeline: Pipeline) -> None:
        _become(pipeline, self._whole)
        self._catalog = None

    def _write(self, node: Node) -> None:
        """Write the record of a node that has run, unless one of its inputs was changed meanwhile by somebody else."""
        from brain_tumor.datasets.atomic import replacing

        assert self._catalog is not None
        parameters = {name: state for name, state in self._before.items() if _is_parameter(name)}
        try:
            now = Entries(self._catalog, parameters).find_provenance(node, self._run)
        except NotComparableError:
            return
        if all(self._is_as_used(node, name, state) for name, state in now.inputs.items()):
            with replacing(self._folder / f"{node.name}.json") as draft:
                draft.write_text(json.dumps(asdict(now), indent=1), encoding="utf-8")

    def _is_as_used(self, node: Node, name: str, state: str) -> bool:
        """Whether an input is as the node of this run left it that makes it; as it was when loaded, if none does."""
        if name in self._maker:
            maker = self._read(self._maker[name])
            return maker is not None and maker.outputs.get(name) == state
        loaded = self._loaded.get(node.name, {}).get(name)
        return state == loaded if loaded else self._before.get(name) in (ABSENT, state)

    def _read(self, node: str) -> Provenance | None:
        try:
            return Provenance(**json.loads((self._folder / f"{node}.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def _become(pipeline: Pipeline, attributes: Mapping[str, Any]) -> None:
    vars(pipeline).clear()
    vars(pipeline).update(attributes)


class Entries:
    """Digests of the entries of a catalog as they are now; each is taken once."""

    def __init__(self, catalog: DataCatalog, states: Mapping[str, str] | None = None) -> None:
        self._catalog = catalog
        self._states = dict(states or {})

    def find_provenance(self, node: Node, run: str = "") -> Provenance:
        """What a node's outputs are made from, and the outputs.

        Raises:
            NotComparableError: if something isn't in a local file, or code isn't known.
        """
        if not node.outputs:
            raise NotComparableError
        caches = {name for name in node.inputs if self._is_cache(name)}
        inputs = {name: self.find_state(name) for name in node.inputs if name not in caches}
        outputs = {name: self.find_state(name) for name in (*node.outputs, *sorted(caches))}
        if ABSENT in (outputs[name] for name in node.outputs):
            raise NotComparableError
        classes = {type(self._catalog[name]) for name in (*node.outputs, *inputs) if not _is_parameter(name)}
        return Provenance(_digest(str(node), _digest_function(node), sorted(map(_digest_class, classes)), versions()), inputs, outputs, run)

    def find_state(self, name: str) -> str:
        """Digest of a parameter, or of how an entry is kept and of its files."""
        if name not in self._states:
            self._states[name] = self._find_parameter(name) if _is_parameter(name) else self._find_files(name)
        return self._states[name]

    def try_state(self, name: str) -> str | None:
        """The same; None if it can't be compared."""
        try:
            return self.find_state(name)
        except NotComparableError:
            return None

    def _find_parameter(self, name: str) -> str:
        if name not in self._catalog:
            raise NotComparableError
        value = self._catalog.load(name)
        leaves = list(_leaves(value))
        files = [_file_state(Path(leaf).expanduser()) for leaf in leaves if isinstance(leaf, str) and os.path.isfile(Path(leaf).expanduser())]  # noqa: PTH113
        return _digest(_plain(value), files, *_where(value))

    def _find_files(self, name: str) -> str:
        path = self._path(name)
        if self._is_cache(name):
            return _digest(sorted(child.name for child in path.iterdir()) if path.is_dir() else ABSENT)
        state = _file_state(path)
        return ABSENT if state == ABSENT else _digest(state, self._catalog[name]._init_config())

    def _path(self, name: str) -> Path:
        entry = None if _is_parameter(name) else self._catalog.get(name)
        path = entry and entry._describe().get("filepath")
        if path is None or getattr(entry, "_version", None) or getattr(entry, "_protocol", "file") != "file":
            raise NotComparableError
        return Path(str(path))

    def _is_cache(self, name: str) -> bool:
        """Whether an entry only saves work: what it holds changes no output. It is filled again when it was emptied."""
        from brain_tumor.datasets import CheckpointsDataset, InspectionsDataset

        return not _is_parameter(name) and isinstance(self._catalog.get(name), CheckpointsDataset | InspectionsDataset)


def _is_parameter(name: str) -> bool:
    return name.startswith("params:") or name == "parameters"


def _file_state(path: Path) -> str:
    """Digest of a file, or of all files below a folder."""
    from brain_tumor.data.files import file_state, list_files

    if path.is_dir():
        return _digest([file_state(file) for file in list_files(path)])
    if not path.is_file():
        return ABSENT
    if path.stat().st_size > WHOLE:
        return _digest(file_state(path))
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else {k: _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _leaves(value: Any) -> Iterator[Any]:
    value = _plain(value)
    if isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(part)
    else:
        yield value


def _where(value: Any) -> list[str]:
    """What else depends on settings of the machine: where networks are computed. Machines that train together decide nothing apart."""
    from brain_tumor.training.settings import EngineSettings

    if not isinstance(value, EngineSettings):
        return []
    if value.nodes > 1:
        raise NotComparableError
    return [describe_machine()]


@cache
def describe_machine() -> str:
    """Digest of the processor, the GPUs, the cores to use and what the environment says of them; asked without torch, which mustn't be asked before a fork."""
    cpu, driver = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")
    lines = cpu.read_text().split("\n\n")[0].splitlines() if cpu.is_file() else []
    processor = [line for line in lines if line.startswith(("model name", "flags", "Features"))] or [platform.processor()]
    gpus = [file.read_text() for file in sorted(driver.glob("*/information"))]
    gpus += sorted(str(device) for device in Path("/dev").glob("nvidia[0-9]*"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return _digest(platform.system(), platform.machine(), processor, gpus, cores, [os.environ.get(name) for name in MACHINE])


@cache
def versions() -> str:
    """Digest of the versions of Python and of all libraries that the project needs."""
    names = {re.split(r"[^\w.-]", line)[0] for line in requires("brain-tumor-mri") or [] if "extra ==" not in line}
    return _digest(platform.python_version(), sorted((name, _version(name)) for name in {*names, "brain-tumor-mri"}))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _digest_function(node: Node) -> str:
    """Of the code of a node's function. What a function made by another one remembers can't be seen."""
    function = inspect.unwrap(node.func)
    if not inspect.isfunction(function) or function.__closure__:
        raise NotComparableError
    return _digest_module(function.__module__)


def _digest_class(kind: type[AbstractDataset]) -> str:
    """Of how entries of a kind are kept, if it is the project's own; those of libraries have a version."""
    own = kind.__module__.startswith("brain_tumor.")
    return _digest_module(kind.__module__, imports=False) if own else f"{kind.__module__}.{kind.__name__}"


def _digest_module(module: str, *, imports: bool = True) -> str:
    try:
        return digest_code(module, imports=imports)
    except (LookupError, SyntaxError) as error:
        raise NotComparableError from error


def _digest(*parts: Any) -> str:
    return hashlib.blake2b(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()
