"""Nodes of classification. torch takes seconds to import, so nodes import it when they run."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brain_tumor.data.common.provenance import Origin
from brain_tumor.data.common.sets import TEST, TRAIN, VALIDATION
from brain_tumor.data.common.store import Chunk, Store, StoreContent, fingerprint, require_made_from
from brain_tumor.data.images.class_folders import ImageSet
from brain_tumor.data.images.split import (
    DEDUPLICATED,
    OFFICIAL,
    PATIENT,
    ImageSplitSettings,
    Policy,
    count_folds,
    list_test_sets,
    sets_of_fold,
    split_images,
)
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics import classification as metrics
from brain_tumor.metrics.saliency import REGIONS, compare_with_tumour, mean_shares, share_regions
from brain_tumor.networks.trained import TrainedNetwork, require_made_by
from brain_tumor.pipelines.experiments import Figures, gather
from brain_tumor.reporting.classification.model_card import compose_model_card
from brain_tumor.reporting.classification.report import compose_report
from brain_tumor.reporting.classification.tables import EXPLAINED
from brain_tumor.training.checkpoints import Checkpoints, code_fingerprint
from brain_tumor.training.settings import ClassificationRecipe, EngineSettings, ExperimentSettings

if TYPE_CHECKING:
    from brain_tumor.training.fit import Fitted

logger = logging.getLogger(__name__)

SHOWN = 4
"""Correctly classified images of each class in a figure."""


def train_network(
    images: Store,
    splits: pd.DataFrame,
    checkpoints: Checkpoints,
    experiment: ExperimentSettings,
    recipe: ClassificationRecipe,
    engine: EngineSettings,
) -> tuple[TrainedNetwork, pd.DataFrame]:
    """Train a network, or one for each fold, and fit its temperature to the validation images.

    Training resumes from a checkpoint of the same settings and data.

    Returns:
        The trained network, with a member for each fold, and the training log.
    """
    about = images.description
    sizes = {"in_channels": 1, "out_channels": len(about["classes"]), "image_size": about["image_size"]}
    sizes |= experiment.sizes
    _require_match(sizes, about)
    _require_test(splits)
    plan = _Plan(images, experiment.network, sizes, experiment.adapt(recipe), engine, checkpoints)
    folds = range(count_folds(splits))
    members = [
        _train_fold(plan, sets_of_fold(splits, fold), splits, f"fold {fold + 1} of {len(folds)}") for fold in folds
    ]
    kept = [member.fitted.kept for member in members]
    description = about | {
        "experiment": checkpoints.experiment,
        "recipe": plan.recipe.model_dump(),
        "seed": engine.seed,
        "kept": kept[0] if len(folds) == 1 else kept,
        "images": np.mean([member.counts for member in members], axis=0).round().astype(int).tolist(),
        "persons": int(splits.loc[splits["split"] != "", "person"].nunique()),
        "images_trained_on": _digest_training_images(splits),
        "checkpoints": [member.mark for member in members],
    }
    network = TrainedNetwork(plan.network, sizes, description, tuple(member.fitted.weights for member in members))
    temperature = _fit_temperature(network, images, [member.validation for member in members], engine)
    return replace(network, description=description | {"temperature": temperature}), _join_logs(members)


@dataclass(frozen=True)
class _Plan:
    """What all folds of a training have in common."""

    images: Store
    network: str
    sizes: dict[str, Any]
    recipe: ClassificationRecipe
    engine: EngineSettings
    checkpoints: Checkpoints


@dataclass(frozen=True)
class _Member:
    """The network of one fold: rows that validate, training images of each class, fingerprint, weights and log."""

    validation: np.ndarray
    counts: list[int]
    mark: str
    fitted: "Fitted"


def _train_fold(plan: _Plan, sets: pd.Series, splits: pd.DataFrame, words: str) -> _Member:
    images = plan.images
    train = _rows(images, splits, sets == TRAIN)
    validation = _rows(images, splits, sets == VALIDATION)
    name = plan.checkpoints.experiment + (f", {words}" if count_folds(splits) > 1 else "")
    logger.info("%s: %d images to train on, %d to validate on", name, len(train), len(validation))
    mark = _fingerprint(plan, train, validation)
    counts = np.bincount(images.read(train, "label")[0], minlength=len(images.description["classes"])).tolist()
    return _Member(validation, counts, mark, _fit(plan, train, validation, counts, plan.checkpoints.of(mark)))


def _join_logs(members: list[_Member]) -> pd.DataFrame:
    """The log of the only training, or those of all folds, with the column `fold`."""
    if len(members) == 1:
        return members[0].fitted.log
    logs = [member.fitted.log.assign(fold=number) for number, member in enumerate(members)]
    return pd.concat(logs, ignore_index=True)


def _fingerprint(plan: _Plan, train: np.ndarray, validation: np.ndarray) -> str:
    """Fingerprint of all that decides the trained weights; a checkpoint of another one isn't resumed."""
    from brain_tumor.training.device import what_is_computed

    recipe, engine = plan.recipe.model_dump(), plan.engine
    settings = [plan.network, plan.sizes, recipe, engine.seed, what_is_computed(engine), code_fingerprint()]
    return fingerprint(settings, plan.images.description, train.tolist(), validation.tolist())


