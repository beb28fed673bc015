"""Commands of the project besides Kedro's own, and Kedro's with errors in one or two lines."""

import re
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.cli import project_commands
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import _split_params
from kedro.framework.startup import ProjectMetadata
from kedro.utils import find_kedro_project

from brain_tumor.project.config_files import use_project_logging
from brain_tumor.project.errors import SWITCH, plain_errors
from brain_tumor.project.parameters import put
from brain_tumor.project.paths import PATHS
from brain_tumor.project.selection import ALL, names_a_part, require_names


class PlainCommand(click.Command):
    """A command whose errors are the words of what was wrong."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Read the command line."""
        with plain_errors():
            return super().make_context(*args, **options)

    def invoke(self, context: click.Context) -> Any:
        """Do what it asks for."""
        with plain_errors(show_traceback=context.params.pop("traceback", False)):
            if isinstance(context.obj, ProjectMetadata):
                use_project_logging(Path(context.obj.project_path))
            return super().invoke(context)


class Commands(click.Group):
    """The project's own commands; those of Kedro are found here too, for their errors."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """One of the project's, or else of Kedro's."""
        own = super().get_command(context, name)
        return own or _make_plain(project_commands.get_command(context, name))


def _make_plain(command: click.Command | None) -> click.Command | None:
    """The same command, of a class that is plain besides what it was."""
    plain = copy(command)
    if plain is not None:
        plain.__class__ = type("Plain", (PlainCommand, type(plain)), {})
    return plain


def split_params(context: click.Context, option: click.Parameter, value: Any) -> dict[str, Any]:
    """`--params` as nested settings. Paths are taken as they are written: to YAML `~` is nothing, and 007 is 7.

    Raises:
        click.ClickException: if an item has no value, or is a part of a list.
    """
    if isinstance(value, dict):
        return value
    items = [item.strip() for item in value.split(",") if item.strip()]
    for item in items:
        name, equals, given = (part.strip() for part in item.partition("="))
        if not equals or (given.startswith(("[", "{")) and not given.endswith(("]", "}"))):
            remedy = "a list, or a path with a comma, goes into conf/local/parameters.yml"
            raise click.ClickException(f"--params is split at commas, got '{item}'; {remedy}")
        if not given:
            what = PATHS.get(name, "a value")
            remedy = f"give {what}, or null for none, and check that the shell variable in it is set"
            raise click.ClickException(f"{name} is empty; {remedy}")
    parameters: dict[str, Any] = _split_params(context, option, ",".join(items))
    for item in items:
        name, _, given = (part.strip() for part in item.partition("="))
        if name in PATHS and given != "null":
            put(parameters, name, given)
    return parameters


def _run_options() -> Iterator[click.Parameter]:
    """Those of `kedro run`, and a switch."""
    for option in map(copy, kedro_run.params):
        if option.name == "params":
            option.callback = split_params
        yield option
    words = "Show the whole traceback of an error, which is else kept in logs/errors.log."
    yield click.Option(["--traceback", "--verbose", "-v"], is_flag=True, envvar=SWITCH, help=words)


def _run(**given: Any) -> Any:
    from kedro.framework.project import pipelines

    from brain_tumor.project.experiments import choose_experiments, read_experiments

    if given["pipeline"] and given["pipelines"]:
        remedy = "name all of them in --pipelines, separated by commas"
        raise click.ClickException(f"--pipeline and --pipelines can't both be given; {remedy}")
    if not given["pipeline"] and not given["pipelines"] and names_a_part(given):
        given["pipelines"] = [ALL]
    conf = given.get("conf_source") or str((find_kedro_project(Path.cwd()) or Path.cwd()) / "conf")
    choose_experiments(read_experiments(conf, given["env"], given["params"]))
    require_names(given, pipelines)
    if given["runner"] == "ParallelRunner":
        given["runner"] = "brain_tumor.project.runner.ParallelRunner"
    return kedro_run.callback(**given)  # type: ignore[misc]  # a command's function


run = PlainCommand("run", callback=_run, params=[*_run_options()], help=kedro_run.help)
"""`kedro run`, also what `python -m brain_tumor` does."""


@click.group(name="brain-tumor", cls=Commands)
def cli() -> None:
    """The project's own commands."""


cli.add_command(run)


with_environment = click.option("--env", "-e", help="Kedro's configuration environment, such as full.")
with_params = click.option("--params", default="", callback=split_params, help="Parameters to change, as in kedro run.")
"""Options that commands of the project share with `kedro run`."""


def _run_pipeline(project: ProjectMetadata, name: str, env: str | None, params: dict[str, Any]) -> None:
    """Run a pipeline of the project with run parameters."""
    from kedro.framework.session import KedroSession

    with KedroSession.create(project.project_path, env=env, runtime_params=params) as session:
        # Kedro declares fewer arguments than it takes.
        session.run(pipeline_names=[name])  # type: ignore[call-arg]


