"""Node that trains a classifier. torch takes seconds to import, so nodes import it when they run."""

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brain_tumor.data.common.sets import TEST, TRAIN, VALIDATION
from brain_tumor.data.common.store import Store, fingerprint
from brain_tumor.data.images.split import (
    DEDUPLICATED,
    OFFICIAL,
    PATIENT,
    count_folds,
    list_test_sets,
    sets_of_fold,
)
from brain_tumor.metrics import classification as metrics
from brain_tumor.networks.familiarity import Familiarity, fit_familiarity
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.training.checkpoints import Checkpoints, describe_training
from brain_tumor.training.classification.sampling import choose_rows
from brain_tumor.training.initial import describe_initial, digest_file, read_initial
from brain_tumor.training.settings import ClassificationRecipe, EngineSettings, ExperimentSettings

if TYPE_CHECKING:
    from brain_tumor.training.fit import Fitted
    from brain_tumor.training.start import Start

logger = logging.getLogger(__name__)

TASK = "classification"

FAMILIAR_IMAGES = 5000
"""Training images by which the spread of the features is found, about."""


def train_network(
    images: Store,
    splits: pd.DataFrame,
    checkpoints: Checkpoints,
    experiment: ExperimentSettings,
    recipe: ClassificationRecipe,
    engine: EngineSettings,
    initial_weights: str | None = None,
) -> tuple[TrainedNetwork, pd.DataFrame]:
    """Train a network, or one for each fold, and fit its temperature to the validation images.

    Training resumes from a checkpoint of the same settings and data.

    Args:
        initial_weights: a file of this project to start from: the same network, sizes and classes.

    Returns:
        The trained network, with a member for each fold, and the training log.
    """
    about = images.description
    start = _prepare_start(experiment, about)
    _require_match(start.sizes, about)
    _require_test(splits)
    initial = read_initial(initial_weights, experiment.network, start.sizes, about.get("preparation"), about["classes"])
    plan = _Plan(images, start, initial, digest_file(initial_weights), experiment.adapt(recipe), engine, checkpoints)
    folds = range(count_folds(splits))
    members = [_train_fold(plan, sets_of_fold(splits, fold), splits, f"{fold + 1} of {len(folds)}") for fold in folds]
    tested = splits["split"] == TEST
    before, known = describe_initial(initial, splits.loc[tested, "person"], simulated=about["simulated"])
    # With folds every tested image is trained on in others.
    learned = splits["split"] != "" if count_folds(splits) > 1 else splits["split"].isin([TRAIN, VALIDATION])
    description = about | {
        "experiment": checkpoints.experiment,
        "recipe": plan.recipe.model_dump(),
        "seed": engine.seed,
        "kept": [member.fitted.kept for member in members],
        "images": np.mean([member.counts for member in members], axis=0).round().astype(int).tolist(),
        "persons": int(splits.loc[splits["split"] != "", "person"].nunique()),
        "patients": sorted({*splits.loc[learned, "person"], *known}),
        "initialised_from": before,
        "images_trained_on": _digest_training_images(splits),
        "checkpoints": [member.mark for member in members],
        **members[0].about,
    }
    network = TrainedNetwork(
        experiment.network, start.sizes, description, tuple(member.fitted.weights for member in members)
    )
    temperature, familiarity = _fit_confidence(network, images, members, engine)
    done = replace(network, description=description | {"temperature": temperature}, familiarity=familiarity)
    return done, _join_logs(members)


@dataclass(frozen=True)
class _Plan:
    """What all folds of a training have in common.

    Attributes:
        initial: the network whose weights are started from, and the digest of its file.
    """

    images: Store
    start: "Start"
    initial: TrainedNetwork | None
    initial_digest: str
    recipe: ClassificationRecipe
    engine: EngineSettings
    checkpoints: Checkpoints


@dataclass(frozen=True)
class _Member:
    """The network of one fold.

    Rows that train and that validate, training images of each class, fingerprint, weights and log, and what its start
    adds to the description.
    """

    train: np.ndarray
    validation: np.ndarray
    counts: list[int]
    mark: str
    fitted: "Fitted"
    about: dict[str, Any]


def _train_fold(plan: _Plan, sets: pd.Series, splits: pd.DataFrame, fold: str) -> _Member:
    images = plan.images
    train = find_rows(images, splits, sets == TRAIN)
    validation = find_rows(images, splits, sets == VALIDATION)
    name = plan.checkpoints.experiment + (f", fold {fold}" if count_folds(splits) > 1 else "")
    logger.info("%s: %d images to train on, %d to validate on", name, len(train), len(validation))
    made_from = describe_training(TASK, plan.start.experiment.network, plan.start.sizes, plan.recipe, plan.engine)
    made_from |= plan.start.made_from()
    if plan.initial:
        made_from |= {"initial weights": plan.initial_digest}
    made_from |= {"data": fingerprint(images.description), "fold": fold}
    used = choose_rows(images, splits, train, plan.recipe.source_balance)
    if len(used) > len(train):
        logger.info("%d images an epoch, those of a scarce source more than once", len(used))
    rows = {"training images": used, "validation images": validation}
    made_from |= {what: fingerprint(chosen.tolist()) for what, chosen in rows.items()}
    own = plan.checkpoints.open(made_from)
    fitted, about = _fit(plan, used, validation, own)
    return _Member(train, validation, _count_classes(images, train), own.fingerprint, fitted, about)


