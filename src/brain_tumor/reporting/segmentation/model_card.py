"""What the model card of segmentation says."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from brain_tumor.data.common.provenance import Origin, find_origin
from brain_tumor.data.common.sets import TEST
from brain_tumor.data.scans.brain_crop import crop_shape
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics.surfaces import TOLERANCE
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.reporting.data_segmentation.tables import count_used
from brain_tumor.reporting.formatting import write_epochs, write_sizes
from brain_tumor.reporting.markdown import CARD, render_card, write_list, write_networks
from brain_tumor.reporting.page import Section
from brain_tumor.reporting.segmentation.tables import of_test, protocol, score_targets, write_answer
from brain_tumor.reporting.settings_table import TRAINING, describe_settings, merge_settings

USE = (
    "For research and teaching: to compare networks, to see what they learn, to measure tumours in scans "
    "of a study. Not for diagnosis, for planning a "
    "treatment or for any decision about a patient: nobody has tested it for that. Not for scans of other "
    "modalities or bodies, nor for scans that still show "
    "the skull."
)
USAGE = """\
`segmentation.<network>.network` in the catalog is a `.safetensors` file that describes itself:

    from pathlib import Path
    from brain_tumor.networks.trained import read_network

    network = read_network(Path("network.safetensors"))
    logits = network.module()(slices)     # its sigmoid is the probability of {tissues}

`slices` is float32 (n, {channels}, {height}, {width}): prepared slices of {side} x {side} pixels, cropped to the brain
(`brain_tumor.data.scans.brain_crop`): {modalities} in this order; {orientation}; {standardisation}."""


def compose_model_card(
    comparison: pd.DataFrame,
    index: pd.DataFrame,
    splits: pd.DataFrame,
    about: Mapping[str, Any],
    origin: Origin,
    settings: Mapping[str, Any],
    networks: Sequence[TrainedNetwork],
) -> str:
    """The card of all networks of a run.

    Args:
        about: the description of the prepared store.
        settings: of prediction and training, block > setting > value.
    """
    found = find_origin(about["data_set"], origin, simulated=about["simulated"], parameter="data_segmentation.origin")
    sections = [
        _model(networks, about),
        Section("Intended use", USE),
        _training_data(index, splits, networks, found),
        _figures(comparison, about, networks),
        Section(
            "Known limits",
            write_list([*_limits(comparison, about, settings["prediction"]["min_volume"]), *found.problems]),
        ),
        Section("How to use the weights", _usage(about, crop_shape(networks[0].description))),
        _settings(networks, settings),
        Section("Citations", write_list([*found.sources, CARD])),
    ]
    title = f"Model card: segmentation of {about['data_set']}"
    return render_card(title, write_answer(comparison, about), sections, simulated=about["simulated"])


def _model(networks: Sequence[TrainedNetwork], about: Mapping[str, Any]) -> Section:
    rows = [
        (
            name_network(network.experiment),
            network.parameters,
            len(network.members),
            write_sizes(network.sizes),
            write_epochs(network.description["kept"]),
        )
        for network in networks
    ]
    height, width = crop_shape(networks[0].description)
    text = (
        f"{len(networks)} networks that give the probability of each tissue "
        f"({', '.join(about['tissues'])}) in every pixel of a slice of "
        f"{', '.join(about['modalities'])}. Each sees one slice at a time: of its "
        f"{about['slice_size']} x {about['slice_size']} pixels the {height} x {width} that hold every brain.\n\n"
    )
    text += write_networks(networks)
    return Section(
        "What it is",
        text,
        [("Networks", pd.DataFrame(rows, columns=["network", "parameters", "members", "sizes", "epoch kept"]))],
    )


def _training_data(
    index: pd.DataFrame,
    splits: pd.DataFrame,
    networks: Sequence[TrainedNetwork],
    origin: Origin,
) -> Section:
    members = len(networks[0].members)
    text = f"{origin.text} Split by person: none is in two sets. `data_sheet.md` says more of the data."
    if members > 1:
        text += (
            f" Each network is {members} members (an ensemble); each member was validated on other "
            "patients of the training and validation sets."
        )
    return Section("Training data and split", text, [("Patients and slices in each set", count_used(index, splits))])


def _figures(
    comparison: pd.DataFrame,
    about: Mapping[str, Any],
    networks: Sequence[TrainedNetwork],
) -> Section:
    tables = [("Mean Dice over test patients and 95 % interval", score_targets(comparison))]
    surfaces = {
        "hd95_mm": "95th percentile of the distance between surfaces, mm",
        "surface_dice": f"Share of surfaces within {TOLERANCE:g} mm",
    }
    scores = of_test(comparison)
    # Slices at unequal distances make no volume, and have no surfaces.
    tables += [
        (f"{caption}, mean over test patients and 95 % interval", score_targets(comparison, metric))
        for metric, caption in surfaces.items()
        if scores.loc[scores["metric"] == metric, "mean"].notna().any()
    ]
    distances = scores[scores["metric"] == "hd95_mm"]
    medians = distances.pivot(index="network", columns="target", values="median")
    # Beside the mean, which the penalty of one empty mask can make.
    if medians.notna().any(axis=None):
        medians = medians.loc[scores["network"].unique(), scores["target"].unique()]
        medians = medians.rename(index=name_network)
        tables.append(("The same distance, median over test patients", medians.reset_index()))
    return Section(
        "Figures",
        f"{protocol(about, networks)} `comparison.csv` has every score, `patient_scores.csv` those of each patient.",
        tables,
    )


def _limits(
    comparison: pd.DataFrame,
    about: Mapping[str, Any],
    least: Mapping[str, Any],
) -> list[str]:
    patients = int(of_test(comparison)["patients"].max())
    limits = [
        (
            f"{patients} test patient{'s' if patients > 1 else ''} of one split, of the data set that was "
            "trained on: what is reached elsewhere is not known."
        ),
        (
            "Intervals span patients. That other training patients, another split or another seed would give "
            "other networks is not in them."
        ),
        (
            f"Scores are measured on {about['slice_size']} x {about['slice_size']} pixels, not on the grid of "
            "the scanner: what is finer is not scored."
        ),
        "Slices are seen one by one: nothing makes neighbouring slices agree.",
        "A slice is standardised over its own brain, so differences in brightness between whole scans are not seen.",
    ]
    if (comparison["set"] != TEST).any():
        limits.append(
            "In cross-validation a network that keeps its best epoch chose it with the patients that are "
            f"scored; the {TEST} set is free of that."
        )
    filtered = any(rule["ml"] for rule in least.values())
    # Other data had no part in the choice of the minimum volume.
    if about["data_set"] == "BraTS 2020" and not about["simulated"] and filtered:
        limits.append(
            "The minimum volume of a tissue was set on the reference masks of all 368 patients "
            "of BraTS 2020, test patients among them."
        )
    return limits


def _usage(about: Mapping[str, Any], window: tuple[int, int]) -> str:
    words = {name: ", ".join(about[name]) for name in ("modalities", "tissues")}
    return USAGE.format(
        channels=len(about["modalities"]),
        height=window[0],
        width=window[1],
        side=about["slice_size"],
        **words,
        **{key: about[key] for key in ("orientation", "standardisation")},
    )


def _settings(networks: Sequence[TrainedNetwork], settings: Mapping[str, Any]) -> Section:
    own = {
        network.experiment: {"recipe": network.description["recipe"], "seed": network.description["seed"], **settings}
        for network in networks
    }
    return describe_settings(merge_settings(own), TRAINING)