def split_predictions(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """Name > folder of each `--prediction NAME=FOLDER`; without a name, the folder's own.

    Raises:
        click.BadParameter: if a name is no name, or is given twice.
    """
    folders: dict[str, str] = {}
    for given in value:
        name, equals, folder = given.partition("=")
        # A folder may have an equals sign in its name.
        if not equals or "/" in name or Path(given).is_dir():
            name, folder = re.sub(r"[^\w-]+", "_", Path(given).resolve().name), given
        if not re.fullmatch(r"[\w-]+", name):
            raise click.BadParameter(f"a name has letters, digits, - and _, got '{name}'; give NAME=FOLDER")
        if name in folders:
            raise click.BadParameter(f"'{name}' is there twice; give each a name of its own, as NAME=FOLDER")
        if not folder.strip():
            raise click.BadParameter(f"{name} has no folder; give NAME=FOLDER")
        folders[name] = folder
    return folders


@cli.command(cls=PlainCommand)
@click.option("--reference", required=True, metavar="FOLDER", help="Folder of reference masks.")
@click.option(
    "--prediction",
    "predictions",
    required=True,
    multiple=True,
    metavar="[NAME=]FOLDER",
    callback=split_predictions,
    help="Folder of predicted masks. Several are compared in pairs, on the patients whom all of them have.",
)
@with_environment
@with_params
@click.pass_obj
def score(
    project: ProjectMetadata,
    reference: str,
    predictions: dict[str, str],
    env: str | None,
    params: dict[str, Any],
) -> None:
    """Score masks that any network predicted against reference masks: tables, intervals, pictures, a report."""
    given = {"score_reference": reference, "score_predictions": predictions}
    _run_pipeline(project, "score", env, params | given)


@cli.group(cls=click.Group)
def export() -> None:
    """Write the project's patients and folds for other programs."""


@export.command(cls=PlainCommand)
@click.argument("folder")
@with_environment
@with_params
@click.pass_obj
def nnunet(project: ProjectMetadata, folder: str, env: str | None, params: dict[str, Any]) -> None:
    """Write the patients of segmentation into a new FOLDER as nnU-Net v2 takes them, with the project's folds.

    Name the folder as nnU-Net wants it, such as nnUNet_raw/Dataset501_BraTS.
    """
    _run_pipeline(project, "export_nnunet", env, params | {"nnunet_folder": folder})


def _inference_options(command: Callable[..., None]) -> Callable[..., None]:
    """Those that `kedro segment` and `kedro classify` share."""
    options = [
        click.argument("path"),
        click.option(
            "--network",
            help="A .safetensors file; for scans also the folder of an nnU-Net model or a MONAI bundle.  "
            "[default: that of the catalog]",
        ),
        click.option("--output", help="Folder for all results.  [default: folders in data/]"),
        click.option("--open", "shown", is_flag=True, help="Open the report in a browser."),
        with_environment,
        with_params,
    ]
    # A decorator that is applied last comes first in the help.
    for option in reversed(options):
        command = option(command)
    return click.pass_obj(command)


@cli.command(cls=PlainCommand)
@_inference_options
@click.option("--raw", is_flag=True, help="The scans are as scanned, DICOM or NIfTI: register and prepare them first.")
def segment(project: ProjectMetadata, path: str, raw: bool, shown: bool, **given: Any) -> None:
    """Predict the tumours in new scans: masks, volumes, a report, and viewers.

    PATH is a folder of NIfTI scans, at any depth: FLAIR, T1, T1ce and T2 of each patient. With --raw it may be DICOM
    too, on grids of any kind and with skull; masks are then on the grid of the T1ce.

    \b
    Examples:
      kedro segment scans --open
      kedro segment scans --output results
      kedro segment dicom --raw --open
      kedro segment scans --network data/06_models/segmentation/attention_unet/network.safetensors
      kedro segment scans --params viewer.patients=100,training.device=cpu
    """  # noqa: D301, click needs the character
    from brain_tumor.project.inference import run_inference, tell_segmented

    pipeline = "inference_raw" if raw else "inference_segmentation"
    paths = run_inference(project.project_path, pipeline, path, **given)
    _end(tell_segmented(paths), paths["report"], shown=shown)


@cli.command(cls=PlainCommand)
@_inference_options
def classify(project: ProjectMetadata, path: str, shown: bool, **given: Any) -> None:
    """Classify new images: a table of classes, and a report.

    PATH is a folder of images, at any depth, or one image.

    \b
    Examples:
      kedro classify images --open
      kedro classify scan.jpg --output results
      kedro classify images --network weights/alexnet.safetensors
    """  # noqa: D301
    from brain_tumor.project.inference import run_inference, tell_classified

    paths = run_inference(project.project_path, "inference_classification", path, **given)
    _end(tell_classified(paths), paths["report"], shown=shown)


def _end(line: str, report: Path, *, shown: bool) -> None:
    """Open the report if that was asked for; the last line says where the results are."""
    import webbrowser

    if shown and not webbrowser.open(report.as_uri()):
        click.echo(f"there is no browser here; open {report} in one", err=True)
    click.echo(line)


@cli.command(cls=PlainCommand)
@click.option("--pipeline", default="segmentation", show_default=True, help="What to run.")
@with_environment
@with_params
@click.option("--networks", help="Only these, separated by commas.")
@click.option(
    "--executor",
    type=click.Choice(["slurm", "local"]),
    default="slurm",
    show_default=True,
    help="local: one job after another on this machine.",
)
@click.option("--partition", help="SLURM partition.")
@click.option(
    "--hours",
    default=24.0,
    show_default=True,
    help="Time limit of a job; a job that reaches it is queued again and goes on.",
)
@click.option("--cpus", default=8, show_default=True, help="Cores of a job.")
@click.option("--gpus", default=1, show_default=True, help="GPUs of a training job, which trains on all of them.")
@click.option("--memory", default=32, show_default=True, help="GB of a job.")
@click.option(
    "--logs", type=click.Path(path_type=Path), default=Path("logs"), show_default=True, help="Folder of the jobs' logs."
)
@click.pass_obj
def submit(
    project: ProjectMetadata,
    pipeline: str,
    env: str | None,
    params: dict[str, Any],
    networks: str | None,
    executor: str,
    logs: Path,
    **limits: Any,
) -> None:
    """Run a pipeline as cluster jobs: data, then one job for each experiment, then their comparison."""
    from brain_tumor.project.cluster import submit_jobs

    chosen = networks.split(",") if networks else None
    submit_jobs(project.project_path, pipeline, env, params, chosen, executor, logs, limits)
