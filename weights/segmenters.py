"""Segmentation networks that ship: scores for the header of their files, and their card."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from brain_tumor.data.scans.data_set import WITHOUT
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics.segmentation import choose_headline, summarise_patients
from brain_tumor.metrics.stress import summarise_stress
from brain_tumor.networks import describe
from brain_tumor.networks.trained import TrainedNetwork, read_network
from brain_tumor.pipelines.segmentation.evaluation import CROSS_VALIDATION
from brain_tumor.reporting.formatting import with_intervals, write_sizes
from brain_tumor.reporting.inference.report import SHOWN_METRICS
from brain_tumor.reporting.markdown import render_card, write_list
from brain_tumor.reporting.page import Section
from brain_tumor.reporting.segmentation.model_card import USE
from brain_tumor.reporting.segmentation.tables import RULES

TASK = "segmentation"
MARK = "tissues"
"""An entry that headers of networks for masks have."""

WHOLE, SINGLE = "whole volumes", "single slices with tumour"
"""What is available of a patient."""
FEWEST_PATIENTS = 5
"""Of whom means are given."""
PROTOCOL = (
    f"Protocol “volume”: counts summed over all slices of a patient, then the mean over patients. {RULES} "
    "Scores are measured on the grid that slices are "
    "prepared on ({side} x {side} pixels). Each patient is predicted by the one network that was not trained on them."
)
USAGE = """\
    # segment new scans
    kedro segment PATH --network weights/{name}.safetensors
    # fine-tune on your own scans: prepare them, then train
    kedro run --to-outputs segmentation.slices,segmentation.splits --params segmentation_source=scans
    kedro run --namespaces=segmentation.{name} --params \
        segmentation.initial_weights=weights/{name}.safetensors,segmentation.{name}.sizes.n_filters={n_filters}

Training starts from the first network of the ensemble. Outside Kedro, `brain_tumor.networks.trained.read_network` reads
the file; `description` holds the preparation of slices, and `module()` returns the logits of the ensemble."""
DATA = (
    "data_segmentation.preparation.slice_size=128,data_segmentation.split.validation=0.01,"
    "data_segmentation.split.test=0.01,data_segmentation.split.folds=3,data_segmentation.split.seed=3"
)
SETTINGS = (
    "segmentation.folds=3,segmentation.{name}.sizes.n_filters={n_filters},segmentation.{name}.learning_rate={learning_rate:g},"
    "segmentation.recipe.batch_size=16,segmentation.{name}.epochs={epochs},segmentation.recipe.checkpoint=last,"
    "segmentation.recipe.empty_slice_rate=0.25"
)
MADE = f"""\
Trained from random weights, {{epochs}} epochs a fold. FOLDER holds HDF5 slices and NIfTI volumes of different patients,
side by side.

    kedro run --env full --to-outputs segmentation.slices,segmentation.splits \\
        --params segmentation_source=FOLDER,{DATA}
    kedro run --namespaces=segmentation.{{name}} --env full --params {SETTINGS}

    kedro run --pipelines stress_test --nodes=stress_test.{{name}}.stress_network --env full \\
        --params segmentation.folds=3,stress_test.corruptions=[]

