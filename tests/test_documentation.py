"""Every command of README.md, docs/ and the benchmarks is run, or resolved by the program that would run it.

What can't be says why.
"""

import ast
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from argparse import ArgumentParser
from collections.abc import Iterator
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.runner import AbstractRunner
from markdown_it import MarkdownIt
from packaging.requirements import Requirement
from support import ROOT, copy_project, save_patient

from brain_tumor import networks
from brain_tumor.cli import classify, export, score, segment, submit
from brain_tumor.cli import run as kedro_run
from brain_tumor.networks.trained import read_network
from brain_tumor.project.cluster import split_pipeline
from brain_tumor.reporting.settings_table import flatten

PAGES = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "weights").glob("*.md")),
    ROOT / "weights/collect.py",
]
PAGES += [*sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "benchmarks").glob("*.py"))]
ADDED = "docs/how_to/add_a_network.md"
LIBRARY = "docs/how_to/networks_of_a_library.md"
EXEMPT = {
    "git clone URL brain-tumor-mri": "the reader knows the address",
    "cd brain-tumor-mri": "the folder is the one just cloned",
    "source .venv/bin/activate": "`make demo` makes the environment",
    "python docs/hooks.py": "it writes pages; what it writes is compared below",
    "kedro package": "Kedro's own; runs from archives of settings are tested in test_errors",
    "python -m brain_tumor --conf-source conf-brain_tumor.tar.gz": "the same",
    "pip install -r requirements.lock": "what `make` does first",
    "pip install --no-deps -e .": "what `make` does then",
    "pip install --index-url https://download.pytorch.org/whl/cpu torch==2.13.0": "needs the network",
    "uv venv --python 3.11 .venv": "uv is another program",
    "uv pip install --torch-backend cpu -r requirements.lock": "uv is another program",
    "uv pip install --no-deps -e .": "uv is another program",
    "pip install .": "what is built then is tested in test_installed",
    "python -m brain_tumor new FOLDER": "run in test_installed",
    "cd FOLDER": "the folder is the one just made",
    "pip install dist/brain_tumor_mri-0.1.0-py3-none-any.whl": "the wheel is tested in test_installed",
    "python -m brain_tumor --conf-source dist/conf-brain_tumor.tar.gz --pipelines segmentation": "as kedro package",
    "pip install pre-commit": "pre-commit is another program",
    "pip install nnunetv2": "nnU-Net is another program",
    "git push --follow-tags": "what is pushed is on another machine",
    "mlflow ui --backend-store-uri sqlite:///mlflow.db": "MLflow is an extra; test_tracking tests what it tracks",
}
SEGMENTATION_DATA = "segmentation.slices,segmentation.splits,segmentation.data_report,segmentation.data_sheet"
EXEMPT_PROGRAMS = {"docker": "the image is built and run by its workflow", "pre-commit": "it runs what CI runs"}
PROGRAMS = ("cd", "cp", "git", "jupyter", "kedro", "make", "mlflow", "pip", "pytest", "python", "source", "uv")
PROGRAMS += tuple(EXEMPT_PROGRAMS)


class NotACommandError(AssertionError):
    """A line of a code block that nothing here understands."""


def tokens(page: Path) -> Iterator[tuple[str, str, str]]:
    """Kind, language and text of each piece of code on a page, those in tables and running text too."""
    text = page.read_text(encoding="utf-8")
    for token in (
        MarkdownIt().enable("table").parse(text if page.suffix == ".md" else ast.get_docstring(ast.parse(text)))
    ):
        if token.type in ("fence", "code_block"):
            yield "block", token.info.split()[0] if token.info else "", token.content
        for child in token.children or []:
            if child.type == "code_inline":
                yield "inline", "", child.content


def commands(page: Path) -> Iterator[str]:
    """Every command, without its comment; of `--env full` or `training.devices=2` alone the command that takes it."""
    for kind, language, text in tokens(page):
        if kind == "inline":
            if re.match(rf"({'|'.join(PROGRAMS)}) [\w./'-]", text):
                if text.split()[0] not in EXEMPT_PROGRAMS:
                    yield text
            elif re.match(r"--(env|params|executor|namespaces) \S", text):
                yield ("kedro submit " if "--executor" in text else "kedro run ") + text
            elif re.fullmatch(r"[a-z_]+(\.[a-z_]+)+=\S+", text):
                yield f"kedro run --params {text}"
        elif language in ("", "bash") and not isinstance(read_block(text), dict):
            for line in text.replace("\\\n", "").splitlines():
                words = shlex.split(line.strip().removeprefix(".venv/bin/"), comments=True)
                words[:1] = ["python" if word == "python3" else word for word in words[:1]]
                if words and words[0] not in PROGRAMS:
                    raise NotACommandError(
                        f"{page.name}: '{line}' is neither a command nor parameters; name the block's "
                        "language (text, yaml, python)"
                    )
                if words and words[0] not in EXEMPT_PROGRAMS:
                    yield shlex.join(words)


