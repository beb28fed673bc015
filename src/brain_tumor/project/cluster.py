"""A pipeline as cluster jobs: data, then one job for each experiment, then their comparison."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brain_tumor.project.errors import plain_errors
from brain_tumor.project.suggestions import explain_unknown

if TYPE_CHECKING:
    import submitit


@dataclass
class KedroRun:
    """A part of a pipeline, run in another process.

    When its time is up it is queued again and goes on from its checkpoint.

    Attributes:
        parameters: of `--params`.
        nodes: names of the nodes to run.
    """

    project: Path
    env: str | None
    pipeline: str
    nodes: list[str]
    parameters: dict[str, Any] = field(default_factory=dict)

    def __call__(self) -> None:
        """Run the nodes."""
        from kedro.framework.session import KedroSession
        from kedro.framework.startup import bootstrap_project

        bootstrap_project(self.project)
        with plain_errors(), KedroSession.create(self.project, env=self.env, runtime_params=self.parameters) as session:
            # Kedro declares fewer arguments than it takes.
            session.run(pipeline_names=[self.pipeline], node_names=self.nodes)  # type: ignore[call-arg]

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """What submitit queues when the time limit is near."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit_jobs(
    project: Path,
    pipeline: str,
    env: str | None,
    params: dict[str, Any],
    networks: list[str] | None,
    executor: str,
    logs: Path,
    limits: dict[str, Any],
) -> None:
    """Queue the jobs, or run one after another on this machine.

    Raises:
        click.ClickException: if something that the jobs need isn't there, before any is sent; if a job on this machine
        fails.
    """
    try:
        import submitit
        from submitit.core.utils import FailedJobError
    except ImportError as error:
        raise click.ClickException("kedro submit needs submitit: pip install 'brain-tumor-mri[cluster]'") from error
    _require_settings(project, env, params)
    before, experiments, after = split_pipeline(pipeline, networks)
    if executor == "slurm" and not shutil.which("srun"):
        remedy = "--executor local runs the jobs here, one after another"
        raise click.ClickException(f"this machine has no SLURM (there is no srun); {remedy}")
    # submitit gives up after three time limits unless it is told otherwise.
    requeued = {"slurm_max_num_timeout": 100} if executor == "slurm" else {}
    queue = submitit.AutoExecutor(folder=logs / "%j", cluster=executor, **requeued)

    def start(name: str, nodes: list[str], waits_for: Iterable[Any], gpus: int) -> Any:
        resources = _resources(executor, name, list(waits_for), gpus, limits)
        queue.update_parameters(**resources)
        devices = {}
        if gpus > 1 and executor == "slurm":
            # A number of devices that is given goes before that of the job.
            devices = {"training": {"devices": gpus} | params.get("training", {})}
        run = KedroRun(project, env, pipeline, nodes, params | devices)
        job = queue.submit(run)
        log = job.paths.stdout
        click.echo(f"{name}: job {job.job_id}, {len(nodes)} nodes, log {log}")
        if executor == "local":
            try:
                job.result()
            except FailedJobError as error:
                explanation = _explain_failure(name, str(error), job.paths.stderr)
                raise click.ClickException(explanation) from error
        return job

    data = [start("data", before, [], 0)] if before else []
    gpus = limits["gpus"]
    trained = [start(name, nodes, data, gpus) for name, nodes in experiments.items()]
    jobs = [*data, *trained]
    if after:
        jobs.append(start("comparison", after, trained, 0))
    if executor == "local":
        # The last line of a run names its report.
        click.echo(jobs[-1].stderr().splitlines()[-1])
    else:
        click.echo("Submitted; watch with squeue --me")


def _require_settings(project: Path, env: str | None, params: dict[str, Any]) -> None:
    """Look at environment and parameters as a job would."""
    from kedro.framework.session import KedroSession

    with KedroSession.create(project, env=env, runtime_params=params) as session:
        session.load_context()  # type: ignore[attr-defined]  # Kedro declares less than it gives


def _explain_failure(name: str, report: str, log: Path) -> str:
    """The words of an error that a user can mend, of a fault of the program all that submitit tells."""
    kind = click.ClickException
    # submitit's report ends with the traceback of the job, and a line of dashes.
    _, mendable, words = report.partition(f"{kind.__module__}.{kind.__name__}: ")
    if not mendable:
        return report
    message = words.split("\n---")[0].strip()
    return f"{name}: {message} (log: {log})"


def split_pipeline(name: str, networks: list[str] | None = None) -> tuple[list[str], dict[str, list[str]], list[str]]:
    """Nodes before the experiments, of each experiment, and after them.

    Without all of its networks a pipeline isn't compared.

    Raises:
        click.ClickException: if there is no such pipeline or network.
    """
    from kedro.framework.project import pipelines

    if name not in pipelines:
        raise click.ClickException(explain_unknown("pipeline", name, pipelines))
    pipeline = pipelines[name]
    experiments: dict[str, list[str]] = {}
    # Nodes of an experiment are in the namespace of its task and its network, as `segmentation.classic_unet`.
    for node in pipeline.nodes:
        if node.namespace and "." in node.namespace:
            experiments.setdefault(node.namespace, []).append(node.name)
    known = [experiment.split(".")[1] for experiment in experiments]
    for network in networks or []:
        if network not in known:
            raise click.ClickException(f"there is no network '{network}' in {name}; networks are {', '.join(known)}")
    chosen = experiments
    if networks is not None:
        chosen = {key: nodes for key, nodes in experiments.items() if key.split(".")[1] in networks}
    inside = {node for nodes in experiments.values() for node in nodes}
    later: set[str] = set()
    if inside:
        later = {node.name for node in pipeline.from_nodes(*inside).nodes} - inside
    before = [node.name for node in pipeline.nodes if node.name not in inside | later]
    after = sorted(later) if len(chosen) == len(experiments) else []
    return before, chosen, after


def _resources(executor: str, name: str, waits_for: list[Any], gpus: int, limits: dict[str, Any]) -> dict[str, Any]:
    common = {"name": name, "timeout_min": int(limits["hours"] * 60)}
    if executor == "local":
        return common
    slurm = {
        # A signal two minutes before the time limit lets the job queue itself again.
        "slurm_signal_delay_s": 120,
        "slurm_cpus_per_task": limits["cpus"],
        "slurm_mem": f"{limits['memory']}GB",
        "slurm_gpus_per_node": gpus or None,
    }
    if limits["partition"]:
        slurm["slurm_partition"] = limits["partition"]
    if waits_for:
        ids = ":".join(job.job_id for job in waits_for)
        # A job that waits for one that failed would stay in the queue for ever.
        slurm["slurm_additional_parameters"] = {"dependency": f"afterok:{ids}", "kill-on-invalid-dep": "yes"}
    else:
        # The queue keeps the parameters of the job before.
        slurm["slurm_additional_parameters"] = {}
    return common | slurm
