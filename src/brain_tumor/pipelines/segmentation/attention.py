"""Nodes of networks that attend: what their maps show, and whether they need them."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brain_tumor.data.common.parallel import track
from brain_tumor.data.common.sets import TEST
from brain_tumor.data.common.store import Store, StoreContent, require_made_from
from brain_tumor.data.scans.brain_crop import find_brain_crop
from brain_tumor.figures.attention import animate_history, draw_maps, draw_meaning
from brain_tumor.figures.palette import name_network
from brain_tumor.figures.segmentation_data import Animation
from brain_tumor.metrics import segmentation as metrics
from brain_tumor.metrics.attention import score_map
from brain_tumor.networks.trained import TrainedNetwork, require_made_by
from brain_tumor.pipelines.segmentation.evaluation import require_unseen
from brain_tumor.training.settings import EngineSettings

SHOWN = 4
"""Test patients whose maps are drawn."""

INPUT = "input"
"""Before the name of a modality: what maps are compared with."""


def examine_attention(
    network: TrainedNetwork, slices: Store, splits: pd.DataFrame, engine: EngineSettings
) -> tuple[pd.DataFrame, StoreContent]:
    """What each map means, by patient, and the maps of the fullest slice of each test patient.

    Rows `patient`, `map`, `metric`, `value`: `auc_tumour`, `auc_brain` and `spread` of the map;
    `dice_without_<target>`: the patient's Dice when the map is replaced by its mean in each slice. The map `none` has
    the Dice with all maps in place; `input <modality>` has the AUC of the modality itself.
    """
    from brain_tumor.networks.attention import ablate_attention, attention_modules
    from brain_tumor.training.device import choose_device
    from brain_tumor.training.segmentation.prediction import predict_attention, predict_probabilities

    require_unseen(network, slices, splits)
    device, module, about = choose_device(engine), network.member(0), slices.description
    table, names, rows, kept = slices.rows, list(attention_modules(module)), [], []
    patients, window = splits.loc[splits["split"] == TEST, "patient"].sort_values(), find_brain_crop(slices)
    known = patients[patients.isin(table["patient"])].tolist()
    for patient in track(known, f"examining the attention of {network.experiment}"):
        mine = np.flatnonzero(table["patient"] == patient)
        image, labels = slices.read(mine, "image", "labels")
        maps = predict_attention(module, slices, mine, device)
        fullest = int((labels > 0).sum((1, 2)).argmax())
        kept.append(
            {
                "row": mine[fullest],
                "patient": patient,
                "slice": table["slice"][mine[fullest]],
                "maps": np.stack([m[fullest] for m in maps.values()]),
            }
        )
        seen = window.uncrop(window.crop(image), image.shape[-1], np.nan)
        shown = maps | {f"{INPUT} {modality}": seen[:, k] for k, modality in enumerate(about["modalities"])}
        for name, attention in shown.items():
            rows += [
                (patient, name, metric, value)
                for metric, value in score_map(attention, labels > 0, np.any(image != 0, axis=1)).items()
            ]

        def dice(
            name: str, labels: np.ndarray = labels, mine: np.ndarray = mine, patient: str = patient
        ) -> list[tuple[str, str, str, float]]:
            found = np.concatenate(list(predict_probabilities(module, slices, mine, device, tta_flip=False)))
            counts = metrics.count_slices(labels, metrics.to_labels(found), about["targets"]).assign(patient=patient)
            scores = metrics.score_patients(counts).query("metric == 'dice'")
            return [(patient, name, f"dice_without_{row.target}", row.value) for row in scores.itertuples()]

        rows += dice("none")
        for name in names:
            with ablate_attention(module, name):
                rows += dice(name)
    scores = pd.DataFrame(rows, columns=["patient", "map", "metric", "value"])
    columns = {
        name: np.array([row[name] for row in kept], dtype=object if name == "patient" else None) for name in kept[0]
    }
    made = {"network": network.experiment, "names": names, "simulated": about["simulated"]}
    made |= {"made_from": about["fingerprint"], "weights": network.digest}
    return scores, StoreContent(made, iter([columns]))


def summarise_attention(attention_scores: pd.DataFrame, slices: Store, network: TrainedNetwork) -> pd.DataFrame:
    """A row for each map and metric: mean and 95 % interval over patients.

    `dice_loss_<target>` is how much Dice falls without the map, on the same patients.
    """
    wide = attention_scores.pivot(index=["patient", "map"], columns="metric", values="value")
    without = wide.filter(like="dice_without_")
    loss = (without.xs("none", level="map") - without).rename(columns=lambda name: name.replace("without", "loss"))
    table = (
        wide.drop(columns=without.columns)
        .join(loss)
        .drop("none", level="map")
        .stack()
        .dropna()
        .rename("value")
        .reset_index()
    )
    table = table.rename(columns={"map": "target", "level_2": "metric"})
    summary = metrics.summarise_patients(table).drop(columns="protocol").rename(columns={"target": "map"})
    order = [name for name in attention_scores["map"].unique() if name != "none"]
    summary = summary.sort_values("map", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)
    summary.insert(0, "network", network.experiment)
    return summary.assign(simulated=slices.description["simulated"])


def draw_attention(
    attention_summary: pd.DataFrame, attention_maps: Store, history: Store, slices: Store, network: TrainedNetwork
) -> dict[str, Figure | Animation]:
    """Maps over the scans of some test patients, what they mean, and how they came about over the epochs."""
    for made in (attention_maps, history):
        require_made_from(made, slices)
    require_made_by(attention_maps, network)
    about, table = slices.description, attention_maps.rows
    title = f"{name_network(network.experiment)}{', SIMULATED' if about['simulated'] else ''}"
    chosen = np.arange(min(SHOWN, len(table)))
    (maps,) = attention_maps.read(chosen, "maps")
    image, labels = slices.read(table["row"].to_numpy()[chosen], "image", "labels")
    names = [
        f"{patient}\nslice {number}"
        for patient, number in zip(table["patient"][chosen], table["slice"][chosen], strict=True)
    ]
    grown, seen = history.description, history.read(np.arange(len(history.rows)), "maps")[0]
    example, truth = slices.read(np.array([grown["row"]]), "image", "labels")
    return {
        "1_maps": draw_maps(
            image[:, 0].astype(np.float32),
            labels,
            maps.astype(np.float32),
            names,
            attention_maps.description["names"],
            f"{title}: attention",
        ),
        "2_meaning": draw_meaning(attention_summary, list(about["targets"]), f"{title}: what the maps mean"),
        "3_epochs": animate_history(
            example[0, 0].astype(np.float32), truth[0], seen.astype(np.float32), grown["names"], f"{title}: "
        ),
    }
