"""Nodes that train. torch is imported when they run: it takes seconds."""

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.common.sets import TEST, VALIDATION
from brain_tumor.data.common.store import Store, StoreContent, fingerprint
from brain_tumor.data.scans.brain_crop import find_brain_crop
from brain_tumor.networks.trained import TrainedNetwork, read_network
from brain_tumor.training.checkpoints import Checkpoints, code_fingerprint
from brain_tumor.training.settings import EngineSettings, ExperimentSettings, SegmentationRecipe

if TYPE_CHECKING:
    from torch import nn

    from brain_tumor.training.fit import Fitted

logger = logging.getLogger(__name__)

ATTENDING = ("attention_unet", "residual_attention_unet")
"""Experiments whose networks have attention maps, which are examined."""


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
    """The trained network, the log of its training, and what it saw in one slice after each epoch.

    With several folds one network for each; they answer together. Goes on from a checkpoint of the same settings and
    data.
    """
    from brain_tumor.training.device import what_is_computed

    if folds > 1 and engine.nodes > 1:
        raise ValueError(
            f"segmentation.folds is {folds} and training.nodes {engine.nodes}, but a fold is trained on "
            "one machine; set one of them to 1"
        )
    about, rows = slices.description, slices.rows
    sizes = {"in_channels": len(about["modalities"]), "out_channels": len(about["tissues"])} | experiment.sizes
    _require_match(sizes, about)
    initial = _read_initial(initial_weights, experiment.network, sizes)
    start = hashlib.blake2b(Path(initial_weights).read_bytes()).hexdigest() if initial and initial_weights else None
    recipe = experiment.adapt(recipe)
    window = find_brain_crop(slices)
    name = checkpoints.experiment
    logger.info(
        "%s sees %d x %d of the %d x %d pixels of a slice, which hold every brain",
        name,
        *window.shape,
        *[about["slice_size"]] * 2,
    )
    settings = [
        experiment.network,
        sizes,
        recipe.model_dump(),
        engine.seed,
        what_is_computed(engine),
        start,
        window,
        code_fingerprint(),
    ]
    fitted, marks, learned, held_out = [], [], [], _validation_patients(splits, folds)
    for number, patients in enumerate(held_out):
        train = np.flatnonzero(
            rows["patient"].isin(splits.loc[splits["split"] != TEST, "patient"]) & ~rows["patient"].isin(patients)
        )
        validation = np.flatnonzero(rows["patient"].isin(patients))
        _require_tumour(rows, train, validation)
        words = f", fold {number + 1} of {folds}" if folds > 1 else ""
        logger.info("%s%s: %d slices to train on, %d to validate on", name, words, len(train), len(validation))
        learned.append({"patients": rows["patient"].iloc[train].nunique(), "slices": len(train)})
        marks.append(fingerprint(settings, about, train.tolist(), validation.tolist()))
        fitted.append(
            _fit(
                slices, train, validation, experiment.network, sizes, initial, recipe, engine, checkpoints.of(marks[-1])
            )
        )
    description = about | {
        "experiment": name,
        "window": window.shape,
        "recipe": recipe.model_dump(),
        "seed": engine.seed,
        "kept": [f.kept for f in fitted],
    }
    description["checkpoints"] = marks
    before, known = _look_back(initial, about, splits, held_out)
    description |= {"trained_on": learned, "initialised_from": before, "validation_patients": held_out}
    description["patients"] = sorted({*splits.loc[splits["split"] != TEST, "patient"], *known})
    log = (
        pd.concat([f.log.assign(fold=k) for k, f in enumerate(fitted)], ignore_index=True)
        if folds > 1
        else fitted[0].log
    )
    network = TrainedNetwork(experiment.network, sizes, description, tuple(f.weights for f in fitted))
    example = _fullest(rows, np.flatnonzero(rows["patient"].isin(held_out[0])))
    return network, log, _history(fitted[0].snapshots, about, window, example, marks[0])


def _fit(
    slices: Store,
    train: np.ndarray,
    validation: np.ndarray,
    name: str,
    sizes: dict[str, Any],
    initial: TrainedNetwork | None,
    recipe: SegmentationRecipe,
    engine: EngineSettings,
    checkpoints: Checkpoints,
) -> "Fitted":
    import lightning

    from brain_tumor.networks import build
    from brain_tumor.training.batches import Rows
    from brain_tumor.training.fit import Job, fit
    from brain_tumor.training.segmentation.task import MONITOR, SegmentationTask, training_rows

    about = slices.description
    lightning.seed_everything(engine.seed, verbose=False)
    network = build(name, **sizes)
    _require_attention(network, name, checkpoints.folder.parents[1].name)
    if initial:
        network.load_state_dict(initial.members[0])
    watched = Rows(slices, validation)
    example = watched.read(np.array([_fullest(slices.rows, validation)]))["image"][0].float()
    task = SegmentationTask(network, about["targets"], len(about["tissues"]), recipe, engine.seed, example)
    return fit(Job(task, training_rows(slices, train, recipe), watched, MONITOR, recipe, engine, checkpoints))


