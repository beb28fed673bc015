"""What a user did wrong ends in a line or two on the terminal, whatever runs the nodes.

A fault of the program shows where it happened.
"""

import errno
import logging
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project
from kedro.io import DatasetError
from kedro.pipeline import Node, Pipeline
from kedro.validation.exceptions import CheckFailure, DataValidationError
from pydantic import BaseModel

from brain_tumor import pipeline_registry
from brain_tumor.cli import cli, run, submit
from brain_tumor.project.errors import describe
from brain_tumor.training.processes import OtherMachineGoesOn, _explain


@pytest.fixture
def kedro_run(project, monkeypatch):
    """`kedro run` in a project of its own; gives the status and the lines on the terminal that aren't of the log."""
    monkeypatch.chdir(project)

    def run_in_project(*words, command=run):
        result = CliRunner().invoke(command, words, obj=bootstrap_project(project))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output.strip().splitlines()

    return run_in_project


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pipeline", "segmentation", "--pipelines", "survival"], "--pipeline and --pipelines can't both be given"),
        (["--pipelines", "segm"], "there is no pipeline 'segm'; did you mean 'segmentation'?"),
        (["-n", "index_slices"], "there is no node 'index_slices'; did you mean 'data_segmentation.index_slices'?"),
        (["-n", "nothing_like_it"], "none of the "),
        (["-n", "inference_segmentation.index_scans"], "add --pipelines inference_segmentation"),
        (["--namespaces", "classic_unet"], "did you mean 'segmentation.classic_unet'"),
        (["--to-outputs", "segmentation.split"], "did you mean 'segmentation.splits'"),
        (["--tags", "data"], "there is no tag 'data'; did you mean 'data_engineering'"),
        (["--runner", "Parallel"], "did you mean 'ParallelRunner'"),
        (
            ["--env", "ful"],
            "there is no environment 'ful'; did you mean 'full'? environments are base, figshare, full, local, mlflow",
        ),
        (["--params", "segmentation.recipe.lr=0.1"], "did you mean 'segmentation.recipe.learning_rate'"),
        (["--params", "training.device=tpu"], "training.device must be 'auto', "),
        (
            ["--params", "segmentation.recipe.learning_rate=[1,2]"],
            "--params is split at commas, got 'segmentation.recipe.learning_rate=[1'",
        ),
        (
            ["--params", "data_segmentation.data_set.tissues.0.name=XX"],
            "data_segmentation.data_set.tissues is a list, of which no part can be given; write the whole list into",
        ),
        (["--params", "preparation.workers=0"], "preparation.workers must be "),
        (["--params", "segmentation_source=/a,b"], "--params is split at commas, got 'b'"),
        (["--params", "segmentation_source="], "segmentation_source is empty; give a folder of scans"),
        (["--params", "training.rendezvous="], "training.rendezvous is empty"),
        (["--params", "segmentation_source=/nonexistent"], "segmentation_source is /nonexistent, which isn't there"),
    ],
)
def test_what_was_wrong_is_one_line(kedro_run, words, said):
    status, (line,) = kedro_run(*words)
    assert status == 1
    assert line.startswith("Error: ")
    assert said in line


def test_a_misnamed_tissue_is_one_line(kedro_run, project):
    (project / "conf/local/parameters.yml").write_text(
        "data_segmentation: {data_set: {regions: [{name: WT, tissues: [NCR, oedema]}]}}"
    )
    status, (line,) = kedro_run("--pipelines", "segmentation")
    assert status == 1
    assert (
        "data_segmentation.data_set: region WT is made of ['oedema'], which are not tissues; tissues are "
        "['NCR', 'ED', 'ET']"
    ) in line


