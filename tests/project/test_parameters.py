"""Which parameters there are, what a misspelt one was meant to be, and what is said of a wrong value."""

import re
from pathlib import Path

import pytest
import yaml
from support import ROOT

from brain_tumor.pipeline_registry import register_pipelines
from brain_tumor.project.parameters import find, list_known, list_settings, put, require_known
from brain_tumor.project.paths import resolve_paths
from brain_tumor.project.values import check_values


@pytest.fixture(scope="module")
def base():
    files = [yaml.safe_load(file.read_text()) for file in (ROOT / "conf/base").glob("parameters*.yml")]
    return {name: value for file in files for name, value in file.items()}


@pytest.fixture(scope="module")
def settings():
    return list_settings(register_pipelines())


@pytest.fixture(scope="module")
def known(base, settings):
    return list_known(base, settings)


def nested(path, value):
    tree = {}
    put(tree, path, value)
    return tree


@pytest.mark.parametrize(
    ("path", "suggested"),
    [
        ("segmentation.recipe.lr", "'segmentation.recipe.learning_rate'"),
        ("segmentation.recipe.rate", "'segmentation.recipe.learning_rate'"),
        ("segmentation.recipe.epoch", "'segmentation.recipe.epochs'"),
        ("segmentation.recipe.augmentation.horizontal_flips", "'segmentation.recipe.augmentation.horizontal_flip'"),
        ("segmentation.epochs", "'segmentation.recipe.epochs'"),
        ("segmentation.clasic_unet.epochs", "'segmentation.classic_unet'"),
        ("seed", "'training.seed'"),
        ("lr", "'segmentation.recipe.learning_rate'"),
        ("segmentaton_source", "'segmentation_source'"),
        ("recipe.epochs", "'segmentation.recipe' or 'classification.recipe'"),
    ],
)
def test_a_misspelt_parameter_gets_the_nearest(known, path, suggested):
    with pytest.raises(ValueError, match=f"did you mean .*{re.escape(suggested)}") as caught:
        require_known(nested(path, 1), known, "in --params")
    assert "\n" not in str(caught.value)


def test_what_else_is_in_the_block_is_named(known):
    with pytest.raises(
        ValueError,
        match=r"segmentation\.recipe\.augmentation has horizontal_flip, affine, rotation, .* \(in --params\)",
    ):
        require_known(nested("segmentation.recipe.augmentation.zoom", 1), known, "in --params")
    with pytest.raises(ValueError, match=r"segmentation\.folds is a single value, not a block"):
        require_known(nested("segmentation.folds.number", 1), known, "in --params")


@pytest.mark.parametrize(
    "path",
    [
        "classification.vit.sizes.patch",
        "classification.cnn.sizes.in_channels",
        "segmentation.prediction.min_volume.NCR.ml",
        "segmentation.classic_unet.ema_decay",
        "training.rendezvous",
        "data_segmentation.data_set.person",
    ],
)
def test_what_settings_take_is_known_whether_a_file_names_it_or_not(known, path):
    require_known(nested(path, 1), known, "in --params")
    # The sizes of a network are any names.
    if ".sizes." not in path:
        with pytest.raises(ValueError, match=f"{path.rsplit('.', 1)[-1]}x"):
            require_known(nested(f"{path}x", 1), known, "in --params")


