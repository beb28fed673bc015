"""What the reports on new images and new scans say."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from brain_tumor.data.common.tables import with_text
from brain_tumor.data.scans.scan_warnings import BETWEEN
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics.segmentation import choose_headline, summarise_patients
from brain_tumor.networks.model_folders import ModelFolder
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.reporting.formatting import with_intervals, write_intervals
from brain_tumor.reporting.interactive_plot import Plot, draw_strip
from brain_tumor.reporting.page import Fold, Link, Picture, Section, Words, render_report
from brain_tumor.reporting.segmentation.tables import RULES, name_metric
from brain_tumor.reporting.settings_table import TRAINING, describe_settings

FILM = "2_slices_of_"
"""Before the patient, in the name of a film of their slices."""

WORDS = {
    "1_images": Words(
        (
            "The images with the lowest confidence, and the saliency map of the predicted class: HiResCAM of the last "
            "convolution, or attention rollout."
        ),
        (
            "pairs of images: the scan, and the scan with its saliency map in colour, with the predicted class, the "
            "confidence and the file"
        ),
    ),
    "1_scans": Words(
        (
            "The slice of each patient with the largest predicted tumour: two modalities, the prediction, and the "
            "reference mask where one lies beside the scan. R and L are the patient's right and left."
        ),
        (
            "a row of brain slices for each patient: two modalities in grey, then the first with the predicted "
            "tissues in colour, and with those of the reference mask"
        ),
    ),
}
FILMED = Words(
    "{patient}: slices from the lowest to the highest with a predicted tissue. Move the slider to go through them.",
    "brain slices: two modalities, then the predicted tissues in colour, and those of the reference mask",
)
MASKS = (
    "One NIfTI file for each patient, on the grid of the scan; the table of files has the paths of both, to be opened "
    "together in ITK-SNAP or 3D Slicer. Every scan gets a mask, also that of another disease.{prepared} Check the "
    "masks before you use a volume. Not for diagnosis or for any decision about a patient."
)
PREPARED = (
    " The network was trained on skull-stripped scans that were registered to one atlas, as those of BraTS are; "
    "prepare yours in the same way."
)
PREPARED_ELSEWHERE = " Give scans that are prepared as those that the network was trained on."
ELSEWHERE = (
    "{name}, in {path}, was trained by another project and predicts with {software}. Its input is {channels}, its "
    "output {classes}. The folder doesn't say how good it is, nor on whom it was trained. Masks are as that project "
    "would write them: components and amounts that this project removes stay."
)
UNKNOWN = "This says something only of patients whom {name} was not trained on; its folder names nobody."
KNOWN = (
    "This says something only of patients whom {name} was not trained on. Those whom its file names are named above; "
    "anybody who has another name here is not recognised."
)
SURE = (
    " Confidence is the Dice that the network's own probabilities lead to expect, of the whole tumour where there is "
    "such a target. Networks are too sure, so it doesn't say how good a mask is: it says which to check first, the "
    "lowest."
)
WARNINGS = (
    "Simple statistics of each volume, with thresholds chosen on scans of BraTS. A right scan may break one, and a "
    "wrong scan may pass: look at the scans too. A modality that is missing is 0 for the network."
)
VIEWERS = " Viewers, with every modality, all slices in three planes, and a picture in 3-D{which}:"
LIMITS = (
    "Any image gets one of the classes, that of a knee too. Confidence is that on images like the training images; on "
    "those of another hospital it is too high. The distance is that of the network's features "
    "from those of the training images (Mahalanobis distance to the nearest class, Lee et al. 2018), as a multiple of "
    "that within which 95 % of its validation images lie: above 1 an image is unlike them. Not for diagnosis or for "
    "any decision about a patient."
)

SHOWN = {"predicted": "predicted class", "distance": "distance from training images"}
SCANS = {"spacing_mm": "spacing, mm", "brain_slices": "slices with brain"}
"""Columns of tables > in the report."""

SHOWN_METRICS = ("dice", "hd95_mm", "surface_dice", "precision", "recall")

PROTOCOL = (
    "Protocol “volume” on the scans' own grid: voxels are counted over the whole scan of a patient; scores are means "
    f"over patients. {RULES}"
)


def compose_images_report(
    network: TrainedNetwork,
    classes: pd.DataFrame,
    figures: Mapping[str, bytes],
    settings: Mapping[str, Any],
    *,
    simulated: bool,
) -> str:
    """The page: how many images of each class, saliency maps, each image, and what is known of the network.

    Args:
        classes: rows `file`, `predicted`, `confidence`, `distance` from the training images, the probability of each
            class, `note`, `excluded` ("" for those in use).
        figures: name > PNG.
        settings: block > setting > value.
        simulated: whether the images are.
    """
    about = network.description
    classes = with_text(classes, "note", "excluded")
    used = classes[classes["excluded"] == ""]
    excluded = classes[classes["excluded"] != ""]
    # A column of notes without a note is left out, and so are distances that aren't known.
    empty = ["note"] if (used["note"] == "").all() else []
    # Tables of earlier versions have none.
    empty += ["distance"] if "distance" in used and used["distance"].isna().all() else []
    listed = used.drop(columns=["excluded", *empty])
    counts = _count_classes(used, about["classes"])
    left_out = [("Files that are no images, or damaged ones", excluded[["file", "excluded"]])]
    known = [("On test images", _scores(about))] if "scores" in about else []
    probabilities = [("Predicted class and probability of each, lowest confidence first", listed.rename(columns=SHOWN))]
    sections = [
        Section("Images", LIMITS, probabilities, plots=[_confidence(used)]),
        *([Section("Left out", "", left_out)] if len(excluded) else []),
        Section("The network", _known(network), known),
        describe_settings(settings, TRAINING),
    ]
    pictures = [
        Picture(png, WORDS[name], name_network(network.name), photo=True, wide=True) for name, png in figures.items()
    ]
    answer = _answer(network, counts, excluded) + _unlike(used)
    table = ("Images by predicted class", counts)
    return render_report("Classes of new images", answer, table, sections, simulated=simulated, pictures=pictures)


def _count_classes(used: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Images that each class was predicted for, and their median confidence."""
    counts = used.groupby("predicted").agg(images=("file", "size"), confidence=("confidence", "median"))
    # A class that no image has is 0, and has no confidence.
    counts = counts.reindex(classes).fillna({"images": 0}).astype({"images": int})
    return counts.rename(columns={"confidence": "median confidence"}).reset_index(names="predicted class")