def test_a_file_that_is_no_yaml_is_one_line(kedro_run, project):
    (project / "conf/local/parameters.yml").write_text("training: {device: cpu")
    status, (line,) = kedro_run()
    assert status == 1
    assert "conf/local/parameters.yml" in line


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("parameters.yml", b"- training: {device: cpu}\n", "holds a list; settings have names: write `name: value`"),
        ("parameters.yml", b"training\n", "holds a single value; settings have names"),
        ("catalog.yml", b"- a\n", "holds a list"),
        ("parameters.yml", b"# a\n# M\xfcller\n", "line 2: not UTF-8; save the file in that encoding"),
        ("parameters.yml", b"training:\n  seed: 1\n  seed: 2\n", "line 3: 'seed' is in one block twice; keep one"),
        ("parameters.yml", b"training: *a\n", "line 1: no YAML (found undefined alias"),
        ("parameters.yml", b"a: \x07\n", "no YAML (unacceptable character"),
        (
            "parameters.yml",
            b"data_segmentation: {data_set: {tissues: {0: {name: X}}}}\n",
            "data_segmentation.data_set.tissues is a list, of which no part can be given",
        ),
    ],
)
def test_a_file_that_holds_no_settings_is_one_line(kedro_run, project, file, content, said):
    (project / "conf/local" / file).write_bytes(content)
    status, (line,) = kedro_run()
    assert status == 1
    assert said in line
    assert f"conf/local/{file}" in line or f"conf/local/{file[:10]}*.yml" in line


def test_an_empty_file_of_settings_is_none(kedro_run, project):
    (project / "conf/local/parameters.yml").write_text("# nothing yet\n")
    (project / "conf/local/catalog.yml").write_text("")
    _, (line,) = kedro_run("--params", "training.device=tpu")
    assert "training.device must be" in line


def test_from_a_folder_of_the_project_the_log_is_the_same(project):
    (project / "notes").mkdir()
    source = project / "new"
    source.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "KEDRO_LOGGING_CONFIG"}
    words = [sys.executable, "-m", "kedro", "run", "--pipelines", "inference_segmentation", "--params"]
    words.append(f"inference_source={source},inference_network={project}")
    ends = []
    for folder in (project, project / "notes"):
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 1
        ends.append(re.sub(r"\d\d:\d\d:\d\d", "", done.stdout + done.stderr))
    assert ends[1].endswith(ends[0])
    assert ends[1].count("INFO") == 1  # Kedro says where it took its log from before it knows the project


def test_missing_kaggle_credentials_are_three_lines(kedro_run, project, monkeypatch):
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(project))
    status, lines = kedro_run("--env", "full", "--pipelines", "segmentation")
    assert status == 1
    assert len(lines) == 3
    assert lines[0] == (
        "Error: segmentation.source can't be read: Kaggle needs to know who downloads awsaf49/brats2020-training-data:"
    )
    assert lines[1].startswith("1. make a token")
    assert lines[2].startswith("2. run again")


def test_the_traceback_is_kept_and_shown_if_asked_for(kedro_run, replace_pipelines, project, monkeypatch):
    replace_pipelines(refuse)
    _, (line,) = kedro_run()
    assert line.endswith("(traceback: logs/errors.log, or --traceback)")
    kept = (project / "logs/errors.log").read_text()
    assert "Traceback (most recent call last)" in kept
    assert "ValueError: apples are needed" in kept
    for switch in ("--traceback", "-v"):
        with pytest.raises(ValueError, match="apples are needed"):
            kedro_run(switch)
    monkeypatch.setenv("BRAIN_TUMOR_TRACEBACK", "1")
    with pytest.raises(ValueError, match="apples are needed"):
        kedro_run()


def refuse():
    raise ValueError("apples are needed, got pears; bring apples")


def confuse():
    return {}["apples"]


def wait():
    raise OtherMachineGoesOn("the other machine goes on")


def break_off():
    os._exit(1)


RUNNERS = pytest.mark.parametrize("runner", ["SequentialRunner", "ThreadRunner", "ParallelRunner"])


