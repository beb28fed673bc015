"""What the model card of classification says."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from brain_tumor.data.common.provenance import Origin, find_origin
from brain_tumor.figures.palette import name_network
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.reporting.classification.tables import (
    CALIBRATION,
    count_sets,
    describe_protocol,
    list_test_sets,
    score_calibration,
    score_classes,
    score_sets,
    write_answer,
)
from brain_tumor.reporting.formatting import write_epochs, write_sizes
from brain_tumor.reporting.markdown import CARD, render_card, write_list, write_networks
from brain_tumor.reporting.page import Section
from brain_tumor.reporting.settings_table import TRAINING, describe_settings, merge_settings

USE = (
    "For research and teaching: to compare networks, to see their saliency maps, to see what duplicates do to an "
    "accuracy. Not for diagnosis or for any decision "
    "about a patient: nobody has tested it for that, and a single slice is not what a diagnosis is made "
    "from. Any image is given one of the classes, one of a "
    "knee too."
)
USAGE = """\
`classification.<network>.network` in the catalog is a `.safetensors` file that describes itself:

    from pathlib import Path
    from brain_tumor.networks.trained import read_network
    from brain_tumor.training.classification.normalisation import to_input

    network = read_network(Path("network.safetensors"))
    logits = network.module()(to_input(images, {channels}))     # their softmax is the probability of {classes}

With `tta_flip` in the recipe, scores and temperature are of the mean with the mirror image, `images.flip(-1)`.
`images` is float32 (n, 1, {side}, {side}): without borders, in one size (`fit: {fit}`), {intensities}."""


def compose_model_card(
    comparison: pd.DataFrame,
    about: Mapping[str, Any],
    splits: pd.DataFrame,
    origin: Origin,
    settings: Mapping[str, Any],
    networks: Sequence[TrainedNetwork],
) -> str:
    """The card of all networks of a run.

    Args:
        about: the description of the prepared store.
        settings: of training, block > setting > value.
    """
    found = find_origin(about["data_set"], origin, simulated=about["simulated"], parameter="data_classification.origin")
    sections = [
        _model(networks, about),
        Section("Intended use", USE),
        Section(
            "Training data and split",
            f"{found.text} `data_sheet.md` says more of the data.",
            [("Images of each class in each set", count_sets(splits))],
        ),
        _figures(comparison, networks),
        Section("Known limits", write_list([*_limits(comparison), *found.problems])),
        Section("How to use the weights", _usage(about, networks[0])),
        _settings(networks, settings),
        Section("Citations", write_list([*found.sources, CARD])),
    ]
    title = f"Model card: classification of {about['data_set']}"
    return render_card(title, write_answer(comparison, about, splits), sections, simulated=about["simulated"])


def _model(networks: Sequence[TrainedNetwork], about: Mapping[str, Any]) -> Section:
    rows = [
        (
            name_network(network.experiment),
            network.parameters,
            write_sizes(network.sizes),
            write_epochs(network.description["kept"]),
        )
        for network in networks
    ]
    text = (
        f"{len(networks)} networks that give the probability of each class ({', '.join(about['classes'])}) "
        "of a single image of "
        f"{about['image_size']} x {about['image_size']} pixels.\n\n"
    )
    text += write_networks(networks)
    return Section(
        "What it is", text, [("Networks", pd.DataFrame(rows, columns=["network", "parameters", "sizes", "epoch kept"]))]
    )


def _figures(comparison: pd.DataFrame, networks: Sequence[TrainedNetwork]) -> Section:
    scores, test_sets = score_sets(comparison), list_test_sets(comparison)
    tables = [scores[test_set] for test_set in test_sets]
    tables += [
        (
            f"{name_network(name)}: precision and recall of each class on the {test_sets[0]} test set",
            score_classes(comparison, name, test_sets[0]),
        )
        for name in comparison["network"].unique()
    ]
    tables.append((CALIBRATION, score_calibration(comparison)))
    text = (
        "A class without test images has no recall, one that is never predicted no precision; one that is neither "
        "has no F1 and is excluded from macro-F1."
    )
    return Section(
        "Figures", f"{describe_protocol(comparison, networks)} {text} `comparison.csv` has every score.", tables
    )


def _limits(comparison: pd.DataFrame) -> list[str]:
    images = comparison.groupby("test_set")["images"].first()
    return [
        (
            f"{images[list_test_sets(comparison)[0]]:,} test images, all of the data set that was trained on: "
            "what the networks reach elsewhere is not known."
        ),
        "Intervals span patients. That other training images or another seed would give other networks is not in them.",
        "The networks always predict one of their classes, however unlike the training images a scan is.",
        (
            "The report shows how much of a network's saliency lies outside the head: such a network is right for "
            "a reason that is not the tumour."
        ),
    ]


def _usage(about: Mapping[str, Any], network: TrainedNetwork) -> str:
    sizes = {"channels": network.sizes["in_channels"], "side": about["image_size"]}
    return USAGE.format(
        classes=", ".join(about["classes"]), fit=about["fit"], intensities=about["intensities"], **sizes
    )


def _settings(networks: Sequence[TrainedNetwork], settings: Mapping[str, Any]) -> Section:
    own = {
        network.experiment: {"recipe": network.description["recipe"], "seed": network.description["seed"], **settings}
        for network in networks
    }
    return describe_settings(merge_settings(own), TRAINING)