def _count_classes(images: Store, rows: np.ndarray) -> list[int]:
    (label,) = images.read(rows, "label")
    return np.bincount(label, minlength=len(images.description["classes"])).tolist()


def _join_logs(members: list[_Member]) -> pd.DataFrame:
    """The log of the only training, or those of all folds, with the column `fold`."""
    if len(members) == 1:
        return members[0].fitted.log
    logs = [member.fitted.log.assign(fold=number) for number, member in enumerate(members)]
    return pd.concat(logs, ignore_index=True)


def _fit(
    plan: _Plan, train: np.ndarray, validation: np.ndarray, checkpoints: Checkpoints
) -> "tuple[Fitted, dict[str, Any]]":
    import lightning

    from brain_tumor.training.batches import Rows
    from brain_tumor.training.classification.saliency import require_explainable
    from brain_tumor.training.classification.task import MONITOR, NAMES, ClassificationTask
    from brain_tumor.training.fit import Job, fit

    engine = plan.engine
    # Before the network is built, whose random weights are part of what the seed decides.
    lightning.seed_everything(engine.seed, verbose=False)
    network, fine_tuning, about = plan.start.build()
    if plan.initial:
        network.load_state_dict(plan.initial.members[0])
    counts = _count_classes(plan.images, train)
    task = ClassificationTask(network, plan.start.sizes["in_channels"], counts, plan.recipe, engine.seed)
    task.fine_tuning = fine_tuning
    # Before hours of training, not after.
    require_explainable(task.network)
    train_rows = Rows(plan.images, train, NAMES)
    validation_rows = Rows(plan.images, validation, NAMES)
    return fit(Job(task, train_rows, validation_rows, MONITOR, plan.recipe, engine, checkpoints)), about


def _prepare_start(experiment: ExperimentSettings, about: dict[str, Any]) -> "Start":
    from brain_tumor.training.classification.normalisation import MEAN, STANDARD_DEVIATION
    from brain_tumor.training.start import prepare_start

    needed = {"in_channels": 1, "out_channels": len(about["classes"]), "image_size": about["image_size"]}
    return prepare_start(experiment, needed, maps=False, grey=(MEAN, STANDARD_DEVIATION))


def _fit_confidence(
    network: TrainedNetwork, images: Store, members: list[_Member], engine: EngineSettings
) -> tuple[float, tuple[Familiarity, ...]]:
    """The temperature, and what tells images apart that are unlike the training images of each member.

    Both by the validation images of all folds, each predicted by the network of its fold. No familiarity if the last
    layer gets no features.
    """
    from brain_tumor.training.classification.prediction import predict_all
    from brain_tumor.training.device import choose_device

    device = choose_device(engine)
    logits, labels, familiarity = [], [], []
    for fold, member in enumerate(members):
        own = network.of_fold(fold)
        predicted, validating = predict_all(own, images, member.validation, device)
        logits.append(predicted)
        labels.append(images.read(member.validation, "label")[0])
        # Enough to know their spread, of a large data set.
        chosen = member.train[:: max(1, len(member.train) // FAMILIAR_IMAGES)]
        if validating:
            _, (features,) = predict_all(own, images, chosen, device)
            familiarity.append(fit_familiarity(features, images.read(chosen, "label")[0], validating[0]))
    temperature = metrics.choose_temperature(np.concatenate(logits), np.concatenate(labels).astype(int))
    return temperature, tuple(familiarity)


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
            "a test image must be left without a duplicate among the training images, got none of "
            f"{splits['official_test'].sum()}; "
            f"set `data_classification.split.policy` to {PATIENT} or {DEDUPLICATED}, or add test images"
        )


def find_rows(images: Store, splits: pd.DataFrame, chosen: pd.Series) -> np.ndarray:
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
            raise ValueError(f"{name} was trained on images whose {entry} was {was}, but it is {now} now; {again}")
    network.require_preparation(images.description.get("preparation"))
    if "images_trained_on" not in about:
        raise ValueError(f"the file of {name} has no list of its training images, so it can't be tested here; {again}")
    if about["images_trained_on"] != _digest_training_images(splits):
        raise ValueError(
            f"{name} was trained on other images than the sets name now, perhaps on duplicates of test images; {again}"
        )