def _answer(network: TrainedNetwork, counts: pd.DataFrame, excluded: pd.DataFrame) -> str:
    pairs = zip(counts["predicted class"], counts["images"], strict=True)
    predicted = ", ".join(f"{images:,} {kind}" for kind, images in pairs)
    return (
        f"{name_network(network.name)} classifies {counts['images'].sum():,} images: {predicted}. "
        f"{len(excluded):,} files are excluded.{_learned(network)}"
    )


def _unlike(used: pd.DataFrame) -> str:
    """How many images lie beyond the limit."""
    # Tables of earlier versions have no distance.
    count = int((used["distance"] > 1).sum()) if "distance" in used else 0
    return (
        f" {count:,} images are unlike those that the network was trained on: their classes mean little."
        if count
        else ""
    )


def _learned(network: TrainedNetwork | ModelFolder) -> str:
    """What has to be said at once of a network that was trained on phantoms."""
    return (
        " The network was trained on SIMULATED patients, phantoms: its predictions for people mean nothing."
        if network.simulated
        else ""
    )


def _confidence(used: pd.DataFrame) -> Plot:
    said = [f"{row.file}: {row.predicted} with confidence {row.confidence:.3f}" for row in used.itertuples()]
    dots = used.assign(
        column=used["predicted"], value=used["confidence"], series=used["predicted"], name=used["file"], says=said
    )
    caption = "Confidence of each image by predicted class. Point at a dot to see which image it is."
    # Columns come in the order of the rows: by class, not by the file that is first.
    by_class = dots.sort_values("predicted", kind="stable")
    return draw_strip(by_class, "confidence", caption)


def _known(network: TrainedNetwork) -> str:
    about = network.description
    text = (
        f"{name_network(network.name)}, {network.parameters:,} parameters, trained on {about['data_set']}, "
        f"{sum(about['images']):,} images."
    )
    if about.get("temperature", 1.0) != 1:
        text += f" Confidences are those at temperature {about['temperature']:.2f}, which fits its validation images."
    # A network that wasn't scored yet has none in its file.
    for row in about.get("scores", []):
        if row["metric"] == "calibration_error_scaled":
            error = f"{row['value']:.3f}"
            text += f" On its {row['test_set']} test images the expected calibration error is {error}."
    return text


