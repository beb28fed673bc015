"""Nodes that predict, score and explain test images. torch takes seconds to import: nodes import it when they run."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from brain_tumor.data.common.sets import TEST
from brain_tumor.data.common.store import Chunk, Store, StoreContent, require_made_from
from brain_tumor.data.images.class_folders import ImageSet
from brain_tumor.data.images.split import (
    IN_TEST,
    ImageSplitSettings,
    Policy,
    count_folds,
    list_test_sets,
    sets_of_fold,
    split_images,
)
from brain_tumor.metrics import classification as metrics
from brain_tumor.metrics.saliency import compare_with_tumour, find_regions, share_regions
from brain_tumor.networks.trained import TrainedNetwork, require_made_by
from brain_tumor.pipelines.classification.training import find_rows, require_unseen, train_network
from brain_tumor.pipelines.experiments import warn_of_missed
from brain_tumor.reporting.classification.tables import EXPLAINED
from brain_tumor.training.checkpoints import Checkpoints
from brain_tumor.training.settings import ClassificationRecipe, EngineSettings, ExperimentSettings

logger = logging.getLogger(__name__)

COST_IMAGES = 64
"""Images from which the speed of prediction is measured."""


def predict_images(
    network: TrainedNetwork, images: Store, splits: pd.DataFrame, engine: EngineSettings
) -> StoreContent:
    """Class logits of the test images; with folds, of each by the network that was not trained on its person.

    Raises:
        ValueError: if the network was trained on other sets, or on images of another kind.
    """
    require_unseen(network, images, splits)
    about = images.description
    description = {"network": network.experiment, "simulated": about["simulated"]}
    description |= {"classes": about["classes"], "healthy": about["healthy"]}
    description |= {"made_from": about["fingerprint"], "weights": network.digest}
    rows = [find_rows(images, splits, sets_of_fold(splits, fold) == TEST) for fold in range(count_folds(splits))]
    return StoreContent(description, _predict(network, images, rows, engine))


def _predict(
    network: TrainedNetwork, images: Store, rows_of_folds: list[np.ndarray], engine: EngineSettings
) -> Iterator[Chunk]:
    from brain_tumor.training.classification.prediction import predict_logits
    from brain_tumor.training.device import choose_device

    files = images.rows["file"].to_numpy()
    labels = images.rows["label"].to_numpy()
    device = choose_device(engine)
    for fold, rows in enumerate(rows_of_folds):
        start = 0
        for logits in predict_logits(network.of_fold(fold), images, rows, device):
            chosen = rows[start : start + len(logits)]
            start += len(logits)
            # h5py takes strings as objects only.
            yield {"logits": logits, "row": chosen, "file": files[chosen].astype(object), "label": labels[chosen]}


def load_predictions(predictions: Store, splits: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """A row for each predicted image with its sets and group, and the logits.

    Raises:
        ValueError: if the predicted images aren't the test images of the sets.
    """
    rows = predictions.rows
    tested = splits.loc[splits["split"] == TEST, "file"]
    if set(rows["file"]) != set(tested):
        words = (
            f"{predictions.path} has predictions of {len(rows)} images, which aren't the {len(tested)} test "
            "images of the sets"
        )
        raise ValueError(f"{words}; predict again, such as with `kedro run --pipelines classification`")
    return _add_sets(rows, splits), predictions.read(np.arange(len(rows)), "logits")[0]


def _add_sets(rows: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Predicted images with class, person and sets, in the order of the predictions."""
    columns = ["file", "class", "patient", "group", "person", "split", "fold", *IN_TEST]
    # A left join keeps the order of the predictions, which is that of the logits.
    table = rows.merge(splits[columns], "left", on="file", validate="one_to_one")
    return table.astype({"label": int})


def score_images(network: TrainedNetwork, predictions: Store, splits: pd.DataFrame) -> pd.DataFrame:
    """Scores of each test set.

    Rows `network`, `parameters`, `test_set`, `metric`, `value`, `low`, `high`, `images`, `persons`.

    Metrics that end in `_scaled` are computed with the temperature fitted to the validation images.
    """
    require_made_by(predictions, network)
    table, logits = load_predictions(predictions, splits)
    scores = _score_test_sets(table, logits, network.description)
    _log_scores(network.experiment, scores, network.description["classes"])
    scores = scores.assign(network=network.experiment, parameters=network.parameters)
    return scores[["network", "parameters", "test_set", "metric", "value", "low", "high", "images", "persons"]]


