"""Parameters: which there are, what a misspelt one was meant to be, which values they take; paths among them."""

import os
import re
from collections.abc import Iterator, Mapping
from inspect import signature
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from kedro.pipeline import Pipeline
from pydantic import BaseModel, TypeAdapter, ValidationError

from brain_tumor.names import did_you_mean, nearest

Known = dict[str, "Known | None"]
"""Names of parameters; a block has those in it, a value has None."""

ANY = "*"
"""In a block that takes names of the user's own: what each of them holds."""

PATHS = {
    "segmentation_source": "a folder of scans",
    "classification_source": "a folder with Training and Testing in it",
    "survival_source": "a folder of masks",
    "survival_tables": "a folder with survival_info.csv",
    "inference_source": "a folder of scans or images",
    "inference_network": "a .safetensors file",
    "segmentation.initial_weights": "a .safetensors file",
}
"""Parameters that are paths, and what each is."""

LONGEST = 60
"""Characters of a value that are shown."""


def list_settings(pipelines: Mapping[str, Pipeline]) -> dict[str, Any]:
    """Each parameter that a node takes, as `segmentation.recipe`, and the type it is taken as.

    Whole tasks, which reports show, are left out.
    """
    nodes = {node.name: node for pipeline in pipelines.values() for node in pipeline.nodes}
    settings = {}
    for node in nodes.values():
        hints = get_type_hints(node.func)
        arguments = signature(node.func).parameters
        for argument, name in zip(arguments, node.inputs, strict=False):  # of *results there are more
            kind = hints.get(argument)
            if name.startswith("params:") and kind is not None and get_origin(kind) is not dict:
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
    return {str(key): _names(value) if isinstance(value, Mapping) else None for key, value in block.items()}


def _fields(kind: Any) -> Known | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: _fields(field.annotation) for name, field in kind.model_fields.items()}
    if get_origin(kind) is dict:
        return {ANY: _fields(get_args(kind)[1])}
    return None


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
        place = place[name if name in place else ANY]
    return place


def explain_unknown(path: str, known: Known, where: str) -> str:
    """That there is no such parameter, the nearest that there is, and what else is in its block."""
    block, _, name = path.rpartition(".")
    inside = find(block, known) if block else known
    if inside is None:
        return f"there is no parameter '{path}'; {block} is a single value, not a block"
    beside = [child for child in inside if child != ANY]
    prefix = f"{block}." if block else ""
    deeper = [child for child in list_paths(inside) if not child.endswith(ANY)]
    question = did_you_mean([prefix + child for child in nearest(name, beside) or nearest(name, deeper)])
    rest = [f"{block} has {', '.join(beside)}"] if block else []
    return " ".join([f"there is no parameter '{path}';", *[question] * bool(question), *rest, f"({where})"])


def check_values(parameters: Mapping[str, Any], settings: Mapping[str, Any], known: Known) -> None:
    """Refuse values that the settings don't take.

    Args:
        parameters: of the files and of the run together.
        settings: of `list_settings`.
        known: of `list_known`.

    Raises:
        ValueError: a line for each of the first two.
    """
    problems: list[str] = []
    for path, kind in settings.items():
        value = look_up(parameters, path)
        if value is MISSING:
            continue
        checked = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
        try:
            TypeAdapter(kind).validate_python(value, strict=checked is None)
        except ValidationError as error:
            problems += explain_values(error, path, value, known)
    if problems:
        more = f" (and {len(problems) - 2} more)" if len(problems) > 2 else ""
        raise ValueError("\n".join(problems[:2]) + more)


MISSING = object()


def look_up(parameters: Mapping[str, Any], path: str) -> Any:
    """The value under a name such as `training.seed`, or MISSING."""
    value: Any = parameters
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return MISSING
        value = value[name]
    return value


def explain_values(error: ValidationError, path: str = "", value: Any = MISSING, known: Known | None = None) -> list[str]:
    """What is wrong with each value that pydantic refused: name, rule, what was got.

    Args:
        path: name of the block that was checked, if it has one.
        value: that block, which tells names of keys from those of a union's members, which pydantic puts among them.
        known: all parameters, for a suggestion where a name is misspelt.
    """
    rules: dict[tuple[str, str], list[str]] = {}
    for problem in error.errors(include_url=False):
        steps = problem["loc"]
        if value is not MISSING and problem["type"] != "missing":
            steps = _steps_within(steps, value)
        key = ".".join(filter(None, [path, *map(str, steps)])) or error.title
        if problem["type"] == "extra_forbidden":
            where = "in conf/base/parameters*.yml"
            rules[key, ""] = [explain_unknown(key, known, where) if known else f"there is no setting '{key}'"]
        elif problem["type"] == "missing":
            rules[key, ""] = [f"{key} is missing; give it"]
        elif problem["type"] == "value_error":
            rules[key, ""] = [f"{key}: {problem['msg'].removeprefix('Value error, ')}"]
        else:
            rules.setdefault((key, _show(problem["input"])), []).append(_put_plainly(problem["msg"]))
    explained = []
    for (key, got), rule in rules.items():
        either = " or ".join(dict.fromkeys(rule))
        explained.append(f"{key} must be {either}, got {got}" if got else either)
    return explained


def _steps_within(steps: tuple[int | str, ...], value: Any) -> tuple[int | str, ...]:
    for count, step in enumerate(steps):
        if not isinstance(value, Mapping | list | tuple) or (isinstance(value, Mapping) and step not in value):
            return steps[:count]
        value = value[step]  # type: ignore[index]  # a number where it is a list
    return steps


def _put_plainly(rule: str) -> str:
    """`Input should be a valid integer, unable to parse string as an integer`: `a valid integer`."""
    plain = re.sub(r"^\w+ should (be )?", "", rule).split(", unable to")[0]
    return "a block of settings" if "dictionary" in plain else plain


def _show(value: Any) -> str:
    shown = "null" if value is None else repr(value)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."


def resolve_paths(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Each path that is given, whole: `~` is the home folder, and what is relative starts at the working directory.

    Raises:
        ValueError: if one is empty or can't be a path.
    """
    resolved = {}
    for name, what in PATHS.items():
        value = look_up(parameters, name)
        if value is None or value is MISSING:
            continue
        # a folder named 2023 comes as a number
        if isinstance(value, bool) or not isinstance(value, str | int | float | os.PathLike):
            raise ValueError(f"{name} must be a path, got {_show(value)}; give {what}")
        if not str(value).strip():
            remedy = f"give {what}, or null for none, and check that the shell variable in it is set"
            raise ValueError(f"{name} is empty; {remedy}")
        try:
            resolved[name] = str(Path(str(value)).expanduser().absolute())
        except RuntimeError as error:
            raise ValueError(f"{name} is {value}, but there is no such home folder; write it out") from error
    return resolved


def put(parameters: dict[str, Any], path: str, value: Any) -> None:
    """Set the value under a name such as `training.seed`, in place."""
    *blocks, last = path.split(".")
    for block in blocks:
        parameters = parameters.setdefault(block, {})
    parameters[last] = value


def require_there(name: str, path: str) -> None:
    """Refuse a path that leads nowhere.

    Raises:
        FileNotFoundError: naming parameter and path.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{name} is {path}, which isn't there; give {PATHS[name]}")