Then `python weights/collect.py segmentation {{name}}`."""
MISSING = "Mean Dice of the same whole volumes where a modality is 0 everywhere"
SOURCES = yaml.safe_load((Path(__file__).parents[1] / "conf/base/parameters_data_segmentation.yml").read_text())[
    "data_segmentation"
]["origin"]["sources"]


def measure(data: Path, name: str) -> dict[str, Any]:
    """Cross-validated scores of a network: each patient is predicted by the member that was not trained on them.

    Returns:
        `scores`: means over patients, of whole volumes, of those by grade, and of single slices; `dice`: that of each
        whole volume; `whole_volumes`: patients that have one, scored or not; `missing_modalities`: mean Dice of whole
        volumes without a modality, and its change, where the stress test has been run too.
    """
    weights, table = (
        data / f"06_models/segmentation/{name}/network.safetensors",
        data / f"08_reporting/segmentation/{name}/patient_scores.csv",
    )
    if table.stat().st_mtime < weights.stat().st_mtime:
        raise ValueError(f"{table} is older than {weights}; run the experiment again, to its end")
    network, scores = read_network(weights), pd.read_csv(table, dtype={"patient": str})
    scores = scores[(scores["set"] == CROSS_VALIDATION) & scores["metric"].isin(SHOWN_METRICS)]
    if len(network.members) == 1 or set(scores["patient"]) != set(_patients(network.description)):
        raise ValueError(
            f"patient_scores.csv of {name} isn't cross-validated: it has other patients than the folds; "
            "train with segmentation.folds=3"
        )
    whole = set(scores.loc[(scores["metric"] == "hd95_mm") & scores["value"].notna(), "patient"])
    # The initial weights were trained on them: no network of the ensemble is new to them.
    leaked = (network.description["initialised_from"] or {}).get("scored") or []
    scores = scores[~scores["patient"].isin(leaked)]
    volumes, slices = (scores[scores["patient"].isin(whole) == kind] for kind in (True, False))
    facts = pd.read_csv(data / "02_intermediate/segmentation/patients.csv", dtype={"patient": str})
    grades = volumes["patient"].map(facts.set_index("patient")["grade"])
    parts = {WHOLE: volumes, **{f"{WHOLE}, {grade}": part for grade, part in volumes.groupby(grades)}, SINGLE: slices}
    means = [
        summarise_patients(part.dropna(subset="value")).assign(of=of)
        for of, part in parts.items()
        # An interval needs a few.
        if part["patient"].nunique() >= FEWEST_PATIENTS
    ]
    patients = volumes[volumes["metric"] == "dice"].pivot(index="patient", columns="target", values="value")
    return {
        "scores": pd.concat(means)[["of", "target", "metric", "mean", "low", "high", "patients"]].to_dict("records"),
        "dice": patients[scores["target"].unique()].to_dict("index"),
        "whole_volumes": len(whole),
        "missing_modalities": _measure_missing(data / f"08_reporting/stress_test/{name}.csv", weights, whole),
    }


def _measure_missing(table: Path, weights: Path, whole: Collection[str]) -> list[dict[str, Any]]:
    """Rows `modality`, `target`, `dice`, `change`."""
    if not table.is_file():
        return []
    if table.stat().st_mtime < weights.stat().st_mtime:
        raise ValueError(f"{table} is older than {weights}; run the stress test again")
    scores = pd.read_csv(table, dtype={"patient": str})
    stress = summarise_stress({"": scores[scores["patient"].isin(whole)]})
    missing = stress[stress["corruption"].str.startswith(WITHOUT)]
    modality = missing["corruption"].str.removeprefix(WITHOUT)
    return missing.assign(modality=modality)[["modality", "target", "dice", "change"]].to_dict("records")


def write_cards(networks: Sequence[TrainedNetwork]) -> dict[str, str]:
    """Name and text of the model card of each network."""
    return {f"{network.name}.md": _write_card(network) for network in networks}


def _write_card(network: TrainedNetwork) -> str:
    about, name, members = network.description, network.name, len(network.members)
    scores = pd.DataFrame(about["scores"]).sort_values("of", key=lambda of: of != WHOLE, kind="stable")
    tables = [
        (
            f"Means over {part['patients'].max()} patients and 95 % intervals, {kind}",
            with_intervals(part, "mean", ["metric"]),
        )
        for kind, part in scores.groupby("of", sort=False)
    ]
    dice = pd.DataFrame.from_dict(about["dice"], orient="index").rename_axis("patient").reset_index()
    tables.append(("Dice of each patient of whom there is a whole volume", dice[["patient", *about["targets"]]]))
    missing = pd.DataFrame(about["missing_modalities"])
    if len(missing):
        wide = missing.pivot(index="modality", columns="target", values="dice")[list(about["targets"])]
        tables.append((MISSING, wide.loc[missing["modality"].unique()].reset_index()))
    headline = choose_headline(about["targets"])
    best = scores[(scores["target"] == headline) & (scores["metric"] == "dice") & scores["of"].isin((WHOLE, SINGLE))]
    reached = " and ".join(f"{row.mean:.3f} in {row.of} of {row.patients} patients" for row in best.itertuples())
    summary = (
        f"An ensemble of {members} networks ({name_network(name)}) trained on {len(_patients(about))} real "
        "patients, each on those of all folds but one. Mean Dice in cross-validation by patient: "
        f"{headline} {reached}. Meant for research and as initial weights."
    )
    sections = [
        Section(
            "File",
            "Its header holds sizes, modalities, preparation, recipe and scores.",
            [("Networks", _file(network))],
        ),
        Section("Intended use", f"{USE} Fine-tune on your own scans where you can."),
        Section("Figures", PROTOCOL.format(side=about["slice_size"]), tables),
        Section("Known limits", write_list(_limits(network, scores))),
        Section("How to use it", USAGE.format(name=name, n_filters=network.sizes["n_filters"])),
        Section(
            "How it was made",
            MADE.format(name=name, n_filters=network.sizes["n_filters"], **_made_with(about["recipe"])),
        ),
        Section("Citations", write_list(SOURCES)),
    ]
    return render_card(
        f"Weights: {name_network(name)}, segmentation of {about['data_set']}",
        summary,
        sections,
        simulated=about["simulated"],
    )


def _made_with(recipe: dict[str, Any]) -> dict[str, Any]:
    return {name: recipe[name] for name in ("epochs", "learning_rate")}


def _file(network: TrainedNetwork) -> pd.DataFrame:
    facts = {
        "file": f"{network.name}.safetensors",
        "network": describe(network.name),
        "networks": len(network.members),
        "parameters of each": network.parameters,
        "sizes": write_sizes(network.sizes),
        "training patients of each": ", ".join(str(each["patients"]) for each in network.description["trained_on"]),
        "slices": ", ".join(str(each["slices"]) for each in network.description["trained_on"]),
        "seed": network.description["seed"],
    }
    return pd.DataFrame([facts])


def _patients(about: dict[str, Any]) -> list[str]:
    """Patients that any network of the ensemble was trained on."""
    return [patient for patients in about["validation_patients"] for patient in patients]


def _limits(network: TrainedNetwork, scores: pd.DataFrame) -> list[str]:
    about, patients = network.description, scores.groupby("of")["patients"].max()
    return [
        (
            f"{len(_patients(about))} patients, {about['whole_volumes']} of them with a whole volume, the others with "
            "a slice or two: BraTS 2020 has 369 whole volumes. `--env full` trains on all of them."
        ),
        (
            f"{patients.get(WHOLE, 0)} whole volumes are few, and most of the HGG are of one hospital. The intervals "
            "don't cover the difference between hospitals."
        ),
        (
            "The recipe was chosen on earlier patients with single slices, some of whom are scored here; of two "
            "networks with the same recipe, the one with the higher mean Dice here ships."
        ),
        (
            f"Scores are those of single networks. The ensemble of {len(network.members)} was trained on all patients, "
            "so no patient is left to test it on."
        ),
        (
            f"Slices are predicted one by one, at {about['slice_size']} x {about['slice_size']} pixels: neighbouring "
            "slices may disagree, and finer detail is lost."
        ),
    ]