def read_block(text: str) -> Any:
    """YAML, or None where it isn't."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


CHECKED = [page for page in PAGES if str(page.relative_to(ROOT)) not in (ADDED, LIBRARY)]
ALL = sorted({command for page in CHECKED for command in commands(page)} - EXEMPT.keys())
SETTINGS = [
    (page.name, block)
    for page in CHECKED
    for kind, language, text in tokens(page)
    if kind == "block" and language in ("", "yaml") and isinstance(block := read_block(text), dict)
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = copy_project(tmp_path_factory.mktemp("project"))
    bootstrap_project(folder)
    return folder


@pytest.fixture
def check(project, monkeypatch):
    """Resolves a command as far as the program that runs it can without doing the work."""
    monkeypatch.chdir(project)
    checks = {
        "kedro": check_kedro,
        "make": check_make,
        "pip": check_pip,
        "python": check_python,
        "pytest": check_files,
        "jupyter": check_files,
    }

    def resolve(command: str) -> None:
        program, *words = shlex.split(command)
        if program not in checks:
            raise NotACommandError(
                f"'{command}': {program} is not among {', '.join(checks)}; run the command in a test and "
                "say so in RUN, or why it can't be in EXEMPT"
            )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AbstractRunner, "run", resolve_pipeline)
            for name in ("hooks.require_inputs", "inputs.require_there"):  # nothing has been prepared here
                patch.setattr(f"brain_tumor.project.{name}", lambda *_, **__: None)
            checks[program](words)

    return resolve


def resolve_pipeline(self, pipeline, catalog, *args, **kwargs):
    """Instead of running: everything that the pipeline reads must have a place it comes from."""
    assert pipeline.nodes
    assert [name for name in pipeline.inputs() if name not in catalog] == []
    return {}


def invoke(command, words: list[str], **options) -> None:
    result = CliRunner().invoke(command, words, **options)
    if result.exit_code:
        raise result.exception if isinstance(result.exception, Exception) else AssertionError(result.output)


OTHERS = {"score": score, "export": export}
"""Commands of the project that run a pipeline of their own."""


def check_kedro(words: list[str]) -> None:
    if words[0] == "run":
        invoke(kedro_run, words[1:])
        return
    if words[0] in ("segment", "classify"):
        # The name of a command alone is no call of it.
        if words[1:]:
            check_inference(*words)
        return
    if words[0] in OTHERS:
        command, given = OTHERS[words[0]], words[1:]
        # The name of a command alone is no call of it.
        if given not in ([], ["nnunet"]):
            invoke(command, given, obj=bootstrap_project(Path.cwd()))
        return
    assert words[0] == "submit", f"kedro has no command '{words[0]}' that this test knows"
    if words[1:] == ["--help"]:
        invoke(submit, ["--help"])
        return
    given = submit.make_context("kedro submit", words[1:]).params
    split_pipeline(given["pipeline"], given["networks"].split(",") if given["networks"] else None)
    with KedroSession.create(Path.cwd(), env=given["env"], runtime_params=given["params"]) as session:
        session.run(pipeline_names=[given["pipeline"]])


def check_inference(task: str, *words: str) -> None:
    """The command, but for its last line, which counts what has been done, and for the browser."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("webbrowser.open", lambda _: True)
        for name in ("tell_segmented", "tell_classified"):
            patch.setattr(f"brain_tumor.project.inference.{name}", lambda _: "")
        invoke({"segment": segment, "classify": classify}[task], list(words), obj=bootstrap_project(Path.cwd()))


