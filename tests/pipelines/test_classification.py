import json
import logging
import re
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, roc_auc_score
from support import copy_project, require_pictures, rows_of, run

from brain_tumor.data.common.store import Store
from brain_tumor.data.images.split import count_folds, sets_of_fold
from brain_tumor.datasets import NetworkDataset
from brain_tumor.figures.classification import draw_curves
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics.classification import choose_temperature, fit_temperature
from brain_tumor.networks import networks_of
from brain_tumor.networks.trained import read_network, write_network
from brain_tumor.pipeline_registry import register_pipelines
from brain_tumor.pipelines.classification.evaluation import choose_explained
from brain_tumor.pipelines.classification.training import require_unseen, train_network
from brain_tumor.reporting.classification.report import _elsewhere
from brain_tumor.reporting.classification.tables import SCORES
from brain_tumor.reporting.start import say_start
from brain_tumor.training.checkpoints import Checkpoints
from brain_tumor.training.classification.prediction import predict_logits
from brain_tumor.training.device import choose_device
from brain_tumor.training.settings import ClassificationRecipe, EngineSettings, ExperimentSettings

NETWORKS = networks_of("classification")


DEDUPLICATED = {"data_classification": {"split": {"policy": "deduplicated"}}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, images):
    """A project in which the whole pipeline has run once on the tiny sample, split by patient."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    run(folder, "classification", classification_source=str(images))
    return folder


@pytest.fixture(scope="module")
def by_folder(tmp_path_factory, images):
    """The same, split within the published folders."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    run(folder, "classification", classification_source=str(images), **DEDUPLICATED)
    return folder


@pytest.fixture
def either(request):
    return request.getfixturevalue(request.param)


both = pytest.mark.parametrize("either", ["finished", "by_folder"], indirect=True)


@both
def test_comparison_is_tidy_and_holds_every_score(either):
    table = pd.read_csv(either / "data/08_reporting/classification/comparison.csv")
    columns = ["network", "parameters", "test_set", "metric", "value", "low", "high", "images", "persons"]
    assert list(table.columns) == columns
    assert list(table["network"].unique()) == NETWORKS
    images = table.groupby("test_set")["images"].unique().to_dict()
    assert images in ({"patient": [44]}, {"official": [28], "deduplicated": [28]})
    wanted = {
        "accuracy",
        "accuracy_patients",
        "accuracy_tumours",
        "accuracy_tumour_or_none",
        "macro_f1",
        "roc_auc",
        "confidence",
        "calibration_error",
        "temperature",
        "confidence_scaled",
        "calibration_error_scaled",
    }
    wanted |= {
        f"{metric}_{name}"
        for metric in ("precision", "recall")
        for name in ("glioma", "meningioma", "notumor", "pituitary")
    }
    assert (table.groupby(["network", "test_set"])["metric"].agg(set) == wanted).all()
    differences = pd.read_csv(either / "data/08_reporting/classification/differences.csv")
    assert len(differences) == 6
    assert differences["p_value"].between(0, 1).all()


@both
@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_those_of_the_predictions_on_disk(either, name):
    data = either / "data"
    predictions = Store(data / f"07_model_output/classification/{name}/predictions.h5")
    splits = pd.read_csv(data / "05_model_input/classification/splits.csv", keep_default_na=False).set_index("file")
    rows = predictions.rows
    (logits,) = predictions.read(np.arange(len(rows)), "logits")
    scores = pd.read_csv(data / f"08_reporting/classification/{name}/scores.csv")
    assert set(splits.loc[rows["file"], "split"]) == {"test"}
    for test_set in scores["test_set"].unique():
        chosen = splits.loc[rows["file"], f"{test_set}_test"].to_numpy()
        expected = accuracy_score(rows["label"][chosen], logits.argmax(1)[chosen])
        assert scores.query("test_set == @test_set and metric == 'accuracy'")["value"].item() == pytest.approx(expected)