def _fit(
    plan: _Plan, train: np.ndarray, validation: np.ndarray, counts: list[int], checkpoints: Checkpoints
) -> "Fitted":
    import lightning

    from brain_tumor.networks import build
    from brain_tumor.training.batches import Rows
    from brain_tumor.training.classification.saliency import require_explainable
    from brain_tumor.training.classification.task import MONITOR, NAMES, ClassificationTask
    from brain_tumor.training.fit import Job, fit

    engine = plan.engine
    # Before `build`, whose random weights are part of what the seed decides.
    lightning.seed_everything(engine.seed, verbose=False)
    network = build(plan.network, **plan.sizes)
    task = ClassificationTask(network, plan.sizes["in_channels"], counts, plan.recipe, engine.seed)
    # Before hours of training, not after.
    require_explainable(task.network)
    train_rows = Rows(plan.images, train, NAMES)
    validation_rows = Rows(plan.images, validation, NAMES)
    return fit(Job(task, train_rows, validation_rows, MONITOR, plan.recipe, engine, checkpoints))


def _fit_temperature(
    network: TrainedNetwork, images: Store, validation: list[np.ndarray], engine: EngineSettings
) -> float:
    """The temperature that fits the validation images of all folds, each predicted by the network of its fold."""
    from brain_tumor.training.classification.prediction import predict_logits
    from brain_tumor.training.device import choose_device

    device = choose_device(engine)
    logits, labels = [], []
    for fold, rows in enumerate(validation):
        logits += list(predict_logits(network.of_fold(fold), images, rows, device))
        labels.append(images.read(rows, "label")[0])
    return metrics.fit_temperature(np.concatenate(logits), np.concatenate(labels).astype(int))


def _require_match(sizes: dict[str, Any], about: dict[str, Any]) -> None:
    required = (
        ("out_channels", len(about["classes"]), "classes"),
        ("image_size", about["image_size"], "pixels a side"),
    )
    for size, value, what in required:
        if sizes[size] != value:
            raise ValueError(f"the store has {value} {what}, but {size} is {sizes[size]}; leave {size} out of sizes")


def _require_test(splits: pd.DataFrame) -> None:
    if list_test_sets(splits) == (OFFICIAL,):
        raise ValueError(
            "a test image must be left of which no copy is learned from, got none of "
            f"{splits['official_test'].sum()}; "
            f"set `data_classification.split.policy` to {PATIENT} or {DEDUPLICATED}, or add test images"
        )


def _rows(images: Store, splits: pd.DataFrame, chosen: pd.Series) -> np.ndarray:
    """Row numbers in the store of the chosen files."""
    return np.flatnonzero(images.rows["file"].isin(splits.loc[chosen, "file"]))


def _digest_training_images(splits: pd.DataFrame) -> str:
    """Digest of the names of all training and validation images, of each fold."""
    folds = range(count_folds(splits))
    learning = [sets_of_fold(splits, fold).isin([TRAIN, VALIDATION]) for fold in folds]
    names = [sorted(splits.loc[chosen, "file"]) for chosen in learning]
    return fingerprint(names[0] if len(names) == 1 else names)


def require_unseen(network: TrainedNetwork, images: Store, splits: pd.DataFrame) -> None:
    """Refuse a network of an earlier preparation or earlier sets, which may have been trained on test images.

    Raises:
        ValueError: naming what differs.
    """
    about, name = network.description, network.experiment
    again = "train it again, such as with `kedro run --pipelines classification`"
    for entry in ("classes", "image_size", "fit"):
        was, now = about.get(entry), images.description[entry]
        if was != now:
            raise ValueError(f"{name} learned from images whose {entry} was {was}, but it is {now} now; {again}")
    if "images_trained_on" not in about:
        raise ValueError(
            f"the file of {name} doesn't say which images it learned from, so it can't be tested here; {again}"
        )
    if about["images_trained_on"] != _digest_training_images(splits):
        raise ValueError(
            f"{name} learned from other images than the sets name now, perhaps from copies of test images; {again}"
        )


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
    rows = [_rows(images, splits, sets_of_fold(splits, fold) == TEST) for fold in range(count_folds(splits))]
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


