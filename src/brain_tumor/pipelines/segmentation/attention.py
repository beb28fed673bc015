"""Nodes that examine attention maps: what they show, and how much Dice falls without them (mean ablation)."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brain_tumor.data.common.parallel import track
from brain_tumor.data.common.sets import TEST
from brain_tumor.data.common.store import Store, StoreContent, require_made_from
from brain_tumor.data.scans.brain_crop import find_brain_crop
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics import segmentation as metrics
from brain_tumor.metrics.attention import score_map
from brain_tumor.networks.trained import TrainedNetwork, require_made_by
from brain_tumor.pipelines.experiments import Figures
from brain_tumor.pipelines.segmentation.evaluation import require_unseen
from brain_tumor.training.settings import EngineSettings

if TYPE_CHECKING:
    from torch import nn

    from brain_tumor.training.device import Device

SHOWN = 4
"""Test patients whose maps are drawn."""

INPUT = "input"
"""Prefix of a modality, scored like a map for comparison."""


def examine_attention(
    network: TrainedNetwork,
    slices: Store,
    splits: pd.DataFrame,
    engine: EngineSettings,
) -> tuple[pd.DataFrame, StoreContent]:
    """Scores of each attention map by patient, and the maps of the slice with most tumour of each test patient.

    Returns:
        Rows `patient`, `map`, `metric`, `value`: `auc_tumour`, `auc_brain` and `spread` of the map;
        `dice_without_<target>`: the patient's Dice after mean ablation of the map. The map `none` has the Dice without
        ablation; `input <modality>` has the AUC of the modality itself.
    """
    from brain_tumor.networks.attention import attention_modules
    from brain_tumor.training.device import choose_device

    require_unseen(network, slices, splits)
    # One member of an ensemble: attention maps of several can't be averaged.
    module = network.member(0)
    device = choose_device(engine)
    patients = splits.loc[splits["split"] == TEST, "patient"].sort_values()
    rows, examples = [], []
    known = patients[patients.isin(slices.rows["patient"])].tolist()
    for patient in track(known, f"examining the attention of {network.experiment}"):
        own = np.flatnonzero(slices.rows["patient"] == patient)
        scores, example = _score_maps(module, slices, own, device)
        scores |= _score_ablations(module, slices, own, device)
        rows += [(patient, *key, value) for key, value in scores.items()]
        examples.append({"patient": patient} | example)
    about = slices.description
    names = list(attention_modules(module))
    description = {"network": network.experiment, "names": names, "simulated": about["simulated"]}
    description |= {"made_from": about["fingerprint"], "weights": network.digest}
    table = pd.DataFrame(rows, columns=["patient", "map", "metric", "value"])
    return table, StoreContent(description, iter([_stack(examples)]))


def _score_maps(
    module: "nn.Module",
    slices: Store,
    own: np.ndarray,
    device: "Device",
) -> tuple[dict[tuple[str, str], float], dict[str, Any]]:
    """Scores of one patient's maps by (map, metric), and the maps of the slice with most tumour.

    Args:
        own: rows of the patient in the store.
    """
    from brain_tumor.training.segmentation.prediction import predict_attention

    image, labels = slices.read(own, "image", "labels")
    maps = predict_attention(module, slices, own, device)
    # Modalities are scored on the pixels that the network sees, as the maps are.
    window = find_brain_crop(slices)
    seen = window.uncrop(window.crop(image), image.shape[-1], np.nan)
    modalities = slices.description["modalities"]
    inputs = {f"{INPUT} {name}": seen[:, k] for k, name in enumerate(modalities)}
    tumour = labels > 0
    brain = np.any(image != 0, axis=1)
    scores = {}
    for name, attention in (maps | inputs).items():
        for metric, value in score_map(attention, tumour, brain).items():
            scores[name, metric] = value
    pixels = tumour.sum((1, 2))
    most = int(pixels.argmax())
    example = {
        "row": own[most],
        "slice": slices.rows["slice"][own[most]],
        "maps": np.stack([values[most] for values in maps.values()]),
    }
    return scores, example


def _score_ablations(
    module: "nn.Module",
    slices: Store,
    own: np.ndarray,
    device: "Device",
) -> dict[tuple[str, str], float]:
    """One patient's Dice of each target, by (map that is ablated or `none`, metric)."""
    from brain_tumor.networks.attention import ablate_attention, attention_modules

    unchanged = _dice(module, slices, own, device)
    dice = {("none", metric): value for metric, value in unchanged.items()}
    for name in attention_modules(module):
        with ablate_attention(module, name):
            ablated = _dice(module, slices, own, device)
        dice |= {(name, metric): value for metric, value in ablated.items()}
    return dice