def check_make(words: list[str]) -> None:
    result = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def check_pip(words: list[str]) -> None:
    """Extras that there are; the lock, the project itself, or a version that the lock has."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if words[:2] == ["install", "-r"]:
        assert words[2:] == ["requirements.lock"]
        return
    if words == ["install", "--no-deps", "-e", "."]:
        return
    if "--index-url" in words:
        assert words[1] in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
        return
    wanted = Requirement(words[-1].replace(".[", f"{about['name']}["))
    assert words[:-1] in (["install"], ["install", "-e"])
    assert wanted.name == about["name"]
    assert wanted.extras <= about["optional-dependencies"].keys()


def check_python(words: list[str]) -> None:
    """As far as the arguments of a script are read; a module must be there."""
    if words[0] == "-m":
        assert find_spec(words[1]) is not None
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        patch.syspath_prepend((ROOT / words[0]).parent)
        parse = ArgumentParser.parse_args

        def read_and_stop(parser, *args):
            parse(parser, *args)
            raise KeyboardInterrupt

        patch.setattr(ArgumentParser, "parse_args", read_and_stop)
        with pytest.raises(KeyboardInterrupt):
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")


def check_files(words: list[str]) -> None:
    assert all((ROOT / word).exists() for word in words if "/" in word), words


# Commands that are run for real by the tests below
RUN = {
    "cp data/06_models/segmentation/classic_unet/network.safetensors pretrained.safetensors",
    (
        "kedro run --namespaces=segmentation.classic_unet --params "
        "segmentation.initial_weights=pretrained.safetensors,segmentation.recipe.learning_rate=0.001"
    ),
    "kedro run --namespaces=segmentation.classic_unet",
    (
        "kedro run --pipelines segmentation --params segmentation_source=scans,data_segmentation.data_set.name=Mine "
        f"--to-outputs {SEGMENTATION_DATA}"
    ),
}


@pytest.mark.parametrize("command", resolved := sorted(set(ALL) - RUN), ids=resolved)
def test_command_resolves(command, check):
    check(command)


@pytest.mark.parametrize(("page", "block"), SETTINGS, ids=[f"{page} {list(block)}" for page, block in SETTINGS])
def test_settings_are_accepted(page, block, project, monkeypatch):
    monkeypatch.setattr(AbstractRunner, "run", resolve_pipeline)
    with KedroSession.create(project, runtime_params=block) as session:
        session.run(pipeline_names=["all"])
        taken = session.load_context().config_loader["parameters"]
    assert dict(flatten(block)).items() <= dict(flatten(taken)).items()


def test_a_setting_that_is_not_there_is_found(project, monkeypatch):
    with pytest.raises(ValueError, match=r"did you mean 'segmentation\.recipe\.epochs'"):
        test_settings_are_accepted("a page", {"segmentation": {"recipe": {"epoch": 5}}}, project, monkeypatch)


def test_exempt_and_run_commands_are_still_there():
    found = {command for page in PAGES for command in commands(page)}
    assert EXEMPT.keys() | RUN <= found


@pytest.mark.parametrize(
    ("command", "kind", "message"),
    [
        ("kedro run --pipelines segmentaton", AssertionError, "did you mean 'segmentation'"),
        ("kedro run --env ful", AssertionError, "there is no environment 'ful'; did you mean 'full'"),
        ("kedro run --params training.devise=cpu", AssertionError, "did you mean 'training.device'"),
        (
            "kedro run --pipelines segmentation --params segmentation.recipe.batch_size=few",
            AssertionError,
            "must be a valid integer, got 'few'",
        ),
        ("kedro run --namespaces=segmentation.clasic_unet", AssertionError, "did you mean 'segmentation.classic_unet'"),
        (
            "kedro run --pipelines segmentation --to-outputs segmentation.split",
            AssertionError,
            "did you mean 'segmentation.splits'",
        ),
        ("kedro submit --networks unet", click.ClickException, "there is no network 'unet' in segmentation"),
        ("kedro submit --params segmentation.recipe.epoch=5", ValueError, "did you mean 'segmentation.recipe.epochs'"),
        ("kedro submit --hour 8", click.NoSuchOption, "--hour"),
        ("kedro segment PATH --networks FILE", AssertionError, "No such option '--networks'"),
        ("kedro classify PATH --params viewer.patient=3", AssertionError, "did you mean 'viewer.patients'"),
        ("kedro vis", AssertionError, "kedro has no command 'vis'"),
        ("make demos", AssertionError, "demos"),
        ("pip install -e '.[mlfow]'", AssertionError, "mlfow"),
        ("python benchmarks/trainin.py speed FOLDER", FileNotFoundError, "trainin.py"),
        ("python benchmarks/training.py sped FOLDER", SystemExit, "2"),
        ("pytest tests/network", AssertionError, "tests/network"),
        ("wget URL", NotACommandError, "wget is not among"),
    ],
)
def test_misspelt_command_is_found(command, kind, message, check):
    with pytest.raises(kind, match=re.escape(message)):
        check(command)


def test_line_that_is_no_command_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Text.\n\n    kedr run --pipelines segmentation\n", encoding="utf-8")
    with pytest.raises(NotACommandError, match="kedr run"):
        list(commands(page))


def run_small(command: str, *more: str) -> None:
    """Run a `kedro run` line of the documentation on the smallest networks."""
    invoke(kedro_run, [*shlex.split(command)[2:], "--env", "test", *more])


def test_four_patients_then_start_from_their_network(project, rng, monkeypatch):
    for name in ("patient_a", "patient_b", "patient_c", "patient_d"):
        mask = rng.choice([0, 1, 2, 4], (32, 32, 3), p=[0.7, 0.1, 0.1, 0.1])
        save_patient(
            project / "scans" / name, name, rng.normal(50, 5, (4, 32, 32, 3)) * (rng.random((32, 32, 1)) < 0.9), mask
        )
    monkeypatch.chdir(project)
    tutorial, page = ROOT / "docs/tutorials/own_patients.md", ROOT / "docs/how_to/start_from_weights.md"
    prepare, train = (command for command in commands(tutorial) if command in RUN)
    run_small(prepare)
    assert Path("data/08_reporting/segmentation/data_report.html").is_file()
    run_small(train)
    assert Path("data/08_reporting/segmentation/classic_unet/figures/3_patients.png").is_file()
    again, go_on, keep, start, *_classification = commands(page)
    assert again == prepare
    shutil.copy(*shlex.split(keep)[1:])
    shutil.copytree(ROOT / "weights", project / "weights")
    run_small(go_on, "--params", "segmentation.classic_unet.sizes.n_filters=16")
    run_small(start)
    used: dict[str, Any] = {}
    exec(python_of(page)[0], used)
    assert used["module"](torch.zeros(1, 4, 32, 32)).shape == (1, 3, 32, 32)


def test_added_network_is_trained(project, sample, monkeypatch, tmp_path):
    """The page's file, line, block and counts, as they stand."""
    page = ROOT / ADDED
    file, line, counts = python_of(page)
    (block,) = (text for _, language, text in tokens(page) if language == "yaml")
    (tmp_path / "added_unet.py").write_text(file, encoding="utf-8")
    monkeypatch.setattr(networks, "__path__", [*networks.__path__, str(tmp_path)])
    monkeypatch.setattr(networks, "NETWORKS", networks.NETWORKS | ast.literal_eval(f"{{{line.strip()}}}"))
    parameters = project / "conf/base/parameters_segmentation.yml"
    before = parameters.read_text(encoding="utf-8")
    parameters.write_text(before + block, encoding="utf-8")
    (expected,) = ast.literal_eval(f"{{{counts.strip()}}}").values()
    assert {
        n: sum(p.numel() for p in networks.build("added_unet", n_filters=n).parameters()) for n in expected
    } == expected
    monkeypatch.chdir(project)
    bootstrap_project(project)
    assert "segmentation.added_unet.train_network" in [node.name for node in pipelines["segmentation"].nodes]
    alone, _, contract = commands(page)
    assert contract == "pytest tests/networks"
    given = f"segmentation_source={sample},segmentation.added_unet.sizes.n_filters=4"
    run_small(
        "kedro run --pipelines segmentation --to-outputs segmentation.slices,segmentation.splits", "--params", given
    )
    run_small(alone, "--params", given)
    assert read_network(project / "data/06_models/segmentation/added_unet/network.safetensors").name == "added_unet"
    parameters.write_text(before, encoding="utf-8")