def _load_predictions(predictions: Store, splits: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
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
    columns = ["file", "class", "group", "person", "split", "fold"]
    columns += ["official_test", "deduplicated_test", "patient_test"]
    # A left join keeps the order of the predictions, which is that of the logits.
    table = rows.merge(splits[columns], "left", on="file", validate="one_to_one")
    return table.astype({"label": int})


def score_images(network: TrainedNetwork, predictions: Store, splits: pd.DataFrame) -> pd.DataFrame:
    """Scores of each test set.

    Rows `network`, `parameters`, `test_set`, `metric`, `value`, `low`, `high`, `images`, `persons`.

    Metrics that end in `_scaled` are computed with the temperature fitted to the validation images.
    """
    require_made_by(predictions, network)
    table, logits = _load_predictions(predictions, splits)
    scores = _score_test_sets(table, logits, network.description)
    scores = scores.assign(network=network.experiment, parameters=network.parameters)
    return scores[["network", "parameters", "test_set", "metric", "value", "low", "high", "images", "persons"]]


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
        scored = [label, person, about["classes"], about.get("healthy")]
        scores = metrics.score(metrics.to_probability(logits[chosen]), *scored)
        scaled = metrics.score(metrics.to_probability(logits[chosen], temperature), *scored)
        # A temperature doesn't change which class has the highest probability, so accuracy stays.
        scaled = scaled[scaled["metric"].isin(["confidence", "calibration_error"])]
        scaled = scaled.assign(metric=scaled["metric"] + "_scaled")
        fitted = pd.DataFrame({"metric": ["temperature"], "value": [temperature]})
        table_of_set = pd.concat([scores, scaled, fitted], ignore_index=True)
        counts = {"images": int(chosen.sum()), "persons": len(set(person))}
        parts.append(table_of_set.assign(test_set=test_set, **counts))
    return pd.concat(parts, ignore_index=True)


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
) -> pd.DataFrame:
    """Scores of the same network under other policies, to measure what their leaks are worth; each is trained anew.

    Rows of `score_images`, and `policy`.

    Args:
        policies: of ImageSplitSettings; none by default.
    """
    parts = []
    for policy in policies:
        splits = split_images(index, duplicates, data_set, split.model_copy(update={"policy": policy}))
        network, _ = train_network(images, splits, checkpoints, experiment, recipe, engine)
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
    table = _choose_rows(*_load_predictions(predictions, splits), first)
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
        regions = share_regions(own, image, uniform)
        rows.append(regions | compare_with_tumour(own, image, tumour, uniform))
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


def draw_results(
    network: TrainedNetwork,
    predictions: Store,
    explanations: Store,
    saliency: pd.DataFrame,
    images: Store,
    splits: pd.DataFrame,
    training_log: pd.DataFrame,
) -> Figures:
    """Figures: learning curves, confusion, reliability, first kernels, saliency maps, the most confident mistakes."""
    from brain_tumor.figures import classification as figures
    from brain_tumor.training.classification.saliency import first_kernels

    for made in (predictions, explanations):
        require_made_from(made, images)
        require_made_by(made, network)
    about = images.description
    title = f"{name_network(network.experiment)}{', SIMULATED' if about['simulated'] else ''}"
    table, logits = _load_predictions(predictions, splits)
    probability = metrics.to_probability(logits)
    table = table.assign(predicted=probability.argmax(1), confidence=probability.max(1))
    confusion = {}
    test_sets = list_test_sets(splits)
    for name in test_sets:
        chosen = table[f"{name}_test"].to_numpy()
        confusion[name] = metrics.confusion_matrix(probability[chosen], table.loc[chosen, "label"].to_numpy())
    reliability = _reliability(table, logits, network.description["temperature"], test_sets[0])
    right, wrong = _choose_shown(table, explanations, images)
    regions = f"{title}: saliency by region, and that of a uniform map"
    drawn = {
        "1_curves": figures.draw_curves(*_first_fold(training_log, network), f"{title}: training"),
        "2_confusion": figures.draw_confusion(confusion, about["classes"], f"{title}: test images"),
        "3_reliability": figures.draw_reliability(reliability, f"{title}: test set {test_sets[0]}"),
        "5_saliency": figures.draw_saliency(right, f"{title}: saliency of images classified correctly"),
        "6_regions": figures.draw_regions(mean_shares(saliency), REGIONS, regions),
    }
    kernels = first_kernels(network.member(0))
    if figures.show_structure(kernels, about["image_size"]):
        drawn["4_kernels"] = figures.draw_kernels(kernels, f"{title}: kernels of the first layer")
    if wrong:
        drawn["7_mistakes"] = figures.draw_saliency(wrong, f"{title}: most confident mistakes")
    return drawn


