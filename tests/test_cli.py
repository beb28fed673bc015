"""`kedro submit`, on a SLURM that only takes notes, and with a time limit on this machine.

And what starting the program costs.
"""

import os
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from click import ClickException
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project
from submitit import LocalExecutor
from submitit.core.utils import DelayedSubmission
from support import sees_processes, wait_until

from brain_tumor.cli import submit
from brain_tumor.networks import networks_of
from brain_tumor.project.cluster import KedroRun, split_pipeline

SBATCH = """#!{python}
import sys
from pathlib import Path
notes = Path("{folder}")
number = len(list(notes.glob("*.sh"))) + 1
(notes / f"{{number}}.sh").write_text(Path(sys.argv[-1]).read_text())
print("Submitted batch job", number)
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder that gets each script handed to sbatch."""
    notes, programs = tmp_path / "notes", tmp_path / "bin"
    notes.mkdir()
    programs.mkdir()
    for name in ("sbatch", "srun"):
        program = programs / name
        program.write_text(SBATCH.format(python=sys.executable, folder=notes))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return notes


def test_one_slurm_job_for_each_experiment_waits_for_the_data(project, slurm, tmp_path):
    arguments = [
        "--env",
        "full",
        "--hours",
        "2",
        "--partition",
        "gpu",
        "--logs",
        str(tmp_path / "logs"),
        "--params",
        "training.seed=7",
    ]
    result = CliRunner().invoke(submit, arguments, obj=bootstrap_project(project), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    scripts = [(slurm / f"{k}.sh").read_text() for k in range(1, len(networks_of("segmentation")) + 3)]
    data, *experiments, comparison = scripts
    assert "dependency" not in data
    assert "gpus-per-node" not in data
    for script in experiments:
        assert "#SBATCH --dependency=afterok:1\n" in script
        assert "#SBATCH --gpus-per-node=1\n" in script
        assert "#SBATCH --partition=gpu\n" in script
        assert "#SBATCH --time=120\n" in script
        assert "#SBATCH --signal=USR2@120" in script
    ids = ":".join(str(k) for k in range(2, len(scripts)))
    assert f"#SBATCH --dependency=afterok:{ids}\n" in comparison
    sent = DelayedSubmission.load(tmp_path / "logs/2/2_submitted.pkl").function
    assert (sent.env, sent.parameters, sent.project) == ("full", {"training": {"seed": 7}}, project)
    assert all(node.startswith("segmentation.") for node in sent.nodes)
    assert len({node.split(".")[1] for node in sent.nodes}) == 1


def test_training_jobs_use_all_the_gpus_that_they_are_given(project, slurm, tmp_path):
    def settings(*more):
        result = CliRunner().invoke(
            submit, ["--logs", str(tmp_path / "logs"), *more], obj=bootstrap_project(project), catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        numbers = [line.split("job ")[1].split(",")[0] for line in result.output.splitlines() if ": job " in line]
        return [
            DelayedSubmission.load(tmp_path / f"logs/{number}/{number}_submitted.pkl").function.parameters
            for number in numbers[:2]
        ]

    assert settings("--gpus", "4", "--params", "training.seed=7") == [
        {"training": {"seed": 7}},
        {"training": {"seed": 7, "devices": 4}},
    ]
    assert settings("--gpus", "4", "--params", "training.devices=2")[1] == {"training": {"devices": 2}}
    assert settings() == [{}, {}]


def test_pipeline_is_split_around_its_experiments(project):
    bootstrap_project(project)
    before, experiments, after = split_pipeline("segmentation")
    assert "data_segmentation.prepare_slices" in before
    assert set(experiments) == {f"segmentation.{network}" for network in networks_of("segmentation")}
    assert set(after) == {"segmentation.compare_networks", "segmentation.write_model_card", "segmentation.write_report"}
    assert split_pipeline("segmentation", list(networks_of("segmentation"))) == (before, experiments, after)
    assert split_pipeline("segmentation", []) == (before, {}, [])  # what is not all there is not compared
    with pytest.raises(ClickException, match="there is no network 'unet' in segmentation; networks are"):
        split_pipeline("segmentation", ["unet"])
    with pytest.raises(ClickException, match="there is no pipeline 'segment'"):
        split_pipeline("segment")


def test_the_package_runs_as_a_program(project):
    command = [
        sys.executable,
        "-m",
        "brain_tumor",
        "--env",
        "test",
        "--pipelines",
        "data_engineering",
        "--to-nodes",
        "data_segmentation.index_slices",
    ]
    result = subprocess.run(
        command,
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Done: " in result.stderr + result.stdout


@sees_processes
def test_job_out_of_time_goes_on_from_its_checkpoint(project, sample, tmp_path):
    parameters = {"segmentation_source": str(sample), "segmentation": {"recipe": {"epochs": 40, "patience": 40}}}
    bootstrap_project(project)
    before, experiments, _ = split_pipeline("segmentation", ["classic_unet"])
    KedroRun(project, "test", "segmentation", before, parameters)()
    executor = LocalExecutor(folder=tmp_path / "logs")
    executor.update_parameters(timeout_min=10)
    job = executor.submit(
        KedroRun(project, "test", "segmentation", experiments["segmentation.classic_unet"], parameters)
    )
    checkpoints = project / "data/06_models/segmentation/classic_unet/checkpoints"
    wait_until(lambda: list(checkpoints.glob("*/epoch_*.ckpt")))
    (task,) = _processes("submitit.core._submit", job.paths.folder)
    os.kill(task, signal.SIGUSR2)  # what SLURM sends when the time limit is near
    job.result()
    log = job.stderr() + job.stdout()
    assert "going on after epoch" in log
    table = (project / "data/06_models/segmentation/classic_unet/training_log.csv").read_text().splitlines()
    assert len(table) == 41
    assert "Requeued job" in log
    assert _processes("submitit", job.paths.folder) == []


def _processes(program, folder):
    """Those that run a program with a folder as an argument."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = file.read_bytes().decode(errors="replace").split("\0")
            found += [int(file.parent.name)] if any(program in word for word in words) and str(folder) in words else []
    return found


def test_nothing_that_takes_long_to_import_is_imported_before_a_node_runs():
    slow = [
        "torch",
        "lightning",
        "monai",
        "sklearn",
        "matplotlib",
        "lifelines",
        "scipy.special",
        "scipy.stats",
        "scipy.ndimage",
        "kagglehub",
        "mlflow",
    ]
    code = (
        "import sys; from brain_tumor.pipeline_registry import register_pipelines; register_pipelines(); "
        f"print([n for n in {slow} if n in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