def _require_attention(network: "nn.Module", name: str, experiment: str) -> None:
    from brain_tumor.networks.attention import attention_modules

    if experiment in ATTENDING and not attention_modules(network):
        raise ValueError(
            f"the attention of segmentation.{experiment} is examined, but {name} has none; set "
            f"segmentation.{experiment}.network to another"
        )


def _require_match(sizes: dict[str, Any], about: dict[str, Any]) -> None:
    for size, entry in (("in_channels", "modalities"), ("out_channels", "tissues")):
        if sizes[size] != len(about[entry]):
            raise ValueError(
                f"the store has {len(about[entry])} {entry} ({', '.join(about[entry])}), but {size} is "
                f"{sizes[size]}; leave {size} out of sizes"
            )


def _read_initial(path: str | None, name: str, sizes: dict[str, Any]) -> TrainedNetwork | None:
    """The network to start from; None without a path, or if it is another network's."""
    if not path:
        return None
    found = read_network(Path(path))
    if found.name != name:
        logger.warning("%s holds a %s; %s starts from random weights", path, found.name, name)
        return None
    if found.sizes != sizes:
        raise ValueError(
            f"the network in {path} has sizes {found.sizes}, but {name} is built with {sizes}; set `sizes` "
            "to those of the file"
        )
    return found


def _look_back(
    initial: TrainedNetwork | None, about: dict[str, Any], splits: pd.DataFrame, held_out: list[list[str]]
) -> tuple[dict[str, Any] | None, frozenset[str]]:
    """What is to be remembered of the weights to start from (`scored`: who of those to be scored they know, None if unknown), and whom they know."""
    if not initial:
        return None, frozenset()
    known = initial.patients if initial.description["simulated"] == about["simulated"] else frozenset()
    scored = {
        *splits.loc[splits["split"] == TEST, "patient"],
        *(patient for fold in held_out if len(held_out) > 1 for patient in fold),
    }
    met = None if known is None else sorted(known & scored)
    if met:
        logger.warning(
            "the weights to start from know %d of the %d patients to be scored (%s): scores will flatter",
            len(met),
            len(scored),
            ", ".join(met),
        )
    return {
        "data_set": initial.description["data_set"],
        "simulated": initial.description["simulated"],
        "scored": met,
    }, known or frozenset()


def _validation_patients(splits: pd.DataFrame, folds: int) -> list[list[str]]:
    """Patients that validate each member.

    Those of the split, or for cross-validation each fold of all that are not for testing.
    """
    if folds == 1:
        return [splits.loc[splits["split"] == VALIDATION, "patient"].tolist()]
    available = splits["fold"].nunique()
    if folds != available:
        raise ValueError(
            f"segmentation.folds is {folds}, but patients are divided into {available} folds; set "
            f"data_segmentation.split.folds to {folds} too"
        )
    learning = splits[splits["split"] != TEST]
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
        logger.warning(
            (
                "none of the %d validation slices shows tumour: the epoch that validates best is the one that "
                "finds nothing there"
            ),
            len(validation),
        )


def _fullest(rows: pd.DataFrame, chosen: np.ndarray) -> int:
    """The row with most tumour."""
    return int(chosen[rows["tumour_pixels"].to_numpy()[chosen].argmax()])


def _history(
    snapshots: list[dict[str, Any]], about: dict[str, Any], window: BoundingBox, row: int, mark: str
) -> StoreContent:
    """Probabilities and attention maps of one slice, a row for each epoch, all at the size of the slice.

    NaN outside the window.
    """
    from torch.nn.functional import interpolate

    def full(maps: Any) -> np.ndarray:
        return (
            interpolate(
                maps[None].float(), size=snapshots[0]["probability"].shape[-2:], mode="bilinear", align_corners=True
            )[0]
            .half()
            .numpy()
        )

    maps = np.stack([np.concatenate([full(value) for value in snapshot.values()]) for snapshot in snapshots])
    maps = window.uncrop(maps, about["slice_size"], np.nan)
    names = [*about["tissues"], *(name for name in snapshots[0] if name != "probability")]
    description = {
        "names": names,
        "row": row,
        "simulated": about["simulated"],
        "fingerprint": mark,
        "made_from": about["fingerprint"],
    }
    return StoreContent(description, iter([{"epoch": np.arange(1, len(maps) + 1), "maps": maps}]))