@pytest.fixture
def replace_pipelines(monkeypatch):
    def replace(function):
        nodes = [Node(function, None, "apples", name="pick"), Node(len, "apples", "number", name="count")]
        monkeypatch.setattr(pipeline_registry, "register_pipelines", lambda: {"__default__": Pipeline(nodes)})

    return replace


@RUNNERS
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # of Python 3.12; Kedro forks
def test_an_error_in_a_node_is_one_line(kedro_run, replace_pipelines, runner):
    replace_pipelines(refuse)
    status, lines = kedro_run("--runner", runner)
    assert status == 1
    assert [line for line in lines if line.startswith("Error: ")] == [
        "Error: apples are needed, got pears; bring apples (traceback: logs/errors.log, or --traceback)"
    ]


@RUNNERS
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fault_of_the_program_keeps_its_traceback(kedro_run, replace_pipelines, runner):
    replace_pipelines(confuse)
    with pytest.raises(KeyError):
        kedro_run("--runner", runner)


@RUNNERS
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_where_another_machine_goes_on_a_run_ends_without_an_error(kedro_run, replace_pipelines, runner, caplog):
    replace_pipelines(wait)
    with caplog.at_level(logging.INFO):
        status, lines = kedro_run("--runner", runner)
    assert status == 0
    assert not [line for line in lines if "Error" in line]
    assert caplog.text.count("the other machine goes on") == 1


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_killed_process_is_explained(kedro_run, replace_pipelines):
    replace_pipelines(break_off)
    status, lines = kedro_run("--runner", "ParallelRunner")
    assert status == 1
    assert "memory ran out" in lines[-1]


def test_every_command_is_plain(kedro_run):
    status, (line,) = kedro_run("catalog", "list-patterns", "--env", "ful", command=cli)
    assert (status, "did you mean 'full'" in line) == (1, True)


def test_a_job_is_not_sent_with_what_would_stop_it(kedro_run, monkeypatch):
    for words, said in (
        (["--env", "ful"], "did you mean 'full'"),
        (["--params", "training.devise=cpu"], "did you mean 'training.device'"),
        (["--params", "segmentation.recipe.epochs=few"], "must be a valid integer"),
        (["--pipeline", "segm"], "did you mean 'segmentation'"),
    ):
        status, (line,) = kedro_run(*words, command=submit)
        assert (status, said in line) == (1, True), line
    monkeypatch.setenv("PATH", "")
    status, (line,) = kedro_run(command=submit)
    assert status == 1
    assert "--executor local" in line


def test_a_job_on_this_machine_fails_in_the_words_of_its_error(kedro_run, project):
    (project / "scans").mkdir()
    status, lines = kedro_run(
        "--executor", "local", "--env", "test", "--params", "segmentation_source=scans", command=submit
    )
    assert status == 1
    assert lines[-1].startswith("Error: data: ")
    assert str(project / "scans") in lines[-1]
    assert len(lines) == 2  # the job's number comes first


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_processes_name_their_nodes_however_they_are_started(project, start):
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system can't {start} processes")
    words = [
        "--env",
        "test",
        "--pipelines",
        "segmentation",
        "--to-nodes",
        "data_segmentation.split_patients",
        "--runner",
        "ParallelRunner",
    ]
    environment = os.environ | {"KEDRO_MP_CONTEXT": start}
    done = subprocess.run(
        [sys.executable, "-m", "brain_tumor", *words],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split("> ")[1] for line in done.stderr.splitlines() if "> " in line]
    assert [line.split()[-1] for line in lines] == [
        f"data_segmentation.{name}" for name in ("index_slices", "describe_patients", "split_patients")
    ]
    assert "Completed" not in done.stderr
    if start == "fork":
        assert [line.split()[0] for line in lines] == ["1/3", "2/3", "3/3"]


