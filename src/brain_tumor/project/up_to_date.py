"""Nodes are not run again where nothing that their outputs are made from has changed.

After a node has run, `data/.provenance/<node>.json` has a digest of its code, of each of its inputs, parameters and
outputs. In the next run the node is up to date if all of them are the same and no node before it runs. `RUN_ALL` set in
the environment, or the folder deleted, runs everything again.
"""

import hashlib
import inspect
import json
import logging
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import AbstractDataset, DataCatalog
from kedro.pipeline import Node, Pipeline
from pydantic import BaseModel

from brain_tumor.code_digest import digest_code
from brain_tumor.networks.library import find_version, is_library, is_outside, package_of

logger = logging.getLogger(__name__)

RUN_ALL = "BRAIN_TUMOR_RUN_ALL"
"""A variable of the environment: if it is set, every node runs."""

RUN = "BRAIN_TUMOR_RUN"
"""A variable of the environment that tells the processes of a run of it."""

FOLDER = Path("data/.provenance")

ALWAYS = ("inference_segmentation", "inference_classification", "score")
"""Namespaces whose nodes always run: new scans, images and masks are asked for by who runs them."""

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
    """

    code: str
    inputs: dict[str, str]
    outputs: dict[str, str]

    def changes(self, now: "Provenance") -> list[str]:
        """Names of what isn't the same any more."""
        was = self.inputs | self.outputs
        is_now = now.inputs | now.outputs
        changed = [name for name in was if was[name] != is_now.get(name)]
        if self.code != now.code:
            changed.append("its code")
        return changed


class NotComparableError(Exception):
    """What a node is made from can't be compared with what it was made from: it always runs."""


@dataclass(frozen=True)
class Run:
    """What processes that run nodes have to know of the run.

    Attributes:
        id: when it began.
        folder: of the records.
        before: digests of parameters and of other inputs of the pipeline, when the run began.
        makers: output > the node of the run that makes it.
    """

    id: str
    folder: str
    before: dict[str, str]
    makers: dict[str, str]


class UpToDate:
    """Leaves the nodes that are up to date out of a run, and writes down what the others made their outputs from.

    Attributes:
        total: nodes of the run.
        skipped: how many of them were up to date.
    """

    def __init__(self) -> None:
        self.total = self.skipped = 0
        self._run: Run | None = None
        self._entries: dict[str, tuple[DataCatalog, dict[str, str]]] = {}
        self._saved: dict[str, set[str]] = {}

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember where records are."""
        self._folder = Path(context.project_path) / FOLDER

    @hook_impl(trylast=True)  # other hooks see the whole pipeline
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Take the nodes that are up to date out of the pipeline. Nodes that were asked for by name run."""
        entries = Entries(catalog)
        self._whole = dict(vars(pipeline))
        before = entries.try_states(pipeline.inputs())
        makers = {output: node.name for node in pipeline.nodes for output in node.outputs}
        self._run = Run(run_params["run_id"], str(self._folder), before, makers)
        # Spawned processes have the environment, but hooks without a memory of this one.
        os.environ[RUN] = json.dumps(asdict(self._run))
        named = run_params.get("node_names") or run_params.get("only_missing_outputs")
        run_all = named or os.environ.get(RUN_ALL)
        stale = pipeline.nodes if run_all else self._find_stale(pipeline, entries)
        self.total = len(pipeline.nodes)
        self.skipped = self.total - len(stale)
        if self.skipped:
            words = (
                "%d of %d nodes are up to date: nothing that their outputs are made from has changed (%s=1 "
                "runs them again)"
            )
            logger.info(words, self.skipped, self.total, RUN_ALL)
            # In place: Kedro shows hooks the pipeline that it is about to run, but takes none from them.
            _become(pipeline, vars(Pipeline(stale)))

    def _find_stale(self, pipeline: Pipeline, entries: "Entries") -> list[Node]:
        """Nodes that aren't up to date, and all that come after them."""
        stale: set[Node] = set()
        # Kedro sorts nodes so that each comes after those that it depends on.
        for node in pipeline.nodes:
            if pipeline.node_dependencies[node] & stale or not self._is_up_to_date(node, entries):
                stale.add(node)
        return [node for node in pipeline.nodes if node in stale]

    def _is_up_to_date(self, node: Node, entries: "Entries") -> bool:
        was = _read(self._folder, node.name)
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
    def before_node_run(self, node: Node, catalog: DataCatalog) -> None:
        """Remember what was loaded that no node of this run makes.

        Simulated and downloaded sources are written when they are loaded.
        """
        if self._run is None and RUN in os.environ:
            self._run = Run(**json.loads(os.environ[RUN]))
        if self._run is not None:
            outside = [name for name in node.inputs if name not in self._run.makers and not _is_parameter(name)]
            loaded = Entries(catalog).try_states(outside)
            self._entries[node.name] = catalog, self._run.before | loaded
            self._saved[node.name] = set()

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """When all outputs of a node are saved, write down what they were made from."""
        if self._run is not None:
            self._saved[node.name].add(dataset_name)
            if self._saved[node.name] == set(node.outputs):
                self._write(node, self._run)

    @hook_impl(tryfirst=True)  # other hooks see the whole pipeline
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog, run_result: dict[str, Any]) -> None:
        """Hand the pipeline back as it was, with all of its outputs."""
        self._end(pipeline)
        run_result |= {name: catalog[name] for name in pipeline.outputs()}

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self, pipeline: Pipeline) -> None:
        """Hand the pipeline back as it was."""
        self._end(pipeline)

    def _end(self, pipeline: Pipeline) -> None:
        _become(pipeline, self._whole)
        self._run = None
        os.environ.pop(RUN, None)

    def _write(self, node: Node, run: Run) -> None:
        """Write the record of a node that has run, unless one of its inputs was changed meanwhile by somebody else."""
        from brain_tumor.data.common.atomic import replacing

        catalog, loaded = self._entries[node.name]
        parameters = {name: state for name, state in loaded.items() if _is_parameter(name)}
        try:
            now = Entries(catalog, parameters).find_provenance(node)
        except NotComparableError:
            return
        used = loaded | self._read_makers(node, run)
        if all(used.get(name) == state for name, state in now.inputs.items()):
            with replacing(Path(run.folder) / f"{node.name}.json") as draft:
                draft.write_text(json.dumps(asdict(now), indent=1), encoding="utf-8")

    def _read_makers(self, node: Node, run: Run) -> dict[str, str]:
        """Digests of a node's inputs as nodes of this run left them."""
        states = {}
        for name in node.inputs:
            if name in run.makers:
                record = _read(Path(run.folder), run.makers[name])
                # Without a record the input can't be vouched for: "" is no digest.
                states[name] = record.outputs.get(name, "") if record else ""
        return states


