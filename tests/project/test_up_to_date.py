"""A toy kitchen: what is frozen, cut and cooked again when something changed, under every runner."""

import importlib
import os
import sys
from unittest.mock import Mock

import pytest
from kedro.framework.context import KedroContext
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, MemoryDataset, SharedMemoryDataCatalog
from kedro.pipeline import Node, Pipeline
from kedro.runner import ParallelRunner, SequentialRunner, ThreadRunner
from kedro_datasets.text import TextDataset
from support import read_code_again

from brain_tumor import code_digest
from brain_tumor.datasets import CheckpointsDataset, FolderDataset
from brain_tumor.project import up_to_date
from brain_tumor.project.up_to_date import RUN_ALL, UpToDate
from brain_tumor.training.settings import EngineSettings

KNIFE = "def cut(text):\n    return ' '.join(text)\n"
COOK = """
import os
from pathlib import Path

from kitchen.knife import cut

DIARY = Path(__file__).parents[1] / "diary.txt"


def note(what):
    with DIARY.open("a") as diary:
        diary.write(what + "\\n")


def freeze(carrot):
    note("freeze")
    return carrot.upper()


def chop(frozen, salt):
    note("chop")
    if salt == "rotten":
        raise ValueError("can't be eaten")
    return cut(frozen) + str(salt), str(salt)


def serve(chopped, shelf):
    note("serve")
    return chopped + str(len(list(shelf.iterdir())))


def train(chopped, engine):
    note("train")
    return chopped


def remember(chopped, cache):
    note("remember")
    cache.folder.mkdir(exist_ok=True)
    (cache.folder / "first").touch()
    return chopped


def soil(frozen):
    note("soil")
    (DIARY.parent / "frozen.txt").write_text(frozen + "!")
    return frozen


def spill(carrot):
    note("spill")
    (DIARY.parent / "carrot.txt").write_text(carrot + "!")
    return carrot
"""
EVERYTHING = {"freeze", "chop", "serve"}


class Kitchen:
    """A project of three nodes, carrot > frozen > chopped > dish, with a parameter and a shelf of files."""

    def __init__(self, folder, runner, monkeypatch):
        self.folder, self.runner, self.monkeypatch = folder, runner, monkeypatch
        for name, text in {"__init__.py": "", "knife.py": KNIFE, "cook.py": COOK}.items():
            self.write(f"kitchen/{name}", text)
        self.write("carrot.txt", "carrot")
        self.write("shelf/plate.txt", "white")
        self.salt, self.encoding, self.engine, self.extra = 1, "utf-8", EngineSettings(), []

    def write(self, name, text):
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    def text(self, name):
        return TextDataset(filepath=str(self.folder / name), fs_args={"open_args_load": {"encoding": self.encoding}})

    @property
    def catalog(self):
        files = {
            name: self.text(f"{name}.txt")
            for name in ("carrot", "frozen", "chopped", "crumbs", "dish", "trained", "remembered", "spilt")
        }
        rest = {
            "shelf": FolderDataset(filepath=str(self.folder / "shelf")),
            "cache": CheckpointsDataset(filepath=str(self.folder / "cache")),
            "params:salt": MemoryDataset(self.salt),
            "params:engine": MemoryDataset(self.engine),
        }
        kind = SharedMemoryDataCatalog if self.runner is ParallelRunner else DataCatalog
        return kind({**files, **rest})

    @property
    def pipeline(self):
        cook = importlib.import_module("kitchen.cook")
        nodes = [
            Node(cook.freeze, "carrot", "frozen", name="freeze"),
            Node(cook.chop, ["frozen", "params:salt"], ["chopped", "crumbs"], name="chop"),
            Node(cook.serve, ["chopped", "shelf"], "dish", name="serve"),
        ]
        extra = {
            "train": Node(cook.train, ["chopped", "params:engine"], "trained", name="train"),
            "remember": Node(cook.remember, ["chopped", "cache"], "remembered", name="remember"),
            "spill": Node(cook.spill, "carrot", "spilt", name="spill"),
            "soil": Node(cook.soil, "frozen", "remembered", name="soil"),
            "taste": Node(cook.cut, "frozen", "taste", name="taste"),  # kept in memory
            "tell": Node(cook.freeze, "taste", "trained", name="tell"),
            "inference": Node(cook.freeze, "carrot", "trained", name="freeze", namespace="inference_segmentation"),
        }
        return Pipeline([*nodes, *(extra[name] for name in self.extra)])

    def run(self, pipeline=None, **run_params):
        """Run it as a new process does; which functions ran, and what Kedro gives back."""
        read_code_again()
        diary = self.folder / "diary.txt"
        diary.unlink(missing_ok=True)
        pipeline, catalog, hooks = pipeline or self.pipeline, self.catalog, _create_hook_manager()
        hooks.register(hook := UpToDate())
        self.monkeypatch.setattr(
            "kedro.runner.task.settings", Mock(HOOKS=[hook], DISABLE_HOOKS_FOR_PLUGINS=())
        )  # of forked processes
        hook.after_context_created(Mock(spec=KedroContext, project_path=self.folder))
        about = {
            "run_params": {"run_id": str(id(hook)), "node_names": None} | run_params,
            "pipeline": pipeline,
            "catalog": catalog,
        }
        whole = pipeline.nodes
        hooks.hook.before_pipeline_run(**about)
        try:
            result = self.runner().run(pipeline, catalog, hooks)
        except Exception as error:
            hooks.hook.on_pipeline_error(error=error, **about)
            raise
        finally:
            self.ran = set(diary.read_text().split()) if diary.is_file() else set()
            self.skipped = hook.skipped
        hooks.hook.after_pipeline_run(run_result=result, **about)
        assert pipeline.nodes == whole
        assert set(result) == pipeline.outputs()
        return self.ran