@pytest.mark.parametrize("ending", ["tar.gz", "zip"])
def test_configuration_may_be_an_archive(kedro_run, project, ending):
    shutil.make_archive(project / "settings", {"tar.gz": "gztar", "zip": "zip"}[ending], project, "conf")
    source = ["--conf-source", str(project / f"settings.{ending}")]
    shutil.rmtree(project / "conf")
    status, lines = kedro_run(
        "--env", "test", "--pipelines", "segmentation", "--to-nodes", "data_segmentation.index_slices", *source
    )
    assert status == 0, lines
    assert (project / "data/02_intermediate/segmentation/index.csv").is_file()
    status, (line,) = kedro_run("--env", "tst", *source)
    assert "there is no environment 'tst'; did you mean 'test'?" in line
    status, (line,) = kedro_run("--params", "segmentation.recipe.lr=1", *source)
    assert "did you mean 'segmentation.recipe.learning_rate'" in line


class Basket(BaseModel, extra="forbid"):
    apples: int
    pears: int = 0


def test_errors_of_libraries_are_put_plainly(tmp_path):
    with pytest.raises(ValueError) as caught:
        Basket.model_validate({"apples": "many", "plums": 3})
    assert describe(caught.value) == "apples must be a valid integer, got 'many'\nthere is no setting 'plums'"
    with pytest.raises(OSError) as missing:
        (tmp_path / "a").read_text()
    assert describe(missing.value) == f"No such file or directory: {tmp_path / 'a'}"
    with pytest.raises(yaml.YAMLError) as garbled:
        yaml.safe_load("a: [1")
    assert "\n" not in describe(garbled.value)
    failure = CheckFailure("no such column", check="column_in_dataframe", failure_examples=["patient"])
    table = DataValidationError("refused", dataset_name="segmentation.index", failures=[failure])
    assert describe(table).startswith(
        "segmentation.index doesn't hold what it should (table: column_in_dataframe, such as patient)"
    )
    assert describe(DatasetError("pears can't be read")) == "pears can't be read"
    assert [
        describe(fault)
        for fault in (KeyError("a"), TypeError("a"), AttributeError("a"), AssertionError("a"), RuntimeError("a"))
    ] == [None] * 5


def test_a_full_disk_is_named_whatever_was_being_written(tmp_path):
    said = []
    for file in ("mask.nii.gz", None):
        try:
            try:
                raise OSError(errno.ENOSPC, "No space left on device", *([file] if file else []))
            except OSError as error:
                raise DatasetError("masks can't be written") from error
        except DatasetError as error:
            said.append(describe(error))
    assert said[0] == (
        "no space left on the disk of mask.nii.gz; make space, or write elsewhere, and run the command again; what is "
        "written stays"
    )
    assert f"no space left on the disk of {Path.cwd()} or " in said[1]


def test_odd_headers_do_not_flood_the_terminal(tmp_path):
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.header["pixdim"][1] = -1
    (tmp_path / "odd.nii").write_bytes(image.header.binaryblock + bytes(4 + 8))
    code = f"import brain_tumor.data.scans.nifti, nibabel; nibabel.load(r'{tmp_path / 'odd.nii'}')"
    assert "pixdim" in _stderr(code.replace("brain_tumor.data.scans.nifti, ", ""))
    assert _stderr(code) == ""


def _stderr(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr


def test_what_stopped_one_of_several_processes_is_one_line():
    failure = {"message": "ValueError: the loss is nan", "extraInfo": {"py_callstack": "Traceback: a, b, c"}}
    assert describe(_explain(1, failure)) == "training stopped in process 1: the loss is nan"
    fault = _explain(0, failure | {"message": "KeyError: 'a'"})
    assert describe(fault) is None
    assert str(fault) == "training stopped in process 0: KeyError: 'a'\nTraceback: a, b, c"
    assert str(_explain(0, "Signal 9 (SIGKILL)")).strip() == "training stopped in process 0: Signal 9 (SIGKILL)"