def _read(folder: Path, node: str) -> Provenance | None:
    """The record of a node; None if there is none that can be read."""
    file = folder / f"{node}.json"
    try:
        return Provenance(**json.loads(file.read_text(encoding="utf-8")))
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

    def find_provenance(self, node: Node) -> Provenance:
        """What a node's outputs are made from, and the outputs.

        Raises:
            NotComparableError: if something isn't in a local file, or code isn't known.
        """
        if not node.outputs:
            raise NotComparableError
        # A cache is an input that the node also fills: it is compared as an output.
        caches = {name for name in node.inputs if self._is_cache(name)}
        inputs = {name: self.find_state(name) for name in node.inputs if name not in caches}
        outputs = {name: self.find_state(name) for name in (*node.outputs, *sorted(caches))}
        if any(outputs[name] == ABSENT for name in node.outputs):
            raise NotComparableError
        entries = [name for name in (*node.outputs, *inputs) if not _is_parameter(name)]
        classes = {type(self._catalog[name]) for name in entries}
        code = _digest(
            str(node),
            _digest_function(node),
            sorted(map(_digest_class, classes)),
            versions(),
        )
        return Provenance(code, inputs, outputs)

    def find_state(self, name: str) -> str:
        """Digest of a parameter, or of how an entry is kept and of its files."""
        if name not in self._states:
            find = self._find_parameter if _is_parameter(name) else self._find_files
            self._states[name] = find(name)
        return self._states[name]

    def try_state(self, name: str) -> str | None:
        """The same; None if it can't be compared."""
        try:
            return self.find_state(name)
        except NotComparableError:
            return None

    def try_states(self, names: Iterable[str]) -> dict[str, str]:
        """Digests of those that can be compared."""
        states = {name: self.try_state(name) for name in names}
        return {name: state for name, state in states.items() if state}

    def _find_parameter(self, name: str) -> str:
        if name not in self._catalog:
            raise NotComparableError
        value = self._catalog.load(name)
        paths = [Path(leaf).expanduser() for leaf in _leaves(value) if isinstance(leaf, str)]
        # By os.path: a text too long for a name is no error there. Folders that are given are whole paths by now.
        files = [_file_state(path) for path in paths if os.path.isfile(path) or _is_whole_folder(path)]  # noqa: PTH113
        return _digest(_plain(value), files, *_where(value), *_library(value))

    def _find_files(self, name: str) -> str:
        path = self._path(name)
        if self._is_cache(name):
            # Names alone: what is in the files changes no output.
            children = sorted(child.name for child in path.iterdir()) if path.is_dir() else ABSENT
            return _digest(children)
        state = _file_state(path)
        if state == ABSENT:
            return ABSENT
        return _digest(state, self._catalog[name]._init_config())

    def _path(self, name: str) -> Path:
        entry = None if _is_parameter(name) else self._catalog.get(name)
        path = entry and entry._describe().get("filepath")
        is_versioned = getattr(entry, "_version", None)
        is_local = getattr(entry, "_protocol", "file") == "file"
        if path is None or is_versioned or not is_local:
            raise NotComparableError
        return Path(str(path))

    def _is_cache(self, name: str) -> bool:
        """Whether an entry only saves work: what it holds changes no output. It is filled again when it was emptied."""
        from brain_tumor.datasets import CheckpointsDataset, InspectionsDataset

        if _is_parameter(name):
            return False
        return isinstance(self._catalog.get(name), CheckpointsDataset | InspectionsDataset)