def test_networks_of_a_library_are_experiments_by_yaml_alone(project, monkeypatch, check):
    """The page's blocks, each as the file that the page names; what is trained is in test_library_networks."""
    monkeypatch.setattr("brain_tumor.project.hooks.require_network", lambda name: None)  # libraries are extras
    page = ROOT / LIBRARY
    blocks = [text for _, language, text in tokens(page) if language == "yaml"]
    local = project / "conf/local/parameters.yml"
    try:
        for block in reversed(blocks):
            local.write_text(block, encoding="utf-8")
            check("kedro run --pipelines all")
            given = yaml.safe_load(block)
            for task in ("segmentation", "classification"):
                experiments = {name: block for name, block in given.get(task, {}).items() if name != "recipe"}
                for name, experiment in experiments.items():
                    namespaces = {node.namespace for node in pipelines[task].nodes}
                    assert (f"{task}.{name}" in namespaces) == (experiment is not None)
        for command in commands(page):
            check(command)
    finally:
        local.unlink()


def python_of(page: Path) -> list[str]:
    return [text for _, language, text in tokens(page) if language == "python"]


def test_files_named_are_there():
    """Files of the project and figures, by the names that pages give them."""
    source = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "src/brain_tumor").rglob("*.py"))
    written = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "conf").rglob("catalog*.yml"))
    lost = []
    for page in PAGES:
        for _, _, text in tokens(page):
            for name in re.findall(r"(\d_[a-z_]+)\.(?:png|gif)", text):
                lost += [] if f'"{name}"' in source else [(page.name, name)]
            for path in re.findall(r"^(?:tests|benchmarks|conf|src|docs|notebooks)/[\w./*]+$", text, re.MULTILINE):
                lost += [] if list(ROOT.glob(path)) or "local" in path or "added_unet" in path else [(page.name, path)]
            for path in re.findall(r"^(?:S|C|data/0\d_\w+)/(?:[\w{}]+/)*([\w]+\.(?:csv|h5|html|safetensors))$", text):
                lost += [] if path in written else [(page.name, path)]
    assert lost == []