@pytest.fixture(params=[SequentialRunner, ThreadRunner, ParallelRunner])
def kitchen(request, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(code_digest, "STARTED", float("inf"))  # the toy is written by this process
    yield Kitchen(tmp_path, request.param, monkeypatch)
    for name in ("kitchen", "kitchen.cook", "kitchen.knife"):
        sys.modules.pop(name, None)


pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # of Python 3.12


def test_a_second_run_runs_nothing(kitchen, caplog):
    assert kitchen.run() == EVERYTHING
    with caplog.at_level("INFO"):
        assert kitchen.run() == set()
    assert kitchen.skipped == 3
    assert "3 of 3 nodes are up to date" in caplog.text
    assert (kitchen.folder / "dish.txt").read_text() == "C A R R O T11"


CHANGES = {
    "an input": (lambda kitchen: kitchen.write("carrot.txt", "parsnip"), EVERYTHING),
    "a file in a folder": (lambda kitchen: kitchen.write("shelf/plate.txt", "blue"), {"serve"}),
    "a new file in a folder": (lambda kitchen: kitchen.write("shelf/cup.txt", "blue"), {"serve"}),
    "a parameter": (lambda kitchen: setattr(kitchen, "salt", 2), {"chop", "serve"}),
    "the type of a parameter": (lambda kitchen: setattr(kitchen, "salt", "1"), {"chop", "serve"}),
    "code": (lambda kitchen: kitchen.write("kitchen/cook.py", COOK + "\nx = 1\n"), EVERYTHING),
    "code that is imported": (
        lambda kitchen: kitchen.write("kitchen/knife.py", KNIFE.replace("' '", "'-'")),
        EVERYTHING,
    ),
    "a comment": (lambda kitchen: kitchen.write("kitchen/knife.py", "# sharp\n" + KNIFE), set()),
    "a missing output": (lambda kitchen: (kitchen.folder / "dish.txt").unlink(), {"serve"}),
    "one of two outputs": (lambda kitchen: (kitchen.folder / "crumbs.txt").unlink(), {"chop", "serve"}),
    "an edited output": (lambda kitchen: kitchen.write("dish.txt", "C A R R O T12"), {"serve"}),
    "an edited output that others are made from": (lambda kitchen: kitchen.write("frozen.txt", "PARSNIP"), EVERYTHING),
    "the same text written again": (lambda kitchen: kitchen.write("frozen.txt", "CARROT"), set()),
    "how an entry is read": (lambda kitchen: setattr(kitchen, "encoding", "latin-1"), EVERYTHING),
    "a damaged record": (lambda kitchen: kitchen.write("data/.provenance/serve.json", "{"), {"serve"}),
    "a record of another form": (lambda kitchen: kitchen.write("data/.provenance/serve.json", '{"x": 1}'), {"serve"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_and_all_that_is_made_from_it_runs_again(kitchen, change):
    edit, expected = CHANGES[change]
    kitchen.run()
    edit(kitchen)
    assert kitchen.run() == expected
    assert kitchen.run() == set()


def test_the_reason_is_said(kitchen, caplog):
    kitchen.run()
    kitchen.salt = 2
    with caplog.at_level("INFO"):
        kitchen.run()
    assert "chop runs again: since it ran, there is a change of params:salt" in caplog.text
    assert "serve runs again" not in caplog.text


def test_other_versions_of_libraries_run_everything(kitchen, monkeypatch):
    kitchen.run()
    monkeypatch.setattr(up_to_date, "versions", lambda: "torch 3")
    assert kitchen.run() == EVERYTHING


def test_a_file_that_a_parameter_names_is_an_input(kitchen):
    kitchen.write("salt.txt", "coarse")
    kitchen.salt = {"from": [str(kitchen.folder / "salt.txt")]}
    kitchen.run()
    assert kitchen.run() == set()
    kitchen.write("salt.txt", "fine")
    assert kitchen.run() == {"chop", "serve"}


def test_a_large_file_is_compared_by_size_and_times(kitchen, monkeypatch):
    monkeypatch.setattr(up_to_date, "WHOLE", 3)
    kitchen.run()
    assert kitchen.run() == set()
    stat = (kitchen.folder / "carrot.txt").stat()
    kitchen.write("carrot.txt", "Carrot")
    os.utime(kitchen.folder / "carrot.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # edited by one who hides it
    assert kitchen.run() == EVERYTHING


def test_where_networks_are_computed_counts_for_those_who_compute(kitchen, monkeypatch):
    kitchen.extra = ["train"]
    kitchen.run()
    monkeypatch.setattr(up_to_date, "describe_machine", lambda: "another")
    assert kitchen.run() == {"train"}
    kitchen.engine = EngineSettings(
        nodes=2, rendezvous="localhost:1"
    )  # whether all of them train can't be decided by each
    kitchen.run()
    assert kitchen.run() == {"train"}


def test_a_node_that_fails_is_not_up_to_date(kitchen):
    kitchen.salt = "rotten"
    for _ in range(2):
        with pytest.raises(ValueError, match="can't be eaten"):
            kitchen.run()
        assert "chop" in kitchen.ran
    kitchen.salt = 1
    assert {"chop", "serve"} <= kitchen.run()
    assert kitchen.run() == set()


def test_a_failed_run_keeps_what_was_made_before(kitchen):
    kitchen.run()
    kitchen.salt = "rotten"
    with pytest.raises(ValueError, match="can't be eaten"):
        kitchen.run()
    kitchen.salt = 1
    assert kitchen.run() == set(), "the outputs are those of salt 1"


def test_an_output_that_a_killed_run_left_half_written_is_made_again(kitchen):
    kitchen.run()
    kitchen.write("chopped.txt", "C A R")
    assert kitchen.run() == {"chop", "serve"}
    assert (kitchen.folder / "chopped.txt").read_text() == "C A R R O T1"


def test_nodes_that_are_named_run(kitchen, monkeypatch):
    kitchen.run()
    assert kitchen.run(kitchen.pipeline.filter(node_names=["chop"]), node_names=["chop"]) == {"chop"}
    assert kitchen.run() == set()
    monkeypatch.setenv(RUN_ALL, "1")
    assert kitchen.run() == EVERYTHING


def test_parts_of_a_pipeline_know_what_is_up_to_date(kitchen):
    kitchen.run()
    rest = kitchen.pipeline.from_nodes("chop")
    assert kitchen.run(rest) == set()
    kitchen.write("frozen.txt", "PARSNIP")
    assert kitchen.run(kitchen.pipeline.from_nodes("chop")) == {"chop", "serve"}, (
        "edited by hand, as a table of sets may be"
    )
    assert (kitchen.folder / "dish.txt").read_text() == "P A R S N I P11"
    assert kitchen.run(kitchen.pipeline.from_nodes("chop")) == set()
    assert kitchen.run(kitchen.pipeline.to_outputs("frozen")) == {"freeze"}, "what was edited is no more what it makes"


def test_what_is_kept_in_memory_is_made_each_time(kitchen):
    kitchen.extra = ["taste", "tell"]
    kitchen.run()
    assert kitchen.run() == {"freeze"}, "tell, which freezes too"
    assert kitchen.skipped == 3


def test_inference_always_runs(kitchen):
    kitchen.extra = ["inference"]
    kitchen.run()
    assert kitchen.run() == {"freeze"}, "that of the namespace"
    assert kitchen.skipped == 3


def test_a_cache_is_no_input_and_is_filled_again_when_it_was_emptied(kitchen):
    kitchen.extra = ["remember"]
    kitchen.run()
    assert kitchen.run() == set()
    (kitchen.folder / "cache" / "first").unlink()
    assert kitchen.run() == {"remember"}


def test_an_input_that_changed_during_the_run_is_not_what_outputs_were_made_from(kitchen):
    kitchen.extra = ["spill", "soil"]
    kitchen.run()
    records = {
        file.stem for file in (kitchen.folder / "data").glob(".provenance/*.json")
    }  # none, where all nodes ran side by side
    assert not records & {"spill", "soil"}, (
        "neither the one that edits an input of all, nor the one that edits what another made"
    )
    assert {"spill", "soil"} <= kitchen.run()


def test_a_runner_that_runs_nothing_makes_nothing_up_to_date(kitchen):
    kitchen.run()
    kitchen.salt = 2
    whole, kitchen.runner = kitchen.runner, DryRunner
    assert kitchen.run() == set()
    kitchen.runner = whole
    assert kitchen.run() == {"chop", "serve"}


class DryRunner(SequentialRunner):
    def _run(self, *args, **kwargs):
        pass


def test_processes_that_are_spawned_are_told_of_the_run(kitchen):
    """Their hooks are new ones, which nobody has told where records are."""
    pipeline, catalog = kitchen.pipeline, kitchen.catalog
    first, other = UpToDate(), UpToDate()
    first.after_context_created(Mock(spec=KedroContext, project_path=kitchen.folder))
    first.before_pipeline_run({"run_id": "now"}, pipeline, catalog)
    (freeze, *_) = pipeline.nodes
    other.before_node_run(freeze, catalog)
    kitchen.write("frozen.txt", "CARROT")
    other.after_dataset_saved("frozen", freeze)
    first.on_pipeline_error(pipeline)
    assert kitchen.run() == {"chop", "serve"}
