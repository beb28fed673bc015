"""Parameters: which there are, and what a misspelt one was meant to be."""

from collections.abc import Iterator, Mapping
from inspect import signature
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from kedro.pipeline import Pipeline
from pydantic import BaseModel

from brain_tumor.data.common.renamed import find_new_name
from brain_tumor.project.suggestions import did_you_mean, nearest

Known = dict[str, "Known | None"]
"""Names of parameters; a block has those in it, a value has None."""

ANY = "*"
"""In a block that takes names of the user's own: what each of them holds."""

FREE: Known = {}
"""A block that may hold anything, such as the arguments of a library's network."""

MISSING = object()
"""In place of a value that isn't given."""


def list_settings(pipelines: Mapping[str, Pipeline]) -> dict[str, Any]:
    """Each parameter that a node takes, as `segmentation.recipe`, and the type it is taken as.

    Whole tasks, which reports show, are excluded.
    """
    # By name: a node is in several pipelines.
    nodes = {node.name: node for pipeline in pipelines.values() for node in pipeline.nodes}
    settings = {}
    for node in nodes.values():
        hints = get_type_hints(node.func)
        arguments = signature(node.func).parameters
        # Not strict: of *results there are more inputs than arguments.
        for argument, name in zip(arguments, node.inputs, strict=False):
            kind = hints.get(argument)
            is_whole_task = get_origin(kind) is dict
            if name.startswith("params:") and kind is not None and not is_whole_task:
                settings[name.removeprefix("params:")] = kind
    return settings


def list_known(base: Mapping[str, Any], settings: Mapping[str, Any]) -> Known:
    """All parameters: those that the files of `conf/base` name, and every field of the settings that nodes take.

    Args:
        base: what these files hold.
        settings: of `list_settings`.
    """
    known = _names(base)
    for path, kind in settings.items():
        *parents, last = path.split(".")
        block = known
        for parent in parents:
            inner = block.get(parent)
            if inner is None:
                inner = block[parent] = {}
            block = inner
        block[last] = _fields(kind)
    return known


def _names(block: Mapping[str, Any]) -> Known:
    names: Known = {}
    for key, value in block.items():
        # An empty block takes names of the user's own.
        names[str(key)] = (_names(value) or {ANY: None}) if isinstance(value, Mapping) else None
    return names


def _fields(kind: Any) -> Known | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: _fields(field.annotation) for name, field in kind.model_fields.items()}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (dict, Mapping):
        _, value = arguments
        # Annotated with what checks the values.
        value = get_args(value)[0] if get_origin(value) is Annotated else value
        return {ANY: FREE if value is Any else _fields(value)}
    # A list of blocks, whose names are numbers.
    inner = _fields(arguments[0]) if origin is tuple else None
    return {ANY: inner} if inner else None


def require_known(given: Mapping[str, Any], known: Known, where: str) -> None:
    """Refuse a name that isn't a parameter's.

    Args:
        where: where it stands; for the message.

    Raises:
        ValueError: naming the first one, and what was probably meant.
    """
    for path in list_paths(given):
        if not path.startswith("_") and not _is_known(path, known):
            raise ValueError(explain_unknown(path, known, where))


def require_whole_lists(given: Mapping[str, Any], before: Mapping[str, Any], where: str) -> None:
    """Refuse a part of a list, such as `data_segmentation.data_set.tissues.0.name`.

    Args:
        before: parameters that those given change.
        where: where they stand; for the message.

    Raises:
        ValueError: naming the list.
    """
    for path in list_paths(given):
        was, now = look_up(before, path), look_up(given, path)
        if isinstance(was, list) and isinstance(now, Mapping):
            remedy = "write the whole list into conf/local/parameters.yml"
            raise ValueError(f"{path} is a list, of which no part can be given; {remedy} ({where})")


def list_paths(block: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every name in a block and in the blocks in it, each after its own: `training`, `training.seed`."""
    for key, value in block.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from list_paths(value, f"{prefix}{key}.")


def _is_known(path: str, known: Known) -> bool:
    try:
        find(path, known)
    except KeyError:
        return False
    return True


def find(path: str, known: Known) -> Known | None:
    """What is known under a name, None for a value.

    Raises:
        KeyError: if there is no such name.
    """
    place: Known | None = known
    for name in path.split("."):
        if place is None:
            raise KeyError(path)
        if place is FREE:
            return FREE
        # In a block that takes no names of the user's own, ANY is the key that is missing.
        place = place[name if name in place else ANY]
    return place


def explain_unknown(path: str, known: Known, where: str) -> str:
    """That there is no such parameter, the nearest that there is, and what else is in its block."""
    new = find_new_name(path)
    if new:
        return f"the parameter '{path}' is called '{new}' now; rename it ({where})"
    block, _, name = path.rpartition(".")
    inside = find(block, known) if block else known
    if inside is None:
        return f"there is no parameter '{path}'; {block} is a single value, not a block"
    beside = [child for child in inside if child != ANY]
    prefix = f"{block}." if block else ""
    deeper = [child for child in list_paths(inside) if ANY not in child.split(".")]
    # A name of the same block goes before one further in: most often only a letter is wrong.
    similar = nearest(name, beside) or nearest(name, deeper)
    words = [f"there is no parameter '{path}';"]
    if similar:
        words.append(did_you_mean([prefix + child for child in similar]))
    # Outside of blocks there are too many names to list.
    if block:
        words.append(f"{block} has {', '.join(beside)}")
    return " ".join([*words, f"({where})"])


def look_up(parameters: Mapping[str, Any], path: str) -> Any:
    """The value under a name such as `training.seed`, or MISSING."""
    value: Any = parameters
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return MISSING
        value = value[name]
    return value


def put(parameters: dict[str, Any], path: str, value: Any) -> None:
    """Set the value under a name such as `training.seed`, in place."""
    *blocks, last = path.split(".")
    for block in blocks:
        parameters = parameters.setdefault(block, {})
    parameters[last] = value
