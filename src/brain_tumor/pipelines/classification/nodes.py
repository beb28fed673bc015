"""Nodes of classification. Those that compute with torch import it when they run: it takes seconds."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brain_tumor.data.common.provenance import Origin
from brain_tumor.data.common.sets import TEST, TRAIN, VALIDATION
from brain_tumor.data.common.store import Chunk, Store, StoreContent, fingerprint, require_made_from
from brain_tumor.data.images.split import DEDUPLICATED, OFFICIAL
from brain_tumor.figures import classification as figures
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics import classification as metrics
from brain_tumor.metrics.saliency import REGIONS, mean_shares, share_regions
from brain_tumor.networks.trained import TrainedNetwork, require_made_by
from brain_tumor.pipelines.experiments import gather
from brain_tumor.reporting.classification.model_card import compose_model_card
from brain_tumor.reporting.classification.report import compose_report
from brain_tumor.reporting.classification.tables import EXPLAINED
from brain_tumor.training.checkpoints import Checkpoints, code_fingerprint
from brain_tumor.training.settings import ClassificationRecipe, EngineSettings, ExperimentSettings

logger = logging.getLogger(__name__)

TEST_SETS = (OFFICIAL, DEDUPLICATED)

SHOWN = 4
"""Images of each class in a figure."""


def train_network(
    images: Store,
    splits: pd.DataFrame,
    checkpoints: Checkpoints,
    experiment: ExperimentSettings,
    recipe: ClassificationRecipe,
    engine: EngineSettings,
) -> tuple[TrainedNetwork, pd.DataFrame]:
    """The trained network, with the temperature that fits validation, and the log of its training.

    Goes on from a checkpoint of the same settings and data.
    """
    import lightning

    from brain_tumor.networks import build
    from brain_tumor.training.batches import Rows
    from brain_tumor.training.classification.prediction import predict_logits
    from brain_tumor.training.classification.saliency import require_explainable
    from brain_tumor.training.classification.task import MONITOR, NAMES, ClassificationTask
    from brain_tumor.training.device import choose_device, what_is_computed
    from brain_tumor.training.fit import Job, fit

    about = images.description
    sizes = {
        "in_channels": 1,
        "out_channels": len(about["classes"]),
        "image_size": about["image_size"],
    } | experiment.sizes
    _require_match(sizes, about)
    _require_test(splits)
    recipe = experiment.adapt(recipe)
    train, validation = (
        Rows(images, _rows(images, splits, splits["split"] == name), NAMES) for name in (TRAIN, VALIDATION)
    )
    logger.info("%s: %d images to train on, %d to validate on", checkpoints.experiment, len(train), len(validation))
    settings = [
        experiment.network,
        sizes,
        recipe.model_dump(),
        engine.seed,
        what_is_computed(engine),
        code_fingerprint(),
    ]
    mark = fingerprint(settings, about, train.rows.tolist(), validation.rows.tolist())
    counts = np.bincount(images.read(train.rows, "label")[0], minlength=len(about["classes"])).tolist()
    lightning.seed_everything(engine.seed, verbose=False)
    task = ClassificationTask(build(experiment.network, **sizes), sizes["in_channels"], counts, recipe, engine.seed)
    require_explainable(task.network)
    fitted = fit(Job(task, train, validation, MONITOR, recipe, engine, checkpoints.of(mark)))
    description = about | {
        "experiment": checkpoints.experiment,
        "recipe": recipe.model_dump(),
        "seed": engine.seed,
        "kept": fitted.kept,
        "images": counts,
    }
    description["learned_images"] = _mark_learned(splits)
    description["checkpoints"] = [mark]
    network = TrainedNetwork(experiment.network, sizes, description, (fitted.weights,))
    logits = np.concatenate(list(predict_logits(network, images, validation.rows, choose_device(engine))))
    temperature = metrics.fit_temperature(logits, images.read(validation.rows, "label")[0].astype(int))
    return replace(network, description=description | {"temperature": temperature}), fitted.log


def _require_match(sizes: dict[str, Any], about: dict[str, Any]) -> None:
    for size, value, what in (
        ("out_channels", len(about["classes"]), "classes"),
        ("image_size", about["image_size"], "pixels a side"),
    ):
        if sizes[size] != value:
            raise ValueError(f"the store has {value} {what}, but {size} is {sizes[size]}; leave {size} out of sizes")


def _require_test(splits: pd.DataFrame) -> None:
    if not splits["deduplicated_test"].any():
        raise ValueError(
            "a test image must be left of which no copy is learned from, got none of "
            f"{splits['official_test'].sum()}; "
            f"set `data_classification.split.policy` to {DEDUPLICATED}, or add test images"
        )


def _rows(images: Store, splits: pd.DataFrame, chosen: pd.Series) -> np.ndarray:
    """Rows of the store that hold the files chosen."""
    return np.flatnonzero(images.rows["file"].isin(splits.loc[chosen, "file"]))


def _mark_learned(splits: pd.DataFrame) -> str:
    """Digest of the names of all images that are learned from or validated on."""
    return fingerprint(sorted(splits.loc[splits["split"].isin([TRAIN, VALIDATION]), "file"]))


def require_unseen(network: TrainedNetwork, images: Store, splits: pd.DataFrame) -> None:
    """Refuse a network of an earlier preparation or earlier sets.

    Copies of the images that it is tested on may be what it learned from.

    Raises:
        ValueError: naming what differs.
    """
    about, name = network.description, network.experiment
    again = "train it again, such as with `kedro run --pipelines classification`"
    for entry in ("classes", "image_size", "fit"):
        was, now = about.get(entry), images.description[entry]
        if was != now:
            raise ValueError(f"{name} learned from images whose {entry} was {was}, but it is {now} now; {again}")
    if "learned_images" not in about:
        raise ValueError(
            f"the file of {name} doesn't say which images it learned from, so it can't be tested here; {again}"
        )
    if about["learned_images"] != _mark_learned(splits):
        raise ValueError(
            f"{name} learned from other images than the sets name now, perhaps from copies of test images; {again}"
        )


def predict_images(
    network: TrainedNetwork, images: Store, splits: pd.DataFrame, engine: EngineSettings
) -> StoreContent:
    """Logits of each class for the images of both test sets.

    Raises:
        ValueError: if the network learned from other sets or from images of another kind.
    """
    require_unseen(network, images, splits)
    about = images.description
    description = {"network": network.experiment, "classes": about["classes"], "simulated": about["simulated"]}
    description |= {"made_from": about["fingerprint"], "weights": network.digest}
    return StoreContent(description, _predict(network, images, _rows(images, splits, splits["split"] == TEST), engine))


def _predict(network: TrainedNetwork, images: Store, rows: np.ndarray, engine: EngineSettings) -> Iterator[Chunk]:
    from brain_tumor.training.classification.prediction import predict_logits
    from brain_tumor.training.device import choose_device

    table, start = images.rows, 0
    for logits in predict_logits(network, images, rows, choose_device(engine)):
        chosen = rows[start : (start := start + len(logits))]
        columns = {name: table[name].to_numpy()[chosen] for name in ("file", "label")}
        yield {"logits": logits, "row": chosen, "file": columns["file"].astype(object), "label": columns["label"]}


def _load_predictions(predictions: Store, splits: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """A row for each prediction with its set and group, and the logits.

    Raises:
        ValueError: if other images are predicted than those that the sets have for testing.
    """
    rows, tested = predictions.rows, splits.loc[splits["split"] == TEST, "file"]
    if set(rows["file"]) != set(tested):
        words = (
            f"{predictions.path} has predictions of {len(rows)} images, which aren't the {len(tested)} test "
            "images of the sets"
        )
        raise ValueError(f"{words}; predict again, such as with `kedro run --pipelines classification`")
    table = rows.merge(
        splits[["file", "class", "group", "split", "official_test", "deduplicated_test"]],
        "left",
        on="file",
        validate="one_to_one",
    )
    return table.astype({"label": int}), predictions.read(np.arange(len(table)), "logits")[0]


def score_images(network: TrainedNetwork, predictions: Store, splits: pd.DataFrame) -> pd.DataFrame:
    """Rows `test_set`, `metric`, `value`, `low`, `high`, `images`.

    Metrics that end in `_scaled` are those at the temperature that fits validation.
    """
    require_made_by(predictions, network)
    table, logits = _load_predictions(predictions, splits)
    classes = predictions.description["classes"]
    temperature = network.description["temperature"]
    parts = []
    for test_set in TEST_SETS:
        chosen = table[f"{test_set}_test"].to_numpy()
        label, group = table.loc[chosen, "label"].to_numpy(), table.loc[chosen, "group"].to_numpy()
        scores = metrics.score(metrics.to_probability(logits[chosen]), label, group, classes)
        scaled = metrics.score(metrics.to_probability(logits[chosen], temperature), label, group, classes)
        scaled = scaled[scaled["metric"].isin(["confidence", "calibration_error"])].assign(
            metric=lambda rows: rows["metric"] + "_scaled"
        )
        fitted = pd.DataFrame({"metric": ["temperature"], "value": [temperature]})
        parts.append(
            pd.concat([scores, scaled, fitted], ignore_index=True).assign(test_set=test_set, images=int(chosen.sum()))
        )
    scores = pd.concat(parts, ignore_index=True).assign(network=network.experiment, parameters=network.parameters)
    return scores[["network", "parameters", "test_set", "metric", "value", "low", "high", "images"]]


def explain_images(
    network: TrainedNetwork, predictions: Store, images: Store, splits: pd.DataFrame, engine: EngineSettings
) -> tuple[StoreContent, pd.DataFrame]:
    """Where the network looks in test images without copies.

    A heat map of each, and its share inside the head, at the rim and outside.

    `weight` is how many images of the test set one stands for: mistakes are looked at first.
    """
    from brain_tumor.training.classification.saliency import compute_saliency, uniform_saliency
    from brain_tumor.training.device import choose_device

    require_made_from(predictions, images)
    require_made_by(predictions, network)
    table, logits = _load_predictions(predictions, splits)
    table = table.assign(found=logits.argmax(1), confidence=metrics.to_probability(logits).max(1))[
        table["deduplicated_test"]
    ]
    chosen, weight = choose_explained((table["found"] != table["label"]).to_numpy())
    table = table.iloc[chosen].assign(weight=weight)
    heat = compute_saliency(network, images, table["row"].to_numpy(), table["found"].to_numpy(), choose_device(engine))
    flat = uniform_saliency(network)
    shares = [
        share_regions(h, image[0], flat)
        for h, image in zip(heat, images.read(table["row"].to_numpy(), "image")[0], strict=True)
    ]
    classes = images.description["classes"]
    found = [classes[k] for k in table["found"]]
    looks = table[["file", "class", "row", "confidence", "weight"]].assign(
        found=found, **pd.DataFrame(shares, index=table.index)
    )
    strength = heat / np.maximum(heat.max((1, 2), keepdims=True), 1e-12)
    chunk = {
        "heat": np.rint(255 * strength).astype(np.uint8),
        "row": table["row"].to_numpy(),
        "file": table["file"].to_numpy(object),
    }
    about = images.description
    made = {
        "network": network.experiment,
        "simulated": about["simulated"],
        "made_from": about["fingerprint"],
        "weights": network.digest,
    }
    return StoreContent(made, iter([chunk])), looks.reset_index(drop=True)


def choose_explained(wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of EXPLAINED images, and how many images each stands for.

    Mistakes first, up to three quarters while there are others; at random among each.
    """
    order = np.random.default_rng(0).permutation(len(wrong))
    misses, hits = order[wrong[order]], order[~wrong[order]]
    kept = min(len(misses), max(3 * EXPLAINED // 4, EXPLAINED - len(hits)))
    chosen = np.sort(np.concatenate([misses[:kept], hits[: EXPLAINED - kept]]))
    return chosen, np.where(wrong[chosen], len(misses) / max(kept, 1), len(hits) / max(len(chosen) - kept, 1))


def draw_results(
    network: TrainedNetwork,
    predictions: Store,
    explanations: Store,
    looks: pd.DataFrame,
    images: Store,
    splits: pd.DataFrame,
    training_log: pd.DataFrame,
) -> dict[str, Figure]:
    """Learning curves, confusion, reliability, first kernels, where the network looks, and its most confident mistakes."""
    from brain_tumor.training.classification.saliency import first_kernels

    for made in (predictions, explanations):
        require_made_from(made, images)
        require_made_by(made, network)
    about = images.description
    title = f"{name_network(network.experiment)}{', SIMULATED' if about['simulated'] else ''}"
    table, logits = _load_predictions(predictions, splits)
    temperature = network.description["temperature"]
    label, tested = table["label"].to_numpy(), {name: table[f"{name}_test"].to_numpy() for name in TEST_SETS}
    plain, scaled = metrics.to_probability(logits), metrics.to_probability(logits, temperature)
    table = table.assign(found=plain.argmax(1), confidence=plain.max(1))
    last = tested[DEDUPLICATED]
    reliability = {
        "as trained": metrics.calibrate(plain[last], label[last]),
        f"temperature {temperature:.2f}": metrics.calibrate(scaled[last], label[last]),
    }
    pairs = {name: metrics.count_pairs(plain[chosen], label[chosen]) for name, chosen in tested.items()}
    right, wrong = _looks(table, explanations, images)
    drawn = {
        "1_curves": figures.draw_curves(training_log, network.description["kept"]["epoch"], f"{title}: training"),
        "2_confusion": figures.draw_confusion(pairs, about["classes"], f"{title}: test images"),
        "3_reliability": figures.draw_reliability(reliability, f"{title}: deduplicated test set"),
        "5_looks": figures.draw_saliency_by_region(right, f"{title}: saliency of images classified correctly"),
        "6_regions": figures.draw_regions(
            mean_shares(looks), REGIONS, f"{title}: saliency by region, and that of a uniform map"
        ),
    }
    kernels = first_kernels(network.module())
    if figures.show_structure(kernels, about["image_size"]):
        drawn["4_kernels"] = figures.draw_kernels(kernels, f"{title}: kernels of the first layer")
    if wrong:
        drawn["7_mistakes"] = figures.draw_saliency_by_region(wrong, f"{title}: most confident mistakes")
    return drawn


def _looks(
    table: pd.DataFrame, explanations: Store, images: Store
) -> tuple[list[figures.Looked], list[figures.Looked]]:
    """Some images of each class that are classified rightly, and the mistakes, most confident first."""
    classes = images.description["classes"]
    rows = explanations.rows.reset_index(names="number").merge(table.drop(columns="row"), on="file")
    hit = rows["label"] == rows["found"]
    chosen = (
        rows[hit].groupby("label").head(SHOWN).sort_values("label"),
        rows[~hit].sort_values("confidence", ascending=False).head(4 * SHOWN),
    )
    looks = []
    for part in chosen:
        (heat,), (image,) = (
            store.read(part[key].to_numpy(), name)
            for store, key, name in ((explanations, "number", "heat"), (images, "row", "image"))
        )
        words = [
            f"{classes[r.label]}, predicted {classes[r.found]} {r.confidence:.2f}\n{r.file.rsplit('/', 1)[-1]}"
            for r in part.itertuples()
        ]
        looks.append([figures.Looked(*look) for look in zip(words, image[:, 0], heat.astype(np.float32), strict=True)])
    return looks[0], looks[1]


def compare_networks(
    images: Store, splits: pd.DataFrame, **results: Any
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Figure]]:
    """All scores in one tidy table, McNemar's test of each pair of experiments, and a figure.

    Args:
        results: `<experiment>.scores` and `<experiment>.predictions` of each experiment.
    """
    comparison = pd.concat(
        [table.assign(network=name) for name, table in gather(results, "scores").items()], ignore_index=True
    )
    correct = {}
    for name, store in gather(results, "predictions").items():
        require_made_from(store, images)
        table, logits = _load_predictions(store, splits)
        chosen = table["deduplicated_test"].to_numpy()
        correct[name] = logits[chosen].argmax(1) == table.loc[chosen, "label"].to_numpy()
    differences = metrics.compare(correct).assign(test_set=DEDUPLICATED, images=len(next(iter(correct.values()))))
    title = (
        f"{images.description['data_set']}{', SIMULATED' if images.description['simulated'] else ''}: test "
        "images, 95 % intervals"
    )
    return comparison, differences, {"1_comparison": figures.draw_comparison(comparison, title)}


def write_report(
    comparison: pd.DataFrame,
    differences: pd.DataFrame,
    images: Store,
    splits: pd.DataFrame,
    duplicates: pd.DataFrame,
    task: dict[str, Any],
    engine: EngineSettings,
    **results: Any,
) -> str:
    """The report as one HTML page.

    Args:
        task: the task's block of the parameters: recipe, and each experiment.
        results: `<experiment>.looks` and `<experiment>.figures` of each experiment.
    """
    looks, drawn, settings = gather(results, "looks"), gather(results, "figures"), task | {"training": engine}
    return compose_report(comparison, differences, images.description, splits, duplicates, looks, drawn, settings)


def write_model_card(
    comparison: pd.DataFrame,
    images: Store,
    splits: pd.DataFrame,
    origin: Origin,
    engine: EngineSettings,
    **results: TrainedNetwork,
) -> str:
    """The model card of all networks of the task. `results`: `<experiment>.network` of each."""
    settings = {"training": engine.model_dump(exclude_none=True)}
    return compose_model_card(
        comparison, images.description, splits, origin, settings, list(gather(results, "network").values())
    )