def _is_parameter(name: str) -> bool:
    return name.startswith("params:") or name == "parameters"


def _file_state(path: Path) -> str:
    """Digest of a file, or of all files below a folder."""
    from brain_tumor.data.common.files import file_state, list_files

    if path.is_dir():
        return _digest([file_state(file) for file in list_files(path)])
    if not path.is_file():
        return ABSENT
    # Reading a large file would take as long as some nodes.
    if path.stat().st_size > WHOLE:
        return _digest(file_state(path))
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _is_whole_folder(path: Path) -> bool:
    return path.is_absolute() and os.path.isdir(path)  # noqa: PTH112


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return value


def _leaves(value: Any) -> Iterator[Any]:
    value = _plain(value)
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _where(value: Any) -> list[str]:
    """What else depends on settings of the machine: where networks are computed.

    Machines that train together decide nothing apart.
    """
    from brain_tumor.training.settings import EngineSettings

    if not isinstance(value, EngineSettings):
        return []
    if value.nodes > 1:
        raise NotComparableError
    return [describe_machine()]


def _library(value: Any) -> list[str]:
    """What else depends on code elsewhere: versions of libraries, the files of the user's own packages."""
    from brain_tumor.training.settings import ExperimentSettings, Recipe, list_classes

    named = [value.network] if isinstance(value, ExperimentSettings) else []
    if isinstance(value, Recipe):
        named = list_classes(value)
    return [state for name in named if is_library(name) for state in _code_state(name)]


def _code_state(name: str) -> list[str]:
    """What changes when the code of a class does."""
    package = package_of(name)
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise NotComparableError
    if not is_outside(name):
        return [str(find_version(package))]
    own = Path(spec.origin)
    files = sorted(own.parent.rglob("*.py")) if own.name == "__init__.py" else [own]
    return [_file_state(file) for file in files]


@cache
def describe_machine() -> str:
    """Digest of the processor, the GPUs, the cores to use and what the environment says of them.

    Asked without torch, which mustn't be asked before a fork.
    """
    processor = _describe_processor() or [platform.processor()]
    driver = Path("/proc/driver/nvidia/gpus")
    gpus = [file.read_text(encoding="utf-8") for file in sorted(driver.glob("*/information"))]
    # A container may see devices without the driver's description of them.
    gpus += sorted(str(device) for device in Path("/dev").glob("nvidia[0-9]*"))
    # A scheduler gives a process some of the cores; macOS has no such call.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    variables = [os.environ.get(name) for name in MACHINE]
    return _digest(platform.system(), platform.machine(), processor, gpus, cores, variables)


def _describe_processor() -> list[str]:
    """Name and instructions of the processor on Linux, where `platform.processor` has only the architecture."""
    file = Path("/proc/cpuinfo")
    if not file.is_file():
        return []
    # The first block is the first core: the others have the same lines.
    first = file.read_text(encoding="utf-8").split("\n\n")[0]
    return [line for line in first.splitlines() if line.startswith(("model name", "flags", "Features"))]


@cache
def versions() -> str:
    """Digest of the versions of Python and of all libraries that the project needs."""
    lines = requires("brain-tumor-mri") or []
    # Extras are tools for development and tracking, on which no result depends.
    names = {re.split(r"[^\w.-]", line)[0] for line in lines if "extra ==" not in line}
    names.add("brain-tumor-mri")
    found = sorted((name, _version(name)) for name in names)
    return _digest(platform.python_version(), found)


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
    if kind.__module__.startswith("brain_tumor."):
        return _digest_module(kind.__module__, imports=False)
    return f"{kind.__module__}.{kind.__name__}"


def _digest_module(module: str, *, imports: bool = True) -> str:
    try:
        return digest_code(module, imports=imports)
    except (LookupError, SyntaxError) as error:
        raise NotComparableError from error


def _digest(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
