"""What a run is told to run: a misspelt name is refused before anything starts."""

from collections.abc import Iterable, Mapping
from typing import Any

import click
from kedro.pipeline import Pipeline

from brain_tumor.project.suggestions import explain_unknown

ALL = "all"
"""The pipeline of all that learns, in which parts are looked up that are asked for by their own names."""

PARTS = ("node_names", "from_nodes", "to_nodes", "namespaces", "from_inputs", "to_outputs", "tags")
"""Options of `kedro run` that name parts of a pipeline."""

RUNNERS = ("SequentialRunner", "ParallelRunner", "ThreadRunner")


def require_names(given: Mapping[str, Any], registered: Mapping[str, Pipeline]) -> None:
    """Look up pipelines, nodes, namespaces, entries, tags and the runner that are options of `kedro run`.

    Args:
        given: the options.
        registered: all pipelines by name.

    Raises:
        click.ClickException: naming the first that there isn't, and what was probably meant.
    """
    chosen = given["pipelines"] or [given["pipeline"] or "__default__"]
    _look_up("pipeline", chosen, registered)
    # A name with dots is a class of the user's own.
    if given["runner"] and "." not in given["runner"]:
        _look_up("runner", [given["runner"]], RUNNERS)
    pipeline = sum((registered[name] for name in chosen), Pipeline([]))
    names = {*given["node_names"], *given["from_nodes"], *given["to_nodes"]}
    elsewhere = {}
    # Of several pipelines that have the node, the smallest is what is meant.
    for name, other in sorted(registered.items(), key=lambda pair: -len(pair[1].nodes)):
        for node in other.nodes:
            elsewhere[node.name] = name
    nodes = {node.name for node in pipeline.nodes}
    for name in sorted(names - nodes):
        if name in elsewhere:
            raise click.ClickException(f"node '{name}' is in another pipeline; add --pipelines {elsewhere[name]}")
    _look_up("node", names, nodes)
    _look_up("namespace", given["namespaces"], _namespaces(pipeline))
    entries = [*given["from_inputs"], *given["to_outputs"]]
    _look_up("entry", entries, pipeline.datasets())
    tags = {tag for node in pipeline.nodes for tag in node.tags}
    _look_up("tag", given["tags"], tags)


def names_a_part(given: Mapping[str, Any]) -> bool:
    """Whether parts of a pipeline are asked for by names that say by themselves which task they are of."""
    return any(given[option] for option in PARTS)


def _look_up(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in sorted(names):
        if name not in known:
            raise click.ClickException(explain_unknown(kind, name, known))


def _namespaces(pipeline: Pipeline) -> set[str]:
    """Each namespace, and those that it is in."""
    namespaces = set()
    for node in pipeline.nodes:
        parts = node.namespace.split(".") if node.namespace else []
        for count in range(1, len(parts) + 1):
            namespaces.add(".".join(parts[:count]))
    return namespaces