def _scores(about: Mapping[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(about["scores"])
    columns = {"test_set": "test set", "metric": "metric", "words": "value (95 % interval)", "images": "images"}
    return table.assign(words=write_intervals(table))[list(columns)].rename(columns=columns)


def compose_scans_report(
    network: TrainedNetwork | ModelFolder,
    volumes: pd.DataFrame,
    scores: pd.DataFrame,
    figures: Mapping[str, bytes],
    settings: Mapping[str, Any],
    files: pd.DataFrame | None = None,
    viewers: Mapping[str, str] | None = None,
) -> str:
    """The page: predictions, the volumes of each patient, scores against reference masks, what is known of the network.

    Args:
        volumes: a row for each patient, `excluded` "" for those in use; with the `confidence` in its mask.
        scores: against reference masks: rows `patient`, `target`, `metric`, `value`.
        figures: name > PNG or GIF.
        settings: block > setting > value.
        files: rows `patient`, `scan`, `mask`, the paths of both.
        viewers: patient > address of the page that shows all slices.
    """
    texts = ("voxels", "spacing_mm", "labels", "note", "warnings", "expert_mask", "not_compared", "excluded")
    volumes = with_text(volumes, *texts)
    used = volumes[volumes["excluded"] == ""]
    excluded = volumes[volumes["excluded"] != ""]
    millilitres = [name for name in volumes if name.endswith("_ml")]
    columns = ["patient", *millilitres]
    # Tables of earlier versions have none.
    columns += [name for name in ("confidence",) if name in used]
    # A column of notes without a note is left out.
    if (used["note"] != "").any():
        columns.append("note")
    headings = {name: f"{name.removesuffix('_ml')}, ml" for name in millilitres}
    table = used[columns].rename(columns=headings)
    simulated = bool(volumes["simulated"].any())
    left_out = [("Patients that could not be segmented", excluded[["patient", "folder", "excluded"]])]
    # A mask that could not be compared with has its place there too.
    compared = (used[["expert_mask", "not_compared"]] != "").any(axis=None)
    doubtful = used[used["warnings"] != ""]
    sections = [
        *([_warn(doubtful)] if len(doubtful) else []),
        _show_masks(network, used, figures, files, viewers or {}),
        *([_compare(network, scores, used)] if compared else []),
        *([Section("Left out", "", left_out)] if len(excluded) else []),
        _describe(network),
        describe_settings(settings, TRAINING),
    ]
    name = name_network(network.name)
    marked = int((used[millilitres].sum(axis=1) > 0).sum())
    answer = f"{name} predicts a tumour in {marked:,} of {len(used):,} patients; {len(excluded):,} are excluded."
    answer += _least_sure(used)
    if len(doubtful):
        answer += f" {len(doubtful):,} of the scans look wrong or incomplete: read the warnings first."
    answer += _agree(scores)
    answer += _seen(network, used["patient"], simulated=simulated)
    answer += _learned(network)
    # Films of the patients stand further below.
    pictures = [Picture(png, WORDS[key], name, photo=True, wide=True) for key, png in figures.items() if key in WORDS]
    volume = ("Predicted volume of each tissue and region, in millilitres, and how sure the network is", table)
    return render_report("Masks of new scans", answer, volume, sections, simulated=simulated, pictures=pictures)


def _warn(doubtful: pd.DataFrame) -> Section:
    """A row for each warning."""
    table = doubtful[["patient", "warnings"]].rename(columns={"warnings": "warning"})
    rows = table.assign(warning=table["warning"].str.split(BETWEEN, regex=False)).explode("warning")
    return Section("Warnings", WARNINGS, [("What looks wrong or is missing, and what to do", rows)])


def _show_masks(
    network: TrainedNetwork | ModelFolder,
    used: pd.DataFrame,
    figures: Mapping[str, bytes],
    files: pd.DataFrame | None,
    viewers: Mapping[str, str],
) -> Section:
    """Links to the viewers, films of the patients, then the paths of scans and masks and what is known of the scans."""
    films = []
    for key, content in figures.items():
        if key.startswith(FILM):
            words = Words(FILMED.caption.format(patient=key.removeprefix(FILM)), FILMED.alt)
            films.append(Picture(content, words, name_network(network.name)))
    scans = used[["patient", "voxels", "spacing_mm", "brain_slices", "labels"]].rename(columns=SCANS)
    folds = [Fold("Grid and labels of each scan", tables=[("", scans)])]
    tables = [] if files is None else [("Files to open together", files)]
    masks = MASKS.format(prepared=PREPARED_ELSEWHERE if isinstance(network, ModelFolder) else PREPARED)
    text = masks + SURE if "confidence" in used else masks
    if viewers:
        few = f", of the first {len(viewers)} of {len(used)} patients (`viewer.patients`)"
        text += VIEWERS.format(which=few if len(viewers) < len(used) else "")
    links = [Link(patient, address) for patient, address in viewers.items()]
    return Section("Masks", text, tables, films, folds=folds, links=links)


def _describe(network: TrainedNetwork | ModelFolder) -> Section:
    """What is known of a network for masks."""
    if isinstance(network, ModelFolder):
        channels, classes = ", ".join(network.channels), ", ".join(network.classes)
        words = ELSEWHERE.format(
            name=network.name, path=network.path, software=network.software, channels=channels, classes=classes
        )
        return Section("The network", words)
    about = network.description
    members = f", an ensemble of {len(network.members)}" if len(network.members) > 1 else ""
    text = f"{name_network(network.name)}, {network.parameters:,} parameters{members}, trained on {about['data_set']}"
    # A network's file need not have all of these facts.
    for each in about.get("trained_on", []):
        text += f", {each['slices']:,} slices of {each['patients']:,} patients"
    text += f", at {about['slice_size']} x {about['slice_size']} pixels"
    if "pixel_mm" in about:
        row_mm, column_mm = about["pixel_mm"]
        text += f" of {row_mm:.3g} x {column_mm:.3g} mm"
    if "window" in about:
        height, width = about["window"]
        text += f", with a field of view of {height} x {width} that held every brain"
    text += "."
    if "scores" not in about:
        return Section("The network", text)
    scores = pd.DataFrame(about["scores"])
    index = [name for name in ("of", "patients", "metric") if name in scores]
    known = with_intervals(scores, "mean", index)
    caption = "On patients that it was not trained on, as its file says; of an ensemble, each patient by one network"
    if "metric" in known:
        known = known.assign(metric=known["metric"].map(name_metric))
    return Section("The network", text, [(caption, known)])


def _least_sure(used: pd.DataFrame) -> str:
    """The mask to check first."""
    # Of a single mask there is no order.
    if "confidence" not in used or used["confidence"].count() < 2:
        return ""
    least = used.loc[used["confidence"].idxmin()]
    return f" It is least sure of the mask of {least['patient']} (confidence {least['confidence']:.3f})."


def _agree(scores: pd.DataFrame) -> str:
    """How well predictions fit reference masks, in a sentence."""
    if scores.empty:
        return ""
    target = choose_headline(scores["target"])
    of_target = scores[scores["target"] == target]
    dice = of_target.loc[of_target["metric"] == "dice", "value"]
    return (
        f" Against reference masks of {len(dice):,} patient{'s' * (len(dice) > 1)} its mean Dice for {target} "
        f"is {dice.mean():.3f}."
    )


def _seen(network: TrainedNetwork | ModelFolder, patients: pd.Series, *, simulated: bool) -> str:
    """Which of the patients it was trained on, by the names in its file, if there are any."""
    # Phantoms bear the names of BraTS too.
    same_kind = simulated == network.simulated
    known = (network.patients if same_kind else None) or ()
    names = [name for name in patients.unique() if name in known]
    if not names:
        return ""
    return f" By their names it was trained on {', '.join(names)}: masks and scores are better than on new patients."


def _compare(network: TrainedNetwork | ModelFolder, scores: pd.DataFrame, used: pd.DataFrame) -> Section:
    """Scores against reference masks, and which masks could not be compared with."""
    tables = []
    if len(scores):
        means = summarise_patients(scores)
        chosen = means[means["metric"].isin(SHOWN_METRICS)]
        chosen = chosen.assign(metric=chosen["metric"].map(name_metric))
        tables.append(("Means over patients and 95 % intervals", with_intervals(chosen, "mean", ["metric"])))
        dice = scores[scores["metric"] == "dice"]
        wide = dice.pivot(index="patient", columns="target", values="value")
        # A pivot sorts its columns by name.
        wide = wide[dice["target"].unique()]
        tables.append(("Dice of each patient", wide.reset_index()))
    unusable = used[used["not_compared"] != ""]
    if len(unusable):
        tables.append(("Masks that could not be compared with", unusable[["patient", "not_compared"]]))
    words = UNKNOWN if isinstance(network, ModelFolder) else KNOWN
    text = words.format(name=name_network(network.name))
    return Section("Against reference masks", text, tables, folds=[Fold("How measured", PROTOCOL)])
