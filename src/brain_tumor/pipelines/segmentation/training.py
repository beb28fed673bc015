"""Nodes that train segmentation networks. torch takes seconds to import, so nodes import it when they run."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.common.sets import TEST, VALIDATION
from brain_tumor.data.common.store import Store, StoreContent, fingerprint
from brain_tumor.data.scans.brain_crop import find_brain_crop
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.training.checkpoints import Checkpoints, describe_training
from brain_tumor.training.initial import describe_initial, digest_file, read_initial
from brain_tumor.training.settings import EngineSettings, ExperimentSettings, SegmentationRecipe

if TYPE_CHECKING:
    from brain_tumor.training.fit import Fitted
    from brain_tumor.training.start import Start

logger = logging.getLogger(__name__)

TASK = "segmentation"

WITH_ATTENTION = ("attention_unet", "residual_attention_unet")
"""Networks whose attention maps are examined."""


def train_network(
    slices: Store,
    splits: pd.DataFrame,
    checkpoints: Checkpoints,
    experiment: ExperimentSettings,
    recipe: SegmentationRecipe,
    engine: EngineSettings,
    folds: int,
    initial_weights: str | None,
) -> tuple[TrainedNetwork, pd.DataFrame, StoreContent]:
    """Train a network, or with several folds an ensemble of one network for each fold.

    Training resumes from a checkpoint of the same settings and data.

    Returns:
        The trained network, the training log, and the probabilities of one slice after each epoch.
    """
    _require_one_machine(folds, engine)
    about = slices.description
    start = _prepare_start(experiment, about)
    sizes = start.sizes
    _require_match(sizes, about)
    initial = read_initial(initial_weights, experiment.network, sizes, about.get("preparation"))
    recipe = experiment.adapt(recipe)
    window = find_brain_crop(slices)
    _log_window(checkpoints.experiment, window, about["slice_size"])
    initial_file = initial_weights if initial else None
    made_from = describe_training(TASK, experiment.network, sizes, recipe, engine)
    # The window too: another one shows the network other pixels.
    made_from |= {"window": str(window), "initial weights": digest_file(initial_file), "data": fingerprint(about)}
    made_from |= start.made_from()
    plan = _Plan(slices, start, initial, recipe, engine)

    held_out = _validation_patients(splits, folds)
    members = [_train_member(plan, splits, held_out, number, made_from, checkpoints) for number in range(len(held_out))]
    description = _describe(plan, members, splits, held_out, checkpoints.experiment, window)
    weights = tuple(member.fitted.weights for member in members)
    network = TrainedNetwork(experiment.network, sizes, description, weights)
    # The first fold stands for all: a history has one slice.
    first = members[0]
    example = _row_with_most_tumour(slices.rows, first.fold.validation)
    history = _history(first.fitted.snapshots, about, window, example, first.mark)
    return network, _join_logs(members), history


@dataclass(frozen=True)
class _Plan:
    """What all folds of a training have in common."""

    slices: Store
    start: "Start"
    initial: TrainedNetwork | None
    recipe: SegmentationRecipe
    engine: EngineSettings


@dataclass(frozen=True)
class _Fold:
    """Rows of the store to train and to validate on, and the number of training patients."""

    train: np.ndarray
    validation: np.ndarray
    patients: int


@dataclass(frozen=True)
class _Member:
    """One trained network of the ensemble, with the fingerprint of its settings and data.

    Attributes:
        about: what its start adds to the description.
    """

    fold: _Fold
    mark: str
    fitted: "Fitted"
    about: dict[str, Any]


def _require_one_machine(folds: int, engine: EngineSettings) -> None:
    if folds > 1 and engine.nodes > 1:
        raise ValueError(
            f"segmentation.folds is {folds} and training.nodes {engine.nodes}, but a fold is trained on "
            "one machine; set one of them to 1"
        )


def _train_member(
    plan: _Plan,
    splits: pd.DataFrame,
    held_out: list[list[str]],
    number: int,
    made_from: dict[str, str],
    checkpoints: Checkpoints,
) -> _Member:
    """One network, validated with the patients of one fold."""
    fold = _divide(plan.slices.rows, splits, held_out[number])
    words = f", fold {number + 1} of {len(held_out)}" if len(held_out) > 1 else ""
    name = f"{checkpoints.experiment}{words}"
    logger.info("%s: %d slices to train on, %d to validate on", name, len(fold.train), len(fold.validation))
    # Made of the rows, not the patients: a store prepared anew has other ones.
    rows = {"training slices": fold.train, "validation slices": fold.validation}
    made_from = made_from | {what: fingerprint(chosen.tolist()) for what, chosen in rows.items()}
    made_from |= {"fold": f"{number + 1} of {len(held_out)}"}
    own = checkpoints.open(made_from)
    fitted, about = _fit(plan, fold, own)
    return _Member(fold, own.fingerprint, fitted, about)


def _log_window(experiment: str, window: BoundingBox, slice_size: int) -> None:
    words = "%s sees %d x %d of the %d x %d pixels of a slice, which hold every brain"
    logger.info(words, experiment, *window.shape, slice_size, slice_size)


def _divide(rows: pd.DataFrame, splits: pd.DataFrame, validation_patients: list[str]) -> _Fold:
    """The rows of one fold: all patients that are neither for validation nor for testing are trained on."""
    held_out = rows["patient"].isin(validation_patients)
    not_for_testing = splits.loc[splits["split"] != TEST, "patient"]
    learning = rows["patient"].isin(not_for_testing)
    train = np.flatnonzero(learning & ~held_out)
    validation = np.flatnonzero(held_out)
    _require_tumour(rows, train, validation)
    return _Fold(train, validation, rows["patient"].iloc[train].nunique())


def _fit(plan: _Plan, fold: _Fold, checkpoints: Checkpoints) -> "tuple[Fitted, dict[str, Any]]":
    import lightning

    from brain_tumor.training.batches import Rows
    from brain_tumor.training.fit import Job, fit
    from brain_tumor.training.segmentation.task import MONITOR, SegmentationTask, training_rows

    slices, recipe, engine = plan.slices, plan.recipe, plan.engine
    about = slices.description
    # Before the network is built, whose random weights are part of what the seed decides.
    lightning.seed_everything(engine.seed, verbose=False)
    network, fine_tuning, added = plan.start.build(recipe.output_prior)
    if plan.initial:
        network.load_state_dict(plan.initial.members[0])
    validation = Rows(slices, fold.validation)
    row = _row_with_most_tumour(slices.rows, fold.validation)
    # One slice, the same in each epoch, shows how its maps change.
    batch = validation.read(np.array([row]))
    example = batch["image"][0].float()
    task = SegmentationTask(network, about["targets"], len(about["tissues"]), recipe, engine.seed, example)
    task.fine_tuning = fine_tuning
    train = training_rows(slices, fold.train, recipe)
    job = Job(task, train, validation, MONITOR, recipe, engine, checkpoints)
    return fit(job), added


def _prepare_start(experiment: ExperimentSettings, about: dict[str, Any]) -> "Start":
    from brain_tumor.training.start import prepare_start

    needed = {"in_channels": len(about["modalities"]), "out_channels": len(about["tissues"])}
    return prepare_start(experiment, needed | {"image_size": about["slice_size"]}, maps=True)


def _describe(
    plan: _Plan,
    members: list[_Member],
    splits: pd.DataFrame,
    held_out: list[list[str]],
    experiment: str,
    window: BoundingBox,
) -> dict[str, Any]:
    """The description in the network's file: data, recipe, and whom it was trained on."""
    about = plan.slices.description
    scored = set(splits.loc[splits["split"] == TEST, "patient"])
    # In a cross-validation the validation patients are scored too.
    if len(held_out) > 1:
        scored = scored.union(*held_out)
    initial, known = describe_initial(plan.initial, scored, simulated=about["simulated"])
    learning = splits.loc[splits["split"] != TEST, "patient"]
    counts = [{"patients": member.fold.patients, "slices": len(member.fold.train)} for member in members]
    return about | {
        "experiment": experiment,
        "window": window.shape,
        "pixel_mm": _find_pixel(plan.slices.rows),
        "recipe": plan.recipe.model_dump(),
        "seed": plan.engine.seed,
        "kept": [member.fitted.kept for member in members],
        "checkpoints": [member.mark for member in members],
        "trained_on": counts,
        "initialised_from": initial,
        "validation_patients": held_out,
        "patients": sorted({*learning, *known}),
        **members[0].about,
    }


