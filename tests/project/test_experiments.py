import pytest
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project
from support import ROOT

from brain_tumor.networks import networks_of
from brain_tumor.pipelines import segmentation
from brain_tumor.project.experiments import choose_experiments, find_experiments, read_experiments

WRITTEN = {
    "segmentation": {"recipe": {"epochs": 2}, "folds": 1, "b": {"network": "classic_unet"}, "a": {"network": "x.Y"}},
    "classification": {"cnn": {"network": "cnn"}, "vit": None},
}


def test_blocks_that_name_a_network_are_experiments_in_their_order():
    found = find_experiments(WRITTEN)
    assert found == {"segmentation": {"b": "classic_unet", "a": "x.Y"}, "classification": {"cnn": "cnn"}}
    assert list(found["segmentation"]) == ["b", "a"]


def test_a_run_may_give_an_experiment_another_network_but_no_new_experiment():
    given = {"segmentation": {"b": {"network": "attention_unet"}, "c": {"network": "classic_unet"}}}
    assert find_experiments(WRITTEN, given)["segmentation"] == {"b": "attention_unet", "a": "x.Y"}


def test_a_task_without_experiments_is_refused():
    with pytest.raises(ValueError, match="classification has no experiment"):
        find_experiments(WRITTEN | {"classification": {"cnn": None}})


def test_attention_is_examined_where_the_network_has_it_whatever_the_experiment_is_called():
    nodes = {node.name for node in segmentation.create_pipeline({"a": "attention_unet", "attention_unet": "cnn"}).nodes}
    assert "segmentation.a.examine_attention" in nodes
    assert "segmentation.attention_unet.examine_attention" not in nodes


def test_those_of_the_base_files_are_the_networks_of_the_project():
    found = read_experiments(str(ROOT / "conf"), "base")
    assert {task: list(named) for task, named in found.items()} == {
        task: networks_of(task) for task in ("segmentation", "classification")
    }


def test_pipelines_are_made_again_of_other_experiments(project):
    bootstrap_project(project)
    choose_experiments({"segmentation": {"mine": "classic_unet"}, "classification": {"cnn": "cnn"}})
    try:
        namespaces = {node.namespace for node in pipelines["segmentation"].nodes}
        assert "segmentation.mine" in namespaces
        assert "segmentation.classic_unet" not in namespaces
        assert "survival.mine" in {node.namespace for node in pipelines["survival_predicted"].nodes}
    finally:
        bootstrap_project(project)