def _log_scores(name: str, scores: pd.DataFrame, classes: Sequence[str]) -> None:
    """A line with the accuracy on each test set, and a warning of each class that is never found."""
    for test_set, part in scores.groupby("test_set", sort=False):
        value = part.set_index("metric")["value"]
        images = part["images"].iloc[0]
        logger.info("%s: accuracy %.3f on %d images of the %s test set", name, value["accuracy"], images, test_set)
        missed = [each for each in classes if value[f"recall_{each}"] == 0]
        warn_of_missed(f"{name}, {test_set} test set", missed)


def _score_test_sets(table: pd.DataFrame, logits: np.ndarray, about: dict[str, Any]) -> pd.DataFrame:
    """Scores of each test set.

    Args:
        about: description of the network.
    """
    temperature = about["temperature"]
    parts = []
    for test_set in list_test_sets(table):
        chosen = table[f"{test_set}_test"].to_numpy()
        label = table.loc[chosen, "label"].to_numpy()
        person = table.loc[chosen, "person"].to_numpy()
        probability = metrics.to_probability(logits[chosen])
        scored = [label, person, about["classes"], about.get("healthy")]
        scores = metrics.score(probability, *scored)
        scaled = metrics.score(metrics.to_probability(logits[chosen], temperature), *scored)
        # A temperature doesn't change which class has the highest probability, so accuracy stays.
        scaled = scaled[scaled["metric"].isin(["confidence", "calibration_error"])]
        scaled = scaled.assign(metric=scaled["metric"] + "_scaled")
        fitted = pd.DataFrame({"metric": ["temperature"], "value": [temperature]})
        table_of_set = pd.concat([scores, scaled, fitted], ignore_index=True)
        counts = {"images": int(chosen.sum()), "persons": len(set(person))}
        listed = (table.loc[chosen, "patient"] != "").to_numpy()
        by_source = metrics.score_sources(probability, label, person, listed, about["classes"])
        parts.append(pd.concat([table_of_set.assign(**counts), by_source]).assign(test_set=test_set))
    return pd.concat(parts, ignore_index=True)


def measure_cost(
    network: TrainedNetwork, images: Store, training_log: pd.DataFrame, engine: EngineSettings
) -> pd.DataFrame:
    """One row of costs: parameters, GFLOPs of an image (exact), images a second on this device, training seconds.

    Of one network without test-time augmentation; training seconds of all folds together.
    """
    from brain_tumor.training.classification.prediction import predict_logits
    from brain_tumor.training.cost import count_gflops, measure_seconds, tabulate_cost
    from brain_tumor.training.device import choose_device

    device = choose_device(engine)
    # A description without a recipe has no test-time augmentation.
    member = replace(network.of_fold(0), description={})
    side = images.description["image_size"]
    gflops = count_gflops(member.module(), 1, network.sizes["in_channels"], side, side)
    rows = np.arange(min(COST_IMAGES, len(images.rows)))
    seconds = measure_seconds(lambda: predict_logits(member, images, rows, device))
    speed = {"images_a_second": len(rows) / seconds}
    return tabulate_cost(network, training_log, device, gflops={"gflops_an_image": gflops}, speed=speed)