def _find_pixel(rows: pd.DataFrame) -> list[float]:
    """Millimetres of a pixel of the prepared slices, (row, column); the median where patients differ."""
    median = rows[["row_mm", "column_mm"]].astype(float).median()
    return median.round(6).tolist()


def _join_logs(members: list[_Member]) -> pd.DataFrame:
    if len(members) == 1:
        return members[0].fitted.log
    logs = [member.fitted.log.assign(fold=number) for number, member in enumerate(members)]
    return pd.concat(logs, ignore_index=True)


def _require_match(sizes: dict[str, Any], about: dict[str, Any]) -> None:
    for size, entry in (("in_channels", "modalities"), ("out_channels", "tissues")):
        names = about[entry]
        if sizes[size] != len(names):
            raise ValueError(
                f"the store has {len(names)} {entry} ({', '.join(names)}), but {size} is "
                f"{sizes[size]}; leave {size} out of sizes"
            )


def _validation_patients(splits: pd.DataFrame, folds: int) -> list[list[str]]:
    """Validation patients of each member: those of the split, or in a cross-validation those of each fold."""
    if folds == 1:
        return [splits.loc[splits["split"] == VALIDATION, "patient"].tolist()]
    available = splits["fold"].nunique()
    if folds != available:
        raise ValueError(
            f"segmentation.folds is {folds}, but patients are divided into {available} folds; set "
            f"data_segmentation.split.folds to {folds} too"
        )
    learning = splits[splits["split"] != TEST]
    # A fold may have test patients only, where there are few patients.
    counts = learning["fold"].value_counts().reindex(range(folds), fill_value=0)
    if not counts.all():
        raise ValueError(
            f"fold {counts.idxmin()} of {folds} has no patient to validate with: {len(learning)} are not for testing; "
            "set segmentation.folds and data_segmentation.split.folds to fewer, or give more patients"
        )
    return [learning.loc[learning["fold"] == k, "patient"].tolist() for k in range(folds)]


