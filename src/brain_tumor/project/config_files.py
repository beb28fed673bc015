"""Files of the configuration: one that can't be read as settings is named, with its line."""

import os
from collections.abc import Iterator
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from kedro.config import OmegaConfigLoader
from kedro.framework.project import LOGGING

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

LOGGING_VARIABLE = "KEDRO_LOGGING_CONFIG"
"""Kedro's variable of the environment: the file that says how to log."""

LOGGING_FILE = Path("conf/logging.yml")
"""In the project."""


def require_settings(loader: OmegaConfigLoader) -> None:
    """Refuse a file of parameters or of the catalog that isn't YAML in UTF-8 with names and values in it.

    Raises:
        ValueError: naming the file, the line and the rule.
    """
    for path in _list_files(loader):
        with loader._fs.open(path) as file:  # Kedro has no public way into an archive
            content = file.read()
        try:
            tree = yaml.compose(content.decode(), LOADER)
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise ValueError(f"{path}, line {line}: not UTF-8; save the file in that encoding") from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f", line {mark.line + 1}" if mark else ""
            raise ValueError(f"{path}{line}: no YAML ({error.problem or error.context}); correct it") from error
        except yaml.YAMLError as error:
            raise ValueError(f"{path}: no YAML ({str(error).splitlines()[0]}); correct it") from error
        # A file of comments alone is empty, and so is one that holds `null`.
        empty = tree is None or tree.tag == "tag:yaml.org,2002:null"
        if not empty and not isinstance(tree, yaml.MappingNode):
            what = "a list" if isinstance(tree, yaml.SequenceNode) else "a single value"
            raise ValueError(f"{path} holds {what}; settings have names: write `name: value`, without `-` before it")
        _require_once(path, tree)


def _list_files(loader: OmegaConfigLoader) -> Iterator[str]:
    patterns = [*loader.config_patterns["parameters"], *loader.config_patterns["catalog"]]
    # The environment of the run may be base itself.
    for env in dict.fromkeys([loader.base_env, loader.env or loader.default_run_env]):
        folder = Path(loader._get_conf_env_path(env)).as_posix()
        found = set()
        for pattern in patterns:
            found.update(loader._fs.glob(f"{folder}/{pattern}"))
        yield from sorted(path for path in found if loader._is_valid_config_path(Path(path)))


def _require_once(path: str, tree: yaml.Node | None) -> None:
    """Refuse a block that has one name twice, of which YAML would take the last."""
    if isinstance(tree, yaml.SequenceNode):
        for item in tree.value:
            _require_once(path, item)
    if not isinstance(tree, yaml.MappingNode):
        return
    seen = set()
    for key, value in tree.value:
        # `<<` takes in another block, and may do so more than once.
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ValueError(f"{path}, line {line}: '{key.value}' is in one block twice; keep one of them")
            seen.add(key.value)
        _require_once(path, value)


def use_project_logging(project: Path) -> None:
    """Log as the project's file says, also where the working directory is another one, in which Kedro doesn't find it.

    A file that the environment names goes before.
    """
    file = project / LOGGING_FILE
    if LOGGING_VARIABLE in os.environ or LOGGING_FILE.is_file() or not file.is_file():
        return
    wanted = yaml.safe_load(file.read_text(encoding="utf-8"))
    if LOGGING.data.get("handlers") != wanted["handlers"]:
        LOGGING.configure(wanted)
        os.environ[LOGGING_VARIABLE] = str(file)  # spawned processes read it