def test_files_need_no_placeholders(base, known):
    """A key is legal because a model has it, so base names those alone that it sets.

    Null is for what has no other value to show.
    """
    experiments = [
        block
        for task in ("segmentation", "classification")
        for block in base[task].values()
        if isinstance(block, dict) and "network" in block
    ]
    assert len(experiments) == 8
    assert all(value is not None for block in experiments for value in block.values())
    assert find("segmentation.classic_unet", known) == {
        "network": None,
        "sizes": {"*": {}},
        "pretrained": None,
        "first_convolution": None,
        "pretrained_rate": None,
        "frozen_epochs": None,
        "epochs": None,
        "learning_rate": None,
        "batch_size": None,
        "ema_decay": None,
    }


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("training.device", "tpu", "training.device must be 'auto', .*got 'tpu'"),
        ("training", 5, "training must be a block of settings, got 5"),
        ("segmentation.folds", "five", "segmentation.folds must be a valid integer, got 'five'"),
        ("segmentation.folds", True, "segmentation.folds must be a valid integer, got True"),
        ("segmentation.recipe.epochs", 0, "segmentation.recipe.epochs must be greater than or equal to 1, got 0"),
        ("segmentation.recipe.lr", 0.1, "there is no parameter .* did you mean 'segmentation.recipe.learning_rate'"),
        ("segmentation.recipe", None, "segmentation.recipe must be a block of settings, got null"),
        (
            "classification.vit.sizes.patch",
            "large",
            "classification.vit: sizes.patch must be a number, got 'large'",
        ),
        (
            "segmentation.prediction.min_volume.NCR.ml",
            1,
            "segmentation.prediction.min_volume.NCR.replace_with is missing",
        ),
        (
            "data_segmentation.data_set.regions",
            [{"name": "WT", "tissues": ["NCR", "EDEMA"]}],
            (
                r"data_segmentation.data_set: region WT is made of \['EDEMA'\], which are not tissues; tissues "
                r"are \['NCR', 'ED', 'ET'\]"
            ),
        ),
        (
            "data_segmentation.data_set.modalities",
            [{"suffixes": ["flair"]}],
            r"data_segmentation.data_set.modalities.0.name is missing; give it",
        ),
        (
            "data_segmentation.data_set.modalities",
            [{"name": "FLAIR", "suffixes": ["flair"], "suffix": "t2f"}],
            r"there is no parameter 'data_segmentation.data_set.modalities.0.suffix'; did you mean .*0.suffixes'",
        ),
        ("preparation.workers", 0, "preparation.workers must be -1 or greater than or equal to 1, got 0"),
        ("preparation.workers", -5, "preparation.workers must be -1 or greater than or equal to 1, got -5"),
        ("data_segmentation.preparation.slice_size", 100, "data_segmentation.preparation.slice_size.*multiple of 16"),
    ],
)
def test_a_wrong_value_is_explained_in_one_line(base, settings, known, path, value, words):
    parameters = yaml.safe_load(yaml.safe_dump(base))
    put(parameters, path, value)
    with pytest.raises(ValueError, match=f"^{words}") as caught:
        check_values(parameters, settings, known)
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_of_many_wrong_values_two_are_explained(base, settings, known):
    parameters = base | {"training": base["training"] | {"device": "tpu", "seed": "x", "devices": 0}}
    with pytest.raises(ValueError, match=r"^training\.device .*\ntraining\.seed .* \(and 1 more\)$"):
        check_values(parameters, settings, known)


def test_what_the_files_hold_is_accepted(base, settings, known):
    require_known(base, known, "in conf/base")
    check_values(base, settings, known)


def test_a_path_means_the_same_everywhere(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    given = {
        "segmentation_source": "~/scans",
        "inference_source": "../" + tmp_path.name + "/a/../scans",
        "survival_source": 2023,
        "survival_tables": None,
    }
    assert resolve_paths(given | {"segmentation": {"initial_weights": Path("a.safetensors")}}) == {
        "segmentation_source": str(tmp_path / "home/scans"),
        "inference_source": str(tmp_path / "scans"),
        "survival_source": str(tmp_path / "2023"),
        "segmentation.initial_weights": str(tmp_path / "a.safetensors"),
    }


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "inference_source is empty.*shell variable"),
        (" ", "is empty"),
        (["a"], "must be a path, got"),
        (True, "must be a path"),
        ("~nobody-of-that-name/a", "no such home"),
    ],
)
def test_what_is_no_path_is_refused(value, words):
    with pytest.raises(ValueError, match=words):
        resolve_paths({"inference_source": value})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("segmentation.recipe.missed_weight", "segmentation.recipe.tversky_beta"),
        ("segmentation.recipe.augmentation.warp", "segmentation.recipe.augmentation.affine"),
        ("classification.cnn.ema", "classification.cnn.ema_decay"),
        ("segmentation.prediction.min_volume.ET.otherwise", "segmentation.prediction.min_volume.ET.replace_with"),
        ("data_classification.copies", "data_classification.duplicates"),
    ],
)
def test_a_renamed_parameter_is_told_by_its_new_name(known, old, new):
    given: dict[str, object] = {}
    put(given, old, 1)
    with pytest.raises(ValueError, match=re.escape(f"the parameter '{old}' is called '{new}' now; rename it")):
        require_known(given, known, "in conf/local/parameters.yml")