def _require_tumour(rows: pd.DataFrame, train: np.ndarray, validation: np.ndarray) -> None:
    if not rows["tumour_pixels"].iloc[train].any():
        raise ValueError(
            f"none of the {len(train)} slices to train on shows tumour, so there is nothing to learn; give "
            "scans of more patients, with masks"
        )
    if not len(validation):
        raise ValueError(
            "no patient is left to validate with; set data_segmentation.split.validation higher, or give "
            "scans of more patients"
        )
    if not rows["tumour_pixels"].iloc[validation].any():
        words = (
            "none of the %d validation slices shows tumour: the epoch that validates best is the one that "
            "finds nothing there"
        )
        logger.warning(words, len(validation))


def _row_with_most_tumour(rows: pd.DataFrame, chosen: np.ndarray) -> int:
    pixels = rows["tumour_pixels"].to_numpy()[chosen]
    return int(chosen[pixels.argmax()])


def _history(
    snapshots: list[dict[str, Any]],
    about: dict[str, Any],
    window: BoundingBox,
    row: int,
    mark: str,
) -> StoreContent:
    """Probabilities and attention maps of one slice after each epoch, at the size of the slice; NaN outside the window.

    Args:
        row: of the slice in the store.
    """
    from torch.nn.functional import interpolate

    size = snapshots[0]["probability"].shape[-2:]

    def enlarge(maps: Any) -> np.ndarray:
        # Attention maps of deep levels are small; all are stored in one array.
        large = interpolate(maps[None].float(), size=size, mode="bilinear", align_corners=True)
        return large[0].half().numpy()

    def stack(snapshot: dict[str, Any]) -> np.ndarray:
        return np.concatenate([enlarge(value) for value in snapshot.values()])

    epochs = np.stack([stack(snapshot) for snapshot in snapshots])
    maps = window.uncrop(epochs, about["slice_size"], np.nan)
    attention_names = [name for name in snapshots[0] if name != "probability"]
    description = {
        "names": [*about["tissues"], *attention_names],
        "row": row,
        "simulated": about["simulated"],
        "fingerprint": mark,
        "made_from": about["fingerprint"],
    }
    numbers = np.arange(1, len(maps) + 1)
    return StoreContent(description, iter([{"epoch": numbers, "maps": maps}]))
