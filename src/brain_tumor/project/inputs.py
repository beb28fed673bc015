"""What a run reads must be there before it starts."""

from collections.abc import Mapping
from pathlib import Path

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from brain_tumor.project.paths import WRITTEN, require_folder, require_there
from brain_tumor.project.selection import ALL

SHOWN = 3
"""Missing entries that are named."""


def require_inputs(
    pipeline: Pipeline,
    catalog: CatalogProtocol,
    registered: Mapping[str, Pipeline],
    env: str | None = None,
    *,
    with_params: bool = False,
) -> None:
    """Refuse a part of a pipeline whose inputs nobody has written, with the command that writes them.

    Args:
        pipeline: what is run.
        registered: all pipelines by name.
        env: the configuration environment of the run.
        with_params: whether the run has parameters of its own, which the command must have too.

    Raises:
        FileNotFoundError: if an entry that another node writes isn't there.
    """
    writers: dict[str, str] = {}
    for part in registered.values():
        for node in part.nodes:
            writers |= dict.fromkeys(node.outputs, node.name)
    read = sorted(name for name in pipeline.inputs() if name in writers)
    kept = [name for name in read if name in catalog]
    unkept = [name for name in read if name not in catalog]
    if unkept:
        makers = ", ".join(dict.fromkeys(writers[name] for name in unkept))
        raise FileNotFoundError(f"{_and(unkept)}: not kept between runs; run {makers} too")
    missing = [name for name in kept if not catalog.exists(name)]
    if missing:
        gap = f"{_and(missing)} aren't there; write them first"
        if len(missing) == 1:
            gap = f"{missing[0]} isn't there ({_show(catalog, missing[0])}); write it first"
        more = " with the same --params" if with_params else ""
        raise FileNotFoundError(f"{gap}{more}: {_command(missing, registered, env)}")


def require_paths(paths: Mapping[str, str], pipeline: Pipeline, catalog: CatalogProtocol) -> list[str]:
    """Refuse a path that leads nowhere, or no folder to write to; gives the names of those that the run doesn't use.

    Args:
        paths: parameter > path.

    Raises:
        FileNotFoundError: naming parameter and path.
        NotADirectoryError: the same.
    """
    inputs = pipeline.inputs()
    entries = [name for name in inputs if name in catalog and not name.startswith("params:")]
    read = {path for name in entries for path in _paths(catalog, name)}
    # A node takes a path as a parameter, or reads a catalog entry that lies there.
    used = [name for name, path in paths.items() if path in read or f"params:{name}" in inputs]
    for name in used:
        require_there(name, paths[name])
    outputs = [name for name in pipeline.all_outputs() if name in catalog]
    written = {path for name in outputs for path in _paths(catalog, name)}
    for name in WRITTEN:
        if name in paths and any(Path(path).is_relative_to(paths[name]) for path in written):
            require_folder(name, paths[name])
            used.append(name)
    return [name for name, path in paths.items() if name not in used and path not in written]


def _command(missing: list[str], registered: Mapping[str, Pipeline], env: str | None) -> str:
    able = []
    for name, part in registered.items():
        if name not in ("__default__", ALL) and set(missing) <= part.all_outputs():
            able.append(name)
    # The entry's own task goes first, where several pipelines write it.
    task = missing[0].split(".")[0]
    able.sort(key=lambda name: name != task)
    words = ["kedro run"]
    if able:
        words.append(f"--pipelines {able[0]}")
    if env:
        words.append(f"--env {env}")
    if len(missing) <= SHOWN:
        words.append(f"--to-outputs {','.join(missing)}")
    return " ".join(words)


def _path(catalog: CatalogProtocol, name: str) -> str | None:
    dataset = catalog.get(name)
    path = dataset._describe().get("filepath") if dataset is not None else None
    return str(path) if path else None


def _paths(catalog: CatalogProtocol, name: str) -> list[str]:
    """Paths of an entry: one, or those of several folders."""
    dataset = catalog.get(name)
    described = dataset._describe() if dataset is not None else {}
    paths = [described.get("filepath"), *described.get("folders", {}).values()]
    return [str(path) for path in paths if path]


def _show(catalog: CatalogProtocol, name: str) -> str:
    path = Path(_path(catalog, name) or name)
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _and(names: list[str]) -> str:
    shown = names
    if len(names) > SHOWN:
        # "more" takes the place of the last name.
        first = names[: SHOWN - 1]
        shown = [*first, f"{len(names) - len(first)} more"]
    *all_but_last, last = shown
    if not all_but_last:
        return last
    return f"{', '.join(all_but_last)} and {last}"