def _first_fold(log: pd.DataFrame, network: TrainedNetwork) -> tuple[pd.DataFrame, float]:
    """The log of the first fold, or of the only training, and the epoch whose weights were kept."""
    kept = network.description["kept"]
    first = kept[0] if isinstance(kept, list) else kept
    return (log[log["fold"] == 0] if "fold" in log else log), first["epoch"]


def _reliability(table: pd.DataFrame, logits: np.ndarray, temperature: float, test_set: str) -> dict[str, pd.DataFrame]:
    """Reliability diagrams of a test set, before and after temperature scaling."""
    chosen = table[f"{test_set}_test"].to_numpy()
    label = table.loc[chosen, "label"].to_numpy()
    return {
        "as trained": metrics.calibrate(metrics.to_probability(logits[chosen]), label),
        f"temperature {temperature:.2f}": metrics.calibrate(metrics.to_probability(logits[chosen], temperature), label),
    }


def _choose_shown(table: pd.DataFrame, explanations: Store, images: Store) -> tuple[list[Any], list[Any]]:
    """Saliency maps of SHOWN correctly classified images of each class, and of the most confident mistakes."""
    rows = explanations.rows.reset_index(names="number").merge(table.drop(columns="row"), on="file")
    hit = rows["label"] == rows["predicted"]
    right = rows[hit].groupby("label").head(SHOWN).sort_values("label")
    wrong = rows[~hit].sort_values("confidence", ascending=False).head(4 * SHOWN)
    return _read_shown(right, explanations, images), _read_shown(wrong, explanations, images)


def _read_shown(rows: pd.DataFrame, explanations: Store, images: Store) -> list[Any]:
    from brain_tumor.figures import classification as figures

    classes = images.description["classes"]
    (saliency,) = explanations.read(rows["number"].to_numpy(), "saliency")
    (image,) = images.read(rows["row"].to_numpy(), "image")
    shown = []
    for row, own, picture in zip(rows.itertuples(), saliency.astype(np.float32), image[:, 0], strict=True):
        name = row.file.rsplit("/", 1)[-1]
        caption = f"{classes[row.label]}, predicted {classes[row.predicted]} {row.confidence:.2f}\n{name}"
        shown.append(figures.SaliencyImage(caption, picture, own))
    return shown


def compare_networks(images: Store, splits: pd.DataFrame, **results: Any) -> tuple[pd.DataFrame, pd.DataFrame, Figures]:
    """Scores of all experiments, McNemar's test of each pair of experiments over persons, and a figure.

    Args:
        results: `<experiment>.scores` and `<experiment>.predictions` of each experiment.
    """
    from brain_tumor.figures import classification as figures

    scores = [table.assign(network=name) for name, table in gather(results, "scores").items()]
    comparison = pd.concat(scores, ignore_index=True)
    correct = {}
    test_set = list_test_sets(splits)[0]
    for name, store in gather(results, "predictions").items():
        require_made_from(store, images)
        table, logits = _load_predictions(store, splits)
        # In the order of the files, so that networks are compared on the same persons.
        rows = table[table[f"{test_set}_test"]].sort_values("file")
        probability = metrics.to_probability(logits[rows.index])
        correct[name], _ = metrics.vote(probability, rows["label"].to_numpy(), rows["person"].to_numpy())
    tested = len(next(iter(correct.values())))
    differences = metrics.compare(correct).assign(test_set=test_set, persons=tested)
    about = images.description
    mark = ", SIMULATED" if about["simulated"] else ""
    title = f"{about['data_set']}{mark}: test images, 95 % intervals"
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
        results: `<experiment>.saliency`, `<experiment>.policies` and `<experiment>.figures` of each experiment.
    """
    saliency = gather(results, "saliency")
    drawn = gather(results, "figures")
    policies = pd.concat(gather(results, "policies").values(), ignore_index=True)
    settings = task | {"training": engine}
    about = images.description
    return compose_report(comparison, differences, about, splits, duplicates, saliency, policies, drawn, settings)


def write_model_card(
    comparison: pd.DataFrame,
    images: Store,
    splits: pd.DataFrame,
    origin: Origin,
    engine: EngineSettings,
    **results: TrainedNetwork,
) -> str:
    """The model card of all networks of the task.

    Args:
        results: `<experiment>.network` of each experiment.
    """
    settings = {"training": engine.model_dump(exclude_none=True)}
    networks = list(gather(results, "network").values())
    return compose_model_card(comparison, images.description, splits, origin, settings, networks)