def compare_policies(
    images: Store,
    index: pd.DataFrame,
    duplicates: pd.DataFrame,
    checkpoints: Checkpoints,
    experiment: ExperimentSettings,
    recipe: ClassificationRecipe,
    engine: EngineSettings,
    data_set: ImageSet,
    split: ImageSplitSettings,
    policies: list[Policy],
    initial_weights: str | None = None,
) -> pd.DataFrame:
    """Scores of the same network under other policies, to measure what their leaks are worth; each is trained anew.

    Rows of `score_images`, and `policy`.

    Args:
        policies: of ImageSplitSettings; none by default.
    """
    parts = []
    for policy in policies:
        splits = split_images(index, duplicates, data_set, split.model_copy(update={"policy": policy}))
        network, _ = train_network(images, splits, checkpoints, experiment, recipe, engine, initial_weights)
        content = predict_images(network, images, splits, engine)
        chunks = list(content.chunks)
        logits = np.concatenate([chunk["logits"] for chunk in chunks])
        rows = pd.DataFrame(
            {name: np.concatenate([chunk[name] for chunk in chunks]) for name in ("row", "file", "label")}
        )
        scores = _score_test_sets(_add_sets(rows, splits), logits, network.description)
        parts.append(scores.assign(network=network.experiment, policy=policy))
    columns = ["network", "policy", "test_set", "metric", "value", "low", "high", "images", "persons"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def explain_images(
    network: TrainedNetwork, predictions: Store, images: Store, splits: pd.DataFrame, engine: EngineSettings
) -> tuple[StoreContent, pd.DataFrame]:
    """Saliency maps of images of the first test set, and the saliency of each by region.

    With folds, each image is explained by the network that was not trained on its person.

    Returns:
        A map of each explained image, in steps of 1/255 of its maximum.
        Rows `file`, `class`, `row`, `confidence`, `weight` (number of test images that one stands for), `predicted`
        (class), and the columns of `share_regions` and `compare_with_tumour`.
    """
    from brain_tumor.training.classification.saliency import compute_saliency, uniform_saliency
    from brain_tumor.training.device import choose_device

    require_made_from(predictions, images)
    require_made_by(predictions, network)
    first = list_test_sets(splits)[0]
    table = _choose_rows(*load_predictions(predictions, splits), first)
    rows = table["row"].to_numpy()
    device = choose_device(engine)
    parts = []
    for fold, part in table.groupby(table["fold"].clip(lower=0), sort=True):
        of_fold = network.of_fold(int(fold))
        parts.append(compute_saliency(of_fold, images, part["row"].to_numpy(), part["predicted"].to_numpy(), device))
    saliency = np.concatenate(parts)
    about = images.description
    class_names = [about["classes"][number] for number in table["predicted"]]
    by_region = table[["file", "class", "row", "confidence", "weight"]].assign(predicted=class_names)
    uniform = uniform_saliency(network.of_fold(0))
    image, tumour = images.read(rows, "image", "tumour")
    shares = _share_regions(saliency, image, tumour, uniform)
    by_region = by_region.reset_index(drop=True).join(shares)
    # Each map by its own maximum: maps of two images are on no common scale.
    strength = saliency / np.maximum(saliency.max((1, 2), keepdims=True), 1e-12)
    chunk = {
        "saliency": np.rint(255 * strength).astype(np.uint8),
        "row": rows,
        "file": table["file"].to_numpy(object),
    }
    description = {"network": network.experiment, "simulated": about["simulated"]}
    description |= {"made_from": about["fingerprint"], "weights": network.digest}
    return StoreContent(description, iter([chunk])), by_region


def _choose_rows(table: pd.DataFrame, logits: np.ndarray, test_set: str) -> pd.DataFrame:
    """Predictions of the images to explain, fold by fold, with predicted class, confidence and weight."""
    table = table.assign(predicted=logits.argmax(1), confidence=metrics.to_probability(logits).max(1))
    table = table[table[f"{test_set}_test"]].sort_values("fold", kind="stable")
    wrong = (table["predicted"] != table["label"]).to_numpy()
    chosen, weight = choose_explained(wrong)
    return table.iloc[chosen].assign(weight=weight)


def _share_regions(saliency: np.ndarray, images: np.ndarray, tumours: np.ndarray, uniform: np.ndarray) -> pd.DataFrame:
    rows = []
    for own, image, tumour in zip(saliency, images[:, 0], tumours, strict=True):
        regions = find_regions(image)
        shares = share_regions(own, regions, uniform)
        rows.append(shares | compare_with_tumour(own, regions, tumour, uniform))
    return pd.DataFrame(rows)


def choose_explained(wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of EXPLAINED images, and how many images each stands for.

    Mistakes first, up to three quarters while there are others; at random among each.

    Args:
        wrong: bool (n,), whether each image is misclassified.
    """
    order = np.random.default_rng(0).permutation(len(wrong))
    misses = order[wrong[order]]
    hits = order[~wrong[order]]
    num_misses = min(len(misses), max(3 * EXPLAINED // 4, EXPLAINED - len(hits)))
    chosen = np.sort(np.concatenate([misses[:num_misses], hits[: EXPLAINED - num_misses]]))
    # Weights undo the preference for mistakes, so that weighted means hold for the test set.
    weight_of_miss = len(misses) / max(num_misses, 1)
    weight_of_hit = len(hits) / max(len(chosen) - num_misses, 1)
    return chosen, np.where(wrong[chosen], weight_of_miss, weight_of_hit)