@both
def test_order_by_confidence_is_that_of_the_predictions_on_disk(either):
    """The confidence that new images are given, at the temperature."""
    data = either / "data"
    reporting = data / "08_reporting/classification"
    order = pd.read_csv(reporting / "uncertainty.csv")
    assert set(order["test_set"]) in ({"patient"}, {"deduplicated"})
    splits = read_splits(either).set_index("file")
    for name in NETWORKS:
        own = order[order["network"] == name].set_index("metric")
        predictions = Store(data / f"07_model_output/classification/{name}/predictions.h5")
        temperature = read_network(data / f"06_models/classification/{name}/network.safetensors").description[
            "temperature"
        ]
        rows = predictions.rows
        chosen = splits.loc[rows["file"], f"{own['test_set'].iloc[0]}_test"].to_numpy()
        (logits,) = predictions.read(np.arange(len(rows)), "logits")
        right = (logits.argmax(1) == rows["label"])[chosen]
        confidence = softmax(logits.astype(float) / temperature, axis=1).max(1)[chosen]
        assert own.loc["auroc", "value"] == pytest.approx(roc_auc_score(right, confidence))
        assert own.loc["aurc_random", "value"] == pytest.approx(1 - right.mean())
        least = np.argsort(confidence)[: -(-len(right) // 5)]
        assert own.loc["errors_in_fifth", "value"] == pytest.approx((~right)[least].sum() / (~right).sum())
    share = order.query("network == 'cnn' and metric == 'errors_in_fifth'")["value"].item()
    assert f"that a network is least sure of hold of its mistakes: CNN {share:.0%}, " in (
        (reporting / "report.html").read_text()
    )


def test_leaderboard_is_the_first_table_of_the_report(finished):
    folder = finished / "data/08_reporting/classification"
    costs = pd.read_csv(folder / "costs.csv").set_index("network")
    assert (costs[["gflops_an_image", "images_a_second", "training_seconds"]] > 0).all().all()
    # Each weight of a convolution multiplies and adds once a pixel.
    assert costs.loc["vgg16", "gflops_an_image"] > costs.loc["cnn", "gflops_an_image"] > 0
    table = (folder / "report.html").read_text().split("</table>")[0]
    heads = re.findall(r'<th scope="col"[^>]*><button type="button">(.*?)</button>', table)
    assert heads[:5] == ["network", "accuracy", "p against the best", "source", "pretrained"]
    assert heads[5:] == ["parameters", "GFLOPs", "ms per image", "training, s"]
    assert table.count("<tr><td") == len(NETWORKS)


def test_each_image_is_predicted_by_the_network_that_was_not_trained_on_its_patient(finished):
    data = finished / "data"
    network = read_network(data / "06_models/classification/cnn/network.safetensors")
    assert len(network.members) == 2
    predictions = Store(data / "07_model_output/classification/cnn/predictions.h5")
    images = Store(data / "03_primary/classification/images.h5")
    splits = read_splits(finished).set_index("file")
    device = choose_device(EngineSettings())
    (logits,) = predictions.read(np.arange(len(predictions.rows)), "logits")
    fold = splits.loc[predictions.rows["file"], "fold"].to_numpy()
    rows = predictions.rows["row"].to_numpy()
    for number in (0, 1):
        own = np.concatenate(list(predict_logits(network.of_fold(number), images, rows[fold == number], device)))
        other = np.concatenate(list(predict_logits(network.of_fold(1 - number), images, rows[fold == number], device)))
        # Rounding in bf16 depends on the batch, the networks differ by more.
        assert np.abs(logits[fold == number] - own).max() < np.abs(logits[fold == number] - other).max() / 3


def test_policies_are_compared_on_request(finished, project, images):
    shutil.copytree(finished / "data", project / "data", dirs_exist_ok=True)
    compared = {"classification": {"compare_policies": ["deduplicated", "official"]}}
    nodes = [f"classification.{name}.compare_policies" for name in NETWORKS] + ["classification.write_report"]
    run(project, "classification", node_names=nodes, classification_source=str(images), **compared)
    folder = project / "data/08_reporting/classification"
    table = pd.read_csv(folder / "cnn/policies.csv")
    assert set(table["policy"]) == {"deduplicated", "official"}
    assert set(table["test_set"]) == {"deduplicated", "official"}
    report = (folder / "report.html").read_text()
    assert "What each leak is worth" in report
    assert "patients and duplicates in training, 28 images" in report
    assert "What each leak is worth" not in (finished / "data/08_reporting/classification/report.html").read_text()


@both
def test_saliency_is_of_test_images_without_duplicates(either):
    finished = either
    first = pd.read_csv(finished / "data/08_reporting/classification/comparison.csv")["test_set"].iloc[0]
    splits = pd.read_csv(finished / "data/05_model_input/classification/splits.csv", keep_default_na=False).set_index(
        "file"
    )
    for name in NETWORKS:
        looks = pd.read_csv(finished / f"data/08_reporting/classification/{name}/saliency.csv")
        assert splits.loc[looks["file"], f"{first}_test"].all()
        assert looks["weight"].tolist() == [1.0] * splits[f"{first}_test"].sum()
        shares = looks[["outside", "rim", "inside"]].dropna(how="all")  # no heat where no place speaks for the class
        assert shares.sum(axis=1).tolist() == pytest.approx([1.0] * len(shares))
        explanations = Store(finished / f"data/07_model_output/classification/{name}/explanations.h5")
        assert explanations.read(np.arange(len(looks)), "saliency")[0].shape == (len(looks), 96, 96)
        assert explanations.description["simulated"]


@pytest.mark.parametrize(("mistakes", "kept"), [(0, 0), (67, 67), (500, 180), (900, 182), (958, 240)])
def test_explained_images_stand_for_the_test_set(rng, mistakes, kept):
    wrong = rng.permutation(958) < mistakes
    chosen, weight = choose_explained(wrong)
    assert len(set(chosen)) == 240
    assert wrong[chosen].sum() == kept
    assert weight.sum() == pytest.approx(958)
    assert weight[wrong[chosen]].sum() == pytest.approx(mistakes)
    few, one = choose_explained(wrong[:30])
    assert np.array_equal(few, np.arange(30))
    assert one == pytest.approx(1)


def test_report_weighs_right_and_wrong_images_as_the_test_set_does():
    """A mistake with more saliency outside than a uniform map stands for itself, correct images for nine each."""
    looks = pd.DataFrame(
        {
            "class": "a",
            "predicted": list("baaa"),
            "weight": [1.0, 9, 9, 9],
            "inside": [0.7, 0.9, 0.9, np.nan],
            "inside_uniform": 0.8,
        }
    )
    assert _elsewhere({"cnn": looks}) == (
        "CNN has less of its saliency inside the head than a uniform map in 3.6% of the test images, and none "
        "anywhere in 32.1%."
    )


def test_network_file_says_what_it_needs(finished):
    network = NetworkDataset(filepath=str(finished / "data/06_models/classification/cnn/network.safetensors")).load()
    assert network.sizes == {"in_channels": 1, "out_channels": 4, "image_size": 96, "n_filters": 6}
    assert network.description["classes"] == ["glioma", "meningioma", "notumor", "pituitary"]
    assert network.description["simulated"] is True
    assert network.description["fit"] == "pad"
    assert network.description["persons"] == 44
    assert 16 <= sum(network.description["images"]) <= 20


@both
def test_the_file_says_how_far_from_the_training_images_an_image_may_lie(either):
    network = NetworkDataset(filepath=str(either / "data/06_models/classification/cnn/network.safetensors")).load()
    assert len(network.familiarity) == len(network.members)
    for familiarity in network.familiarity:
        assert familiarity.limit > 0
        assert len(familiarity.means) == 4
        assert familiarity.whitening.shape[0] == len(familiarity.centre)


@both
def test_temperature_is_chosen_by_what_the_pipeline_answers_on_validation_images(either, tmp_path, monkeypatch):
    data = either / "data"
    network = NetworkDataset(filepath=str(data / "06_models/classification/cnn/network.safetensors")).load()
    temperature = network.description["temperature"]
    scores = pd.read_csv(data / "08_reporting/classification/cnn/scores.csv")
    fitted = scores.loc[scores["metric"] == "temperature", "value"].to_numpy()
    assert fitted == pytest.approx(temperature)
    assert temperature == pytest.approx(choose_temperature(*answer_validation(either, network)), rel=1e-3)
    # The one that is used may be 1 whatever fits; here it is the one that fits.
    monkeypatch.setattr("brain_tumor.metrics.classification.choose_temperature", fit_temperature)
    network = train(either, tmp_path)
    fitted = fit_temperature(*answer_validation(either, network))
    assert network.description["temperature"] == pytest.approx(fitted, rel=1e-3)
    assert abs(fitted - 1) > 0.01


def answer_validation(project, network):
    """Logits and labels of the validation images, of each fold by its network."""
    images, splits = Store(project / "data/03_primary/classification/images.h5"), read_splits(project)
    device = choose_device(EngineSettings(device="cpu", precision="fp32"))
    logits, labels = [], []
    for fold in range(count_folds(splits)):
        validating = splits.loc[sets_of_fold(splits, fold) == "validation", "file"]
        rows = np.flatnonzero(images.rows["file"].isin(validating))
        logits += list(predict_logits(network.of_fold(fold), images, rows, device))
        labels.append(images.read(rows, "label")[0].astype(int))
    return np.concatenate(logits), np.concatenate(labels)


def test_report_needs_nothing_else_and_says_simulated(finished):
    report = (finished / "data/08_reporting/classification/report.html").read_text()
    assert "SIMULATED" in report.split("</title>")[0]
    png, webp = (report.count(f"data:image/{kind};base64,") for kind in ("png", "webp"))
    assert png + webp == report.count('alt="') >= 5 * len(NETWORKS)
    assert webp >= len(NETWORKS)
    assert report.count('<svg class="plot"') == 1 + len(NETWORKS)
    settings = dict(
        re.findall(
            r"<tr><td[^>]*>([\w.]+)</td><td[^>]*>([^<]*)</td></tr>", report.split('id="settings-and-versions"')[1]
        )
    )
    assert {
        "recipe.epochs": "2",
        "recipe.augmentation.horizontal_flip": "0.5",
        "cnn.sizes.n_filters": "6",
        "vgg16.sizes.hidden": "16",
    }.items() <= settings.items()
    assert "cnn.epochs" not in settings
    assert 'src="http' not in report
    assert "44 simulated images of patients it was not trained on" in report
    assert "Cross-validation by patient" in report


def test_report_of_the_published_folders_says_what_leaks(by_folder):
    report = (by_folder / "data/08_reporting/classification/report.html").read_text()
    assert "28 simulated test images without duplicates" in report
    assert "Images of one patient may be in training and test sets" in report


@both
def test_model_card_has_the_numbers_of_the_tables(either):
    reporting = either / "data/08_reporting/classification"
    card = (reporting / "model_card.md").read_text()
    scores = pd.read_csv(reporting / "comparison.csv")
    scores["network"] = scores["network"].map(name_network)
    scores = scores.set_index(["test_set", "network", "metric"]).sort_index()
    first = "patient" if "patient" in scores.index else "deduplicated"
    images = scores.loc[first, "images"].iloc[0]
    for test_set in [first]:
        for name, parameters, *shown in rows_of(
            card, f"Scores and 95 % intervals on the {test_set} test set, {images} images"
        )[1:]:
            own = scores.loc[(test_set, name)].loc[list(SCORES)]
            assert parameters == f"{own['parameters'].iloc[0]:,}"
            interval = {
                name: f" ({row['low']:.3f} to {row['high']:.3f})" for name, row in own.dropna(subset="low").iterrows()
            }
            assert shown == [f"{row['value']:.3f}{interval.get(name, '')}" for name, row in own.iterrows()]
    for name in map(name_network, NETWORKS):
        for kind, _, recall in rows_of(card, f"{name}: precision and recall of each class on the {first} test set")[1:]:
            assert recall.startswith(f"{scores.loc[(first, name, f'recall_{kind}'), 'value']:.3f}")
    splits = read_splits(either)
    sets = {row[0]: sum(map(int, row[1:])) for row in rows_of(card, "Images of each class in each set")[1:]}
    assert sum(sets.values()) == len(splits)
    assert sets["not used"] == (splits["split"] == "").sum()


def test_settings_that_do_not_match_the_store_are_refused(finished, tmp_path):
    images = Store(finished / "data/03_primary/classification/images.h5")
    splits = pd.read_csv(finished / "data/05_model_input/classification/splits.csv", keep_default_na=False)
    for sizes, words in (
        ({"image_size": 128}, "the store has 96 pixels a side, but image_size is 128"),
        ({"out_channels": 3}, "has 4 classes, but out_channels is 3"),
    ):
        experiment = ExperimentSettings(network="cnn", sizes=sizes)
        with pytest.raises(ValueError, match=words):
            train_network(images, splits, Checkpoints(tmp_path), experiment, ClassificationRecipe(), EngineSettings())


STILL = ClassificationRecipe(epochs=1, epoch_steps=1, learning_rate=1e-12)
"""Leaves weights as they are."""


def train(project, folder, network="cnn", recipe=STILL, splits=None, sizes=None, **options):
    images = Store(project / "data/03_primary/classification/images.h5")
    given = read_network(project / f"data/06_models/classification/{network}/network.safetensors")
    own = {"n_filters": given.sizes["n_filters"]} | (sizes or {})
    experiment = ExperimentSettings(network=network, sizes=own)
    engine = EngineSettings(device="cpu", precision="fp32")
    splits = read_splits(project) if splits is None else splits
    checkpoints = Checkpoints(folder / network / "checkpoints")
    return train_network(images, splits, checkpoints, experiment, recipe, engine, **options)[0]


def test_training_starts_from_given_weights(by_folder, tmp_path, caplog):
    given = by_folder / "data/06_models/classification/cnn/network.safetensors"
    before = read_network(given)
    network = train(by_folder, tmp_path, initial_weights=str(given))
    parameters = [name for name in network.members[0] if "running" not in name and "num_batches" not in name]
    assert all((network.members[0][name] - before.members[0][name]).abs().max() < 1e-6 for name in parameters)
    about = {"data_set": before.description["data_set"], "simulated": True, "scored": []}
    assert network.description["initialised_from"] == about
    assert before.description["initialised_from"] is None
    splits = read_splits(by_folder)
    learned = splits.loc[splits["split"].isin(["train", "validation"]), "person"]
    assert network.description["patients"] == before.description["patients"] == sorted(set(learned))
    with pytest.raises(ValueError, match=r"has sizes \{.*'n_filters': 6\}, but cnn is built with .*'n_filters': 8"):
        train(by_folder, tmp_path, initial_weights=str(given), sizes={"n_filters": 8})
    other = by_folder / "data/06_models/classification/alexnet/network.safetensors"
    train(by_folder, tmp_path, initial_weights=str(other))
    assert "holds a alexnet; cnn starts from random weights" in caplog.text


def test_images_of_a_scarce_source_are_used_more_often(by_folder, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    splits = read_splits(by_folder)
    training = splits[splits["split"] == "train"]
    glioma = training.index[training["class"] == "glioma"]
    # one glioma of no known patient among n: used n - 1 times
    splits["patient"] = "somebody"
    splits.loc[glioma[0], "patient"] = ""
    network = train(by_folder, tmp_path, splits=splits, recipe=STILL.model_copy(update={"source_balance": 1.0}))
    expected = len(training) + len(glioma) - 2
    assert f"{expected} images an epoch, those of a scarce source more than once" in caplog.text
    assert sum(network.description["images"]) == len(training)


def test_weights_of_other_classes_are_refused(by_folder, tmp_path):
    given = read_network(by_folder / "data/06_models/classification/cnn/network.safetensors")
    turned = replace(given, description=given.description | {"classes": given.description["classes"][::-1]})
    write_network(tmp_path / "turned.safetensors", turned)
    words = r"tells apart \['pituitary', .*\], but the images have the classes \['glioma', .*name the folders"
    with pytest.raises(ValueError, match=words):
        train(by_folder, tmp_path, initial_weights=str(tmp_path / "turned.safetensors"))


def test_weights_that_know_patients_to_be_scored_are_reported(by_folder, tmp_path, caplog):
    """The sets are drawn anew, and a patient whom the initial weights were trained on is tested."""
    given = by_folder / "data/06_models/classification/cnn/network.safetensors"
    splits = read_splits(by_folder)
    learned = splits.index[splits["split"] == "train"][0]
    known = splits.loc[learned, "person"]
    splits.loc[splits["person"] == known, "split"] = "test"
    network = train(by_folder, tmp_path, splits=splits, initial_weights=str(given))
    assert network.description["initialised_from"]["scored"] == [known]
    assert known in network.description["patients"], "those of before are known too"
    tested = splits.loc[splits["split"] == "test", "person"].nunique()
    assert f"the weights to start from know 1 of the {tested} patients to be scored ({known})" in caplog.text
    assert f"CNN started from weights that were trained on patients scored here ({known})" in say_start(network)
    silent = read_network(given)
    about = {name: value for name, value in silent.description.items() if name != "patients"}
    write_network(tmp_path / "silent.safetensors", replace(silent, description=about))
    network = train(by_folder, tmp_path, initial_weights=str(tmp_path / "silent.safetensors"))
    assert network.description["initialised_from"]["scored"] is None
    assert "whose file doesn't list their training patients: its scores may flatter" in say_start(network)


def test_test_images_that_all_have_a_copy_are_refused_before_training(by_folder, tmp_path):
    images = Store(by_folder / "data/03_primary/classification/images.h5")
    splits = read_splits(by_folder).assign(deduplicated_test=False)
    words = r"without a duplicate among the training images, got none of 28; set `data_classification\.split\.policy`"
    with pytest.raises(ValueError, match=words):
        train_network(
            images,
            splits,
            Checkpoints(tmp_path),
            ExperimentSettings(network="cnn"),
            ClassificationRecipe(),
            EngineSettings(),
        )


def test_a_network_that_learned_from_other_sets_is_refused(finished, project, images):
    """As when the policy changes, and only what comes after training is run."""
    shutil.copytree(finished / "data", project / "data", dirs_exist_ok=True)
    run(
        project,
        "data_engineering",
        classification_source=str(images),
        data_classification={"split": {"policy": "official"}},
    )
    with pytest.raises(
        ValueError,
        match=(
            "cnn was trained on other images than the sets name now, perhaps on duplicates of test images; train it"
        ),
    ):
        run(project, "classification", node_names=["classification.cnn.predict_images"])


def read_splits(project):
    return pd.read_csv(project / "data/05_model_input/classification/splits.csv", keep_default_na=False)


def test_a_network_of_other_images_is_refused(finished):
    data = finished / "data"
    network = NetworkDataset(filepath=str(data / "06_models/classification/cnn/network.safetensors")).load()
    store, splits = Store(data / "03_primary/classification/images.h5"), read_splits(finished)
    require_unseen(network, store, splits)
    # Which of the training images validate makes no difference.
    require_unseen(network, store, splits.assign(validation_fold=-1))
    stretched = replace(network, description=network.description | {"fit": "stretch"})
    with pytest.raises(
        ValueError, match="cnn was trained on images whose fit was stretch, but it is pad now; train it again"
    ):
        require_unseen(stretched, store, splits)
    about = {key: value for key, value in network.description.items() if key != "images_trained_on"}
    with pytest.raises(ValueError, match="the file of cnn has no list of its training images"):
        require_unseen(replace(network, description=about), store, splits)


@pytest.mark.parametrize("node", ["cnn.explain_images", "cnn.draw_results", "compare_networks"])
def test_predictions_of_images_that_have_been_replaced_are_refused(finished, project, node):
    """As when the images are prepared again in another order: each heat would be another image's."""
    shutil.copytree(finished / "data", project / "data", dirs_exist_ok=True)
    with h5py.File(project / "data/03_primary/classification/images.h5", "a") as file:
        file.attrs["description"] = json.dumps(json.loads(file.attrs["description"]) | {"fingerprint": "another"})
    with pytest.raises(ValueError, match=r"predictions\.h5 was not made from the rows that .*images\.h5 holds now"):
        run(project, "classification", node_names=[f"classification.{node}"])


@pytest.mark.parametrize("node", ["score_images", "explain_images", "draw_results"])
def test_predictions_of_weights_that_have_been_replaced_are_refused(finished, project, node):
    shutil.copytree(finished / "data", project / "data", dirs_exist_ok=True)
    path = project / "data/06_models/classification/cnn/network.safetensors"
    network = read_network(path)
    write_network(path, replace(network, members=({name: value * 0.5 for name, value in network.members[0].items()},)))
    with pytest.raises(ValueError, match=r"predictions\.h5 was not made by the weights that cnn has now"):
        run(project, "classification", node_names=[f"classification.cnn.{node}"])


def test_predictions_of_other_test_images_are_refused(finished, project):
    shutil.copytree(finished / "data", project / "data", dirs_exist_ok=True)
    splits = read_splits(project)
    first = splits.index[splits["split"] == "test"][0]
    splits.loc[first, "split"] = ""
    splits.to_csv(project / "data/05_model_input/classification/splits.csv", index=False)
    with pytest.raises(
        ValueError, match=r"has predictions of 44 images, which aren't the 43 test images of the sets; predict again"
    ):
        run(project, "classification", node_names=["classification.cnn.score_images"])


def test_second_run_runs_nothing(finished, images, caplog):
    with caplog.at_level(logging.INFO):
        run(finished, "classification", classification_source=str(images))
    assert "39 of 39 nodes are up to date" in caplog.text
    assert not [message for message in caplog.messages if message.startswith("> ")]


def test_two_experiments_on_one_network_are_compared(finished, project):
    shutil.copytree(finished / "data", project / "data", dirs_exist_ok=True)
    nodes = [node.name for node in register_pipelines()["classification"].nodes]
    compared = [name for name in nodes if name.startswith("classification.") and name.count(".") == 1]
    again = [name for name in nodes if name.startswith("classification.alexnet.")] + compared
    run(project, "classification", node_names=again, classification={"alexnet": {"network": "cnn"}})
    folder = project / "data/08_reporting/classification"
    assert list(pd.read_csv(folder / "comparison.csv")["network"].unique()) == NETWORKS
    assert len(pd.read_csv(folder / "differences.csv")) == 6
    assert {row[0] for row in rows_of((folder / "model_card.md").read_text(), "Networks")[1:]} == {
        name_network(name) for name in NETWORKS
    }


def test_the_epoch_whose_weights_were_kept_is_marked():
    """The last one, where the recipe keeps it, though another one validates better."""
    scores = [f"validation_{name}" for name in ("loss", "accuracy", "macro_f1", "likelihood")]
    log = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": 1.0} | {name: [0.1, 0.9, 0.5] for name in scores})
    lines = [line for axes in draw_curves(log, 3, "").axes for line in axes.lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in lines] == [3]
    assert lines[0].get_label() == "epoch kept: 3"


def test_notebook_runs_on_the_finished_project(finished, execute_notebook):
    cells = execute_notebook("classification", finished)
    require_pictures(cells, least=5)
    assert all(cell["outputs"] for cell in cells[2:])
    shown = str([cell["outputs"] for cell in cells])
    assert "16 of 28 test images have a duplicate in Training" in shown
    assert "stderr" not in shown


def test_registered_pipelines():
    nodes = register_pipelines()["classification"].nodes
    assert {node.namespace.split(".")[0] for node in nodes} == {"data_classification", "classification"}
    assert {node.namespace for node in nodes} >= {f"classification.{name}" for name in NETWORKS}