def _dice(module: "nn.Module", slices: Store, own: np.ndarray, device: "Device") -> dict[str, float]:
    from brain_tumor.training.segmentation.prediction import predict_probabilities

    # Without test-time augmentation and postprocessing, which would hide small effects.
    batches = predict_probabilities(module, slices, own, device, tta_flip=False)
    predicted = metrics.to_labels(np.concatenate(list(batches)))
    (labels,) = slices.read(own, "labels")
    counts = metrics.count_slices(labels, predicted, slices.description["targets"])
    scores = metrics.score_patients(counts.assign(patient=""))
    dice = scores.query("metric == 'dice'")
    return {f"dice_without_{row.target}": row.value for row in dice.itertuples()}


def _stack(examples: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Columns of a store from its rows."""
    columns = {}
    for name in examples[0]:
        # h5py takes strings as objects only.
        kind = object if name == "patient" else None
        columns[name] = np.array([example[name] for example in examples], dtype=kind)
    return columns


def summarise_attention(attention_scores: pd.DataFrame, slices: Store, network: TrainedNetwork) -> pd.DataFrame:
    """Mean and 95 % interval over patients of each map and metric.

    `dice_loss_<target>` is the paired loss of Dice when the map is ablated.
    """
    wide = attention_scores.pivot(index=["patient", "map"], columns="metric", values="value")
    without = wide.filter(like="dice_without_")
    # Each patient's Dice with all maps, less that without one of them.
    loss = without.xs("none", level="map") - without
    loss = loss.rename(columns=lambda name: name.replace("without", "loss"))
    table = wide.drop(columns=without.columns).join(loss)
    table = table.drop("none", level="map")
    # Modalities have no ablation, so their Dice is missing.
    table = table.stack().dropna().rename("value").reset_index()
    table = table.rename(columns={"map": "target", "level_2": "metric"})
    summary = metrics.summarise_patients(table).drop(columns="protocol")
    summary = summary.rename(columns={"target": "map"})
    order = [name for name in attention_scores["map"].unique() if name != "none"]
    # In the order of the network, which grouping has sorted by name.
    summary = summary.sort_values("map", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)
    summary.insert(0, "network", network.experiment)
    return summary.assign(simulated=slices.description["simulated"])


def draw_attention(
    attention_summary: pd.DataFrame,
    attention_maps: Store,
    history: Store,
    slices: Store,
    network: TrainedNetwork,
) -> Figures:
    """Figures: maps over slices of SHOWN test patients, their scores, and the maps of one slice over the epochs."""
    from brain_tumor.figures.attention import draw_maps, draw_meaning

    for made in (attention_maps, history):
        require_made_from(made, slices)
    require_made_by(attention_maps, network)
    mark = ", SIMULATED" if slices.description["simulated"] else ""
    title = f"{name_network(network.experiment)}{mark}"
    shown = attention_maps.rows.head(SHOWN)
    (maps,) = attention_maps.read(np.arange(len(shown)), "maps")
    image, labels = slices.read(shown["row"].to_numpy(), "image", "labels")
    captions = [f"{patient}\nslice {number}" for patient, number in zip(shown["patient"], shown["slice"], strict=True)]
    # Matplotlib has no fp16, in which maps and slices are stored.
    first_modality = image[:, 0].astype(np.float32)
    maps = maps.astype(np.float32)
    names = attention_maps.description["names"]
    targets = list(slices.description["targets"])
    return {
        "1_maps": draw_maps(first_modality, labels, maps, captions, names, f"{title}: attention"),
        "2_meaning": draw_meaning(attention_summary, targets, f"{title}: what the maps mean"),
        "3_epochs": _animate(history, slices, f"{title}: "),
    }


def _animate(history: Store, slices: Store, title: str) -> Any:
    from brain_tumor.figures.attention import animate_history

    row = np.array([history.description["row"]])
    example, truth = slices.read(row, "image", "labels")
    epochs = np.arange(len(history.rows))
    (maps,) = history.read(epochs, "maps")
    first_modality = example[0, 0].astype(np.float32)
    names = history.description["names"]
    return animate_history(first_modality, truth[0], maps.astype(np.float32), names, title)
