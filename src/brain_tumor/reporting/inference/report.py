"""What the reports on new images and new scans say."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brain_tumor.data.common.tables import with_text
from brain_tumor.metrics.segmentation import choose_headline, summarise_patients
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.reporting.formatting import with_intervals, write_intervals
from brain_tumor.reporting.interactive_plot import Plot, draw_strip
from brain_tumor.reporting.page import Picture, Section, Words, render_report
from brain_tumor.reporting.segmentation.tables import RULES
from brain_tumor.reporting.settings_table import TRAINING, describe_settings

WORDS = {
    "1_images": Words(
        (
            "The images that the network is least sure of, and what in them speaks for the class found: "
            "HiResCAM of the last convolution, or attention rollout."
        ),
        (
            "pairs of images: the scan, and the scan with its heat in colour, with the class found, the "
            "confidence and the file"
        ),
    ),
    "1_scans": Words(
        (
            "The slice of each patient in which most tumour was found, what was found, and what an expert drew "
            "where a mask lies beside the scan."
        ),
        (
            "a row of brain slices for each patient: one for each modality, then the first with the tissues "
            "found in colour, and with those of the expert's mask"
        ),
    ),
}
MASKS = (
    "One NIfTI file for each patient, on the grid of his scan, in `data/07_model_output/inference/masks`. "
    "The network gives every scan a mask, one of another disease too. It learned from skull-stripped scans "
    "that were registered to one atlas at 1 mm, as those "
    "of BraTS are; prepare yours in the same way. Look at the masks before you use a volume. Not for "
    "diagnosis or for any decision about a patient."
)
LIMITS = (
    "Any image is given one of the classes, one of a knee too, and a confidence that was fitted to images "
    "like those the network learned from. "
    "Scans from another hospital are not like them. Not for diagnosis or for any decision about a patient."
)

SHOWN_METRICS = ("dice", "hd95_mm", "surface_dice", "precision", "recall")

PROTOCOL = (
    "Protocol “volume” on the scans' own grid: counts summed over all voxels of a patient, then the mean over "
    f"patients. {RULES}"
)


def compose_images_report(
    network: TrainedNetwork,
    classes: pd.DataFrame,
    figures: Mapping[str, bytes],
    settings: Mapping[str, Any],
    *,
    simulated: bool,
) -> str:
    """The page: how many images of each class, then each image, where the network looks, and what is known of the network.

    Args:
        classes: rows `file`, `found`, `confidence`, the probability of each class, `note`, `excluded` ("" for those in
            use).
        figures: name > PNG.
        settings: block > setting > value.
        simulated: whether the images are.
    """
    about, classes = network.description, with_text(classes, "note", "excluded")
    used, excluded = classes[classes["excluded"] == ""], classes[classes["excluded"] != ""]
    listed = used.drop(columns="excluded" if (used["note"] != "").any() else ["excluded", "note"])
    counts = (
        used.groupby("found")
        .agg(images=("file", "size"), confidence=("confidence", "median"))
        .reindex(about["classes"])
    )
    counts = (
        counts.fillna({"images": 0})
        .astype({"images": int})
        .rename(columns={"confidence": "median confidence"})
        .reset_index(names="class found")
    )
    sections = [
        Section(
            "Images",
            LIMITS,
            [("Class found and probability of each, least sure first", listed)],
            plots=[_confidence(used)],
        ),
        Section("Where it looks", "", [], [Picture(png, WORDS[name], network.name) for name, png in figures.items()]),
        *(
            [Section("Left out", "", [("Files that are no images, or damaged ones", excluded[["file", "excluded"]])])]
            if len(excluded)
            else []
        ),
        Section("The network", _known(network), [("On test images", _scores(about))] if "scores" in about else []),
        describe_settings(settings, TRAINING),
    ]
    return render_report(
        "Classes of new images",
        _answer(network, counts, excluded),
        ("Images by class found", counts),
        sections,
        simulated=simulated,
    )


def _answer(network: TrainedNetwork, counts: pd.DataFrame, excluded: pd.DataFrame) -> str:
    found = ", ".join(
        f"{row.images:,} {row[0]}"
        for row in counts.rename(columns={"class found": "kind"})[["kind", "images"]].itertuples(index=False)
    )
    return (
        f"Of {counts['images'].sum():,} images {network.name} finds: {found}. {len(excluded):,} files are left "
        f"out.{_learned(network)}"
    )


def _learned(network: TrainedNetwork) -> str:
    """What has to be said at once of a network that has never seen people."""
    return (
        " The network learned from SIMULATED patients, phantoms: what it says of people means nothing."
        if network.description["simulated"]
        else ""
    )


def _confidence(used: pd.DataFrame) -> Plot:
    said = [f"{row.file}: {row.found} with confidence {row.confidence:.3f}" for row in used.itertuples()]
    dots = used.assign(
        column=used["found"], value=used["confidence"], series=used["found"], name=used["file"], says=said
    )
    caption = "Confidence of each image by the class found. Point at a dot to see which image it is."
    return draw_strip(dots.sort_values("found", kind="stable"), "confidence", caption)


def _known(network: TrainedNetwork) -> str:
    about = network.description
    text = (
        f"{network.name}, {network.parameters:,} parameters, trained on {about['data_set']}, "
        f"{sum(about['images']):,} images."
    )
    if "temperature" in about:
        text += f" Confidences are those at temperature {about['temperature']:.2f}, which fits its validation images."
    off = [row for row in about.get("scores", []) if row["metric"] == "calibration_error_scaled"]
    text += "".join(
        f" On its {row['test_set']} test images they are off by {row['value']:.3f} in the mean." for row in off
    )
    return text


def _scores(about: Mapping[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(about["scores"])
    columns = {"test_set": "test set", "metric": "metric", "words": "value (95 % interval)", "images": "images"}
    return table.assign(words=write_intervals(table))[list(columns)].rename(columns=columns)


def compose_scans_report(
    network: TrainedNetwork,
    volumes: pd.DataFrame,
    scores: pd.DataFrame,
    figures: Mapping[str, bytes],
    settings: Mapping[str, Any],
) -> str:
    """The page: the volumes of each patient, what was found, how well that fits experts' masks, and what is known of the network.

    Args:
        volumes: a row for each patient, `excluded` "" for those in use.
        scores: against experts' masks: rows `patient`, `target`, `metric`, `value`.
        figures: name > PNG.
        settings: block > setting > value.
    """
    volumes = with_text(volumes, "voxels", "spacing_mm", "labels", "note", "expert_mask", "not_compared", "excluded")
    used, excluded = volumes[volumes["excluded"] == ""], volumes[volumes["excluded"] != ""]
    millilitres = [name for name in volumes if name.endswith("_ml")]
    shown = ["patient", *millilitres, "voxels", "spacing_mm", "brain_slices", "labels"]
    table = used[[*shown, "note"] if (used["note"] != "").any() else shown]
    sections = [
        Section("Masks", MASKS, [], [Picture(png, WORDS[name], network.name) for name, png in figures.items()]),
        *([_compare(network, scores, used)] if (used[["expert_mask", "not_compared"]] != "").any(axis=None) else []),
        *(
            [
                Section(
                    "Left out",
                    "",
                    [("Patients that could not be segmented", excluded[["patient", "folder", "excluded"]])],
                )
            ]
            if len(excluded)
            else []
        ),
        _describe(network),
        describe_settings(settings, TRAINING),
    ]
    simulated = bool(volumes["simulated"].any())
    found = int((used[millilitres].sum(axis=1) > 0).sum())
    answer = f"{network.name} finds a tumour in {found:,} of {len(used):,} patients; {len(excluded):,} are left out."
    answer += f"{_agree(scores)}{_seen(network, scores, simulated=simulated)}{_learned(network)}"
    return render_report(
        "Masks of new scans", answer, ("Volume of what was found, in millilitres", table), sections, simulated=simulated
    )


def _describe(network: TrainedNetwork) -> Section:
    """What is known of a network for masks."""
    about = network.description
    members = f", {len(network.members)} networks that answer together" if len(network.members) > 1 else ""
    text = f"{network.name}, {network.parameters:,} parameters{members}, trained on {about['data_set']}"
    if "trained_on" in about:
        text += "".join(f", {each['slices']:,} slices of {each['patients']:,} patients" for each in about["trained_on"])
    text += f", at {about['slice_size']} x {about['slice_size']} pixels"
    text += (
        ", of which it saw the {} x {} that held every brain.".format(*about["window"]) if "window" in about else "."
    )
    if "scores" not in about:
        return Section("The network", text)
    scores = pd.DataFrame(about["scores"])
    known = with_intervals(scores, "mean", [name for name in ("of", "patients", "metric") if name in scores])
    return Section(
        "The network",
        text,
        [
            (
                (
                    "On patients that it did not learn from, as its file says; with several networks, each "
                    "patient by one of them"
                ),
                known,
            )
        ],
    )


def _agree(scores: pd.DataFrame) -> str:
    """How well what was found fits experts' masks, in a sentence."""
    if scores.empty:
        return ""
    target = choose_headline(scores["target"])
    dice = scores[(scores["metric"] == "dice") & (scores["target"] == target)]["value"]
    return (
        f" Against experts' masks of {len(dice):,} patient{'s' * (len(dice) > 1)} its mean Dice for {target} "
        f"is {dice.mean():.3f}."
    )


