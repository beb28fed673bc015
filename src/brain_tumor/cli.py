"""Commands of the project besides Kedro's own."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.cli.project import run as run  # what `python -m brain_tumor` runs
from kedro.framework.cli.utils import _split_params
from kedro.framework.startup import ProjectMetadata

if TYPE_CHECKING:
    import submitit


@click.group(name="brain-tumor")
def cli() -> None:
    """The project's own commands."""


@dataclass
class KedroRun:
    """A part of a pipeline, run in another process; when its time is up it is queued again and goes on from its checkpoint.

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
        with KedroSession.create(self.project, env=self.env, runtime_params=self.parameters) as session:
            session.run(pipeline_names=[self.pipeline], node_names=self.nodes)  # type: ignore[call-arg]  # Kedro declares less than it gives

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """What submitit queues when the time limit is near."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@cli.command()
@click.option("--pipeline", default="segmentation", show_default=True, help="What to run.")
@click.option("--env", "-e", help="Kedro's configuration environment, such as full.")
@click.option("--params", default="", callback=_split_params, help="Parameters to change, as in kedro run.")
@click.option("--networks", help="Only these, separated by commas.")
@click.option("--executor", type=click.Choice(["slurm", "local"]), default="slurm", show_default=True, help="local: one job after another on this machine.")
@click.option("--partition", help="SLURM partition.")
@click.option("--hours", default=24.0, show_default=True, help="Time limit of a job; a job that reaches it is queued again and goes on.")
@click.option("--cpus", default=8, show_default=True, help="Cores of a job.")
@click.option("--gpus", default=1, show_default=True, help="GPUs of a training job, which trains on all of them.")
@click.option("--memory", default=32, show_default=True, help="GB of a job.")
@click.option("--logs", type=click.Path(path_type=Path), default=Path("logs"), show_default=True, help="Folder of the jobs' logs.")
@click.pass_obj
def submit(
    project: ProjectMetadata, pipeline: str, env: str | None, params: dict[str, Any], networks: str | None, executor: str, logs: Path, **resources: Any
) -> None:
    """Run a pipeline as cluster jobs: data, then one job for each experiment, then their comparison."""
    try:
        import submitit
    except ImportError as error:
        raise click.ClickException("kedro submit needs submitit: pip install 'brain-tumor-mri[cluster]'") from error
    before, experiments, after = split_pipeline(pipeline, networks.split(",") if networks else None)
    queue = submitit.AutoExecutor(folder=logs / "%j", cluster=executor, **({"slurm_max_num_timeout": 100} if executor == "slurm" else {}))

    def start(name: str, nodes: list[str], waits_for: Iterable[Any], gpus: int) -> Any:
        queue.update_parameters(**_resources(executor, name, list(waits_for), gpus, resources))
        devices = {"training": {"devices": gpus} | params.get("training", {})} if gpus > 1 and executor == "slurm" else {}
        job = queue.submit(KedroRun(project.project_path, env, pipeline, nodes, params | devices))
        click.echo(f"{name}: job {job.job_id}, {len(nodes)} nodes, log {job.paths.stdout}")
        if executor == "local":
            job.result()
        return job

    data = [start("data", before, [], 0)] if before else []
    trained = [start(name, nodes, data, resources["gpus"]) for name, nodes in experiments.items()]
    last = start("comparison", after, trained, 0) if after else [*data, *trained][-1]
    click.echo(last.stderr().splitlines()[-1] if executor == "local" else "Submitted; watch with squeue --me")


def split_pipeline(name: str, networks: list[str] | None = None) -> tuple[list[str], dict[str, list[str]], list[str]]:
    """Nodes before the experiments, of each experiment, and after them. Without all of its networks a pipeline isn't compared.

    Raises:
        click.ClickException: if there is no such pipeline or network.
    """
    from kedro.framework.project import pipelines

    if name not in pipelines:
        raise click.ClickException(f"there is no pipeline '{name}'; pipelines are {', '.join(pipelines)}")
    experiments: dict[str, list[str]] = {}
    for node in pipelines[name].nodes:
        if node.namespace and "." in node.namespace:
            experiments.setdefault(node.namespace, []).append(node.name)
    known = [experiment.split(".")[1] for experiment in experiments]
    for network in networks or []:
        if network not in known:
            raise click.ClickException(f"there is no network '{network}' in {name}; networks are {', '.join(known)}")
    chosen = {key: nodes for key, nodes in experiments.items() if networks is None or key.split(".")[1] in networks}
    inside = {node for nodes in experiments.values() for node in nodes}
    later = {node.name for node in pipelines[name].from_nodes(*inside).nodes} - inside if inside else set()
    before = [node.name for node in pipelines[name].nodes if node.name not in inside | later]
    return before, chosen, sorted(later) if len(chosen) == len(experiments) else []


def _resources(executor: str, name: str, waits_for: list[Any], gpus: int, limits: dict[str, Any]) -> dict[str, Any]:
    common = {"name": name, "timeout_min": int(limits["hours"] * 60)}
    if executor == "local":
        return common
    slurm = {"slurm_signal_delay_s": 120, "slurm_cpus_per_task": limits["cpus"], "slurm_mem": f"{limits['memory']}GB", "slurm_gpus_per_node": gpus or None}
    if limits["partition"]:
        slurm["slurm_partition"] = limits["partition"]
    if waits_for:
        ids = ":".join(job.job_id for job in waits_for)
        slurm["slurm_additional_parameters"] = {"dependency": f"afterok:{ids}", "kill-on-invalid-dep": "yes"}
    else:
        slurm["slurm_additional_parameters"] = {}
    return common | slurm