def test_figures_that_stand_on_several_pages_are_those_of_one_file():
    """Marked ones in docs/, and all of README.md; those of shipped weights are in their headers."""
    spec = spec_from_file_location("docs_hooks", ROOT / "docs/hooks.py")
    hooks = module_from_spec(spec)
    spec.loader.exec_module(hooks)
    for page in (ROOT / "docs").rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert hooks.insert_figures(text) == text, f"{page.name}: run `python docs/hooks.py`"
    figures = yaml.safe_load((ROOT / "docs/figures.yml").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    elsewhere = {"volumes_hd95", "hgg_hd95", "lgg_hd95", "cnn_seeds", "cnn_nearly_all"}
    elsewhere |= {"vit_by_patient", "vgg16_by_patient"}  # without their intervals in README.md, whose table is wide
    assert [name for name, figure in figures.items() if name not in elsewhere and figure not in readme] == []
    scores = pd.DataFrame(read_network(ROOT / "weights/residual_attention_unet.safetensors").description["scores"])
    scores = scores[scores["metric"] == "dice"].set_index(["of", "target"])
    for name, of in (("volumes", "whole volumes"), ("hgg", "whole volumes, HGG"), ("lgg", "whole volumes, LGG")):
        for target in ("WT", "TC", "ET"):
            row = scores.loc[(of, target)]
            assert figures[f"{name}_{target.lower()}"] == f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
    for name in ("cnn", "alexnet"):
        scores = pd.DataFrame(read_network(ROOT / f"weights/{name}.safetensors").description["scores"])
        row = scores.set_index(["test_set", "metric"]).loc[("deduplicated", "accuracy")]
        assert figures[name] == f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def test_readme_fits_a_screen_and_its_links_lead_somewhere():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 120
    assert [line for line in lines if line.startswith("    ") and len(line.strip()) > 100] == []
    for page in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "weights/README.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
        here = (ROOT / page).parent
        assert [link for link in links if "actions/" not in link and not (here / link).exists()] == []


def test_glossary_names_what_is_there():
    """Files, functions and parameters of its tables."""
    known = set()
    for file in (ROOT / "conf/base").glob("parameters*.yml"):
        known |= dict(flatten(yaml.safe_load(file.read_text(encoding="utf-8")))).keys()
    lost = []
    for kind, _, text in tokens(ROOT / "docs/reference/glossary.md"):
        if kind == "inline" and (match := re.fullmatch(r"([a-z_/]+\.py)(?:: (\w+))?", text)):
            file = ROOT / "src/brain_tumor" / match[1]
            source = file.read_text(encoding="utf-8") if file.is_file() else ""
            found = source and (match[2] is None or re.search(rf"^(def|class) {match[2]}\b", source, re.MULTILINE))
            lost += [] if found else [text]
        elif kind == "inline" and re.match(r"(data_)?(segmentation|classification|set)\.(?!attention_unet)", text):
            lost += [] if any(f".{text}." in f".{name}." for name in known) else [text]
    assert lost == []