def _seen(network: TrainedNetwork, scores: pd.DataFrame, *, simulated: bool) -> str:
    """Whom of those scored it learned from, by the names in its file, where that says so.

    Phantoms bear the names of BraTS too.
    """
    known = network.patients if simulated == network.description["simulated"] else None
    names = [name for name in scores["patient"].unique() if name in (known or ())]
    return f" By their names it learned from {', '.join(names)}: these scores flatter." if names else ""


def _compare(network: TrainedNetwork, scores: pd.DataFrame, used: pd.DataFrame) -> Section:
    """Scores against experts' masks, and which masks could not be compared with."""
    tables = []
    if len(scores):
        means = summarise_patients(scores)
        chosen = means[means["metric"].isin(SHOWN_METRICS)]
        tables.append(("Means over patients and 95 % intervals", with_intervals(chosen, "mean", ["metric"])))
        dice = scores[scores["metric"] == "dice"]
        tables.append(
            (
                "Dice of each patient",
                dice.pivot(index="patient", columns="target", values="value")[dice["target"].unique()].reset_index(),
            )
        )
    unusable = used[used["not_compared"] != ""]
    if len(unusable):
        tables.append(("Masks that could not be compared with", unusable[["patient", "not_compared"]]))
    return Section(
        "Against experts' masks",
        f"{PROTOCOL} This says something only of patients whom {network.name} did not learn from. Those "
        "whom its file names are named above; whoever bears "
        "another name here is not recognised.",
        tables,
    )
