"""Values of parameters: what is wrong with one, in a line."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from brain_tumor.project.parameters import MISSING, Known, explain_unknown, look_up

SHOWN = 2
"""Problems that a message names."""

LONGEST = 60
"""Characters of a value that are shown."""


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
        is_block = isinstance(kind, type) and issubclass(kind, BaseModel)
        try:
            # Kedro hands single values on as they are, so that a text "3" must not pass for a number.
            TypeAdapter(kind).validate_python(value, strict=not is_block)
        except ValidationError as error:
            problems += explain_values(error, path, value, known)
    if problems:
        hidden = len(problems) - SHOWN
        more = f" (and {hidden} more)" if hidden > 0 else ""
        raise ValueError("\n".join(problems[:SHOWN]) + more)


def explain_values(
    error: ValidationError,
    path: str = "",
    value: Any = MISSING,
    known: Known | None = None,
) -> list[str]:
    """What is wrong with each value that pydantic refused: name, rule, what was got.

    Args:
        path: name of the block that was checked, if it has one.
        value: that block, which tells names of keys from those of a union's members, which pydantic puts among them.
        known: all parameters, for a suggestion where a name is misspelt.
    """
    rules: dict[tuple[str, str], list[str]] = {}
    problems = error.errors(include_url=False)
    for problem in problems:
        steps = problem["loc"]
        # What is in the list was refused, and then not counted.
        if problem["type"] == "too_short" and any(_is_inside(other["loc"], steps) for other in problems):
            continue
        if value is not MISSING and problem["type"] != "missing":
            steps = _steps_within(steps, value)
        names = [path, *map(str, steps)]
        key = ".".join(filter(None, names)) or error.title
        if problem["type"] == "extra_forbidden":
            unknown = f"there is no setting '{key}'"
            if known:
                unknown = explain_unknown(key, known, "in conf/base/parameters*.yml")
            rules[key, ""] = [unknown]
        elif problem["type"] == "missing":
            rules[key, ""] = [f"{key} is missing; give it"]
        elif problem["type"] == "value_error":
            message = problem["msg"].removeprefix("Value error, ")
            rules[key, ""] = [f"{key}: {message}"]
        else:
            got = _show(problem["input"])
            # A union refuses a value once for each of its members.
            rules.setdefault((key, got), []).append(_put_plainly(problem["msg"]))
    explained = []
    for (key, got), rule in rules.items():
        either = " or ".join(dict.fromkeys(rule)).replace(" or be ", " or ")
        explained.append(f"{key} must {either}, got {got}" if got else either)
    return explained


def _is_inside(steps: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(steps) > len(outer) and steps[: len(outer)] == outer


def _steps_within(steps: tuple[int | str, ...], value: Any) -> tuple[int | str, ...]:
    for count, step in enumerate(steps):
        is_block = isinstance(value, Mapping | list | tuple)
        # A step that is no key is the name of a union's member.
        if not is_block or (isinstance(value, Mapping) and step not in value):
            return steps[:count]
        # In a list the step is a number.
        value = value[step]
    return steps


def _put_plainly(rule: str) -> str:
    """`Input should be a valid integer, unable to parse string as an integer`: `be a valid integer`."""
    plain = re.sub(r"^\w+ should ", "", rule).split(", unable to")[0]
    return "be a block of settings" if "dictionary" in plain else plain


def _show(value: Any) -> str:
    # As it is written in YAML.
    shown = "null" if value is None else repr(value)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."
