"""Errors that a user can mend end in a line or two; what else there is to see of them goes to a file."""

import errno
import logging
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import click
from kedro.config import MissingConfigException
from kedro.framework.cli.utils import KedroCliError
from kedro.io import DatasetError
from kedro.validation.exceptions import DataValidationError, ParameterValidationError
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError  # type: ignore[import-untyped]

from brain_tumor.project.run_locks import AnotherRunError
from brain_tumor.project.values import explain_values
from brain_tumor.training.processes import OtherMachineGoesOn, TrainingStopped

logger = logging.getLogger(__name__)

LOG = Path("logs/errors.log")
"""Where tracebacks go, in the working directory."""

SWITCH = "BRAIN_TUMOR_TRACEBACK"
"""Environment variable that brings tracebacks to the terminal, as `kedro run --traceback` does."""

MENDABLE = (
    ValueError,
    OSError,
    ImportError,
    DatasetError,
    ParameterValidationError,
    MissingConfigException,
    OmegaConfBaseException,
    YAMLError,
    TrainingStopped,
    AnotherRunError,
)
"""Kinds of errors that are about what a user gave. Others are faults of the program and show where they happened."""

SHOWN = 2
"""Failed checks of a table that are named."""


@contextmanager
def plain_errors(*, show_traceback: bool = False) -> Iterator[None]:
    """End with the words of an error instead of its traceback, and with status 1.

    Args:
        show_traceback: leave errors as they are; the environment variable SWITCH does the same.

    Raises:
        click.ClickException: in place of an error that a user can mend; the traceback is in LOG.
        click.exceptions.Exit: with status 0, where another machine goes on.
    """
    try:
        yield
    except KedroCliError as error:  # which would show another error than itself
        raise click.ClickException(error.message) from error
    # No failure: the command ends well, and the next one of a script may follow.
    except OtherMachineGoesOn as end:
        logger.info("%s", end)
        raise click.exceptions.Exit(0) from end
    except KeyboardInterrupt:
        logger.warning("interrupted; the same command goes on with what is not finished")
        raise
    except Exception as error:
        words = describe(error)
        if words is None or show_traceback or os.environ.get(SWITCH):
            raise
        raise click.ClickException(f"{words} ({_keep_traceback(error)})") from error


def describe(error: Exception) -> str | None:
    """What was wrong, in the fewest words; None for what isn't a user's to mend."""
    if isinstance(error, BrokenExecutor):
        remedy = "fewer at a time need less: --runner-params max_workers=1"
        return f"a process ended before its node was done, most often because memory ran out; {remedy}"
    if not isinstance(error, MENDABLE):
        return None
    full = _find_full_disk(error)
    if full is not None:
        where = full.filename or f"{Path.cwd()} or {tempfile.gettempdir()}"
        remedy = "make space, or write elsewhere, and run the command again; what is written stays"
        return f"no space left on the disk of {where}; {remedy}"
    if isinstance(error, ValidationError):
        return "\n".join(explain_values(error)[:SHOWN])
    if isinstance(error, DataValidationError):
        return _describe_table(error)
    # Without the number of the error, which Python puts first.
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, OmegaConfBaseException | YAMLError):
        return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return str(error).strip() or type(error).__name__


def _find_full_disk(error: BaseException | None) -> OSError | None:
    """The error among those that led to this one that a disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        error = error.__cause__ or error.__context__
    return None


def _describe_table(error: DataValidationError) -> str:
    failures = []
    for failure in error.failures:
        column = failure.column or "table"
        rule = failure.check or failure.message
        examples = ", ".join(map(str, failure.failure_examples[:SHOWN]))
        failures.append(f"{column}: {rule}, such as {examples}")
    shown = "; ".join(failures[:SHOWN]) or error.message
    name = error.dataset_name or "a table"
    return f"{name} doesn't hold what it should ({shown}); run the pipeline that writes it again"


def _keep_traceback(error: Exception) -> str:
    """Write it down, and say where it is."""
    # An error must not be lost because the folder can't be written to.
    try:
        LOG.parent.mkdir(exist_ok=True)
        with LOG.open("a", encoding="utf-8") as file:
            file.write(f"\n{datetime.now():%Y-%m-%d %H:%M:%S} {shlex.join(sys.argv)}\n")
            file.writelines(traceback.format_exception(error))
    except OSError:
        return "traceback: --traceback"
    return f"traceback: {LOG}, or --traceback"
