"""The networks for masks: what their files say of them, and their card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from brain_tumor.figures.card import render_card, write_list
from brain_tumor.figures.cells import with_intervals, write_sizes
from brain_tumor.figures.report import Section
from brain_tumor.metrics.segmentation import choose_headline, summarise_patients
from brain_tumor.networks import describe
from brain_tumor.networks.trained import TrainedNetwork, read_network
from brain_tumor.pipelines.inference.report import PROTOCOL, SHOWN_METRICS
from brain_tumor.pipelines.segmentation.card import USE

TASK = "segmentation"
USAGE = """\
    kedro run --pipelines inference_segmentation --params inference_source=PATH                     # new scans in, masks out
    kedro run --pipelines segmentation --to-outputs segmentation.slices,segmentation.splits --params segmentation_source=scans     # to go on with your own
    kedro run --namespaces=segmentation.classic_unet --params segmentation_source=scans,segmentation.initial_weights=weights/classic_unet.safetensors

Outside Kedro, `brain_tumor.networks.trained.read_network` reads a file; its `description` says how slices are prepared, and `module()` gives their logits."""
SETTINGS = (
    "data_segmentation.preparation.slice_size=128,data_segmentation.split.validation=0.01,data_segmentation.split.test=0.01,"
    "segmentation.classic_unet.sizes.n_filters=16,segmentation.recipe.batch_size=16,segmentation.recipe.epochs=60,segmentation.recipe.keep=last"
)
MADE = f"""\
First on the embedded sample (SIMULATED), then on real slices from the weights found there: one patient validates, one is for testing, the rest is learned from.

    kedro run --pipelines segmentation --params segmentation.recipe.epochs=15,segmentation.recipe.empty_slices=1
    cp data/06_models/segmentation/classic_unet/network.safetensors pretrained.safetensors
    kedro run --pipelines segmentation --env full --to-outputs segmentation.slices,segmentation.splits --params segmentation_source=FOLDER,{SETTINGS}
    kedro run --namespaces=segmentation.classic_unet --env full --params segmentation_source=FOLDER,segmentation.initial_weights=pretrained.safetensors,{SETTINGS}

Then `collect.py`, as it says. The file was made with the sample of seed 0, by a version whose networks saw whole slices: these commands now make another."""  # noqa: E501
SOURCES = yaml.safe_load((Path(__file__).parents[1] / "conf/base/parameters_data_segmentation.yml").read_text())["data_segmentation"]["origin"]["sources"]


def measure(data: Path, name: str) -> dict[str, Any]:
    """What a network reached against experts' masks when it last segmented new scans, in the mean and for each patient."""
    scores = pd.read_csv(data / "07_model_output/inference/scores.csv", dtype={"patient": str})
    digest = read_network(data / f"06_models/segmentation/{name}/network.safetensors").digest
    scores = scores[scores["weights"] == digest]
    if scores.empty:
        raise ValueError(f"these weights of {name} ({digest}) have no scores in {data}; segment scans that lie beside experts' masks with them first")
    means = summarise_patients(scores[scores["metric"].isin(SHOWN_METRICS)])
    patients = scores[scores["metric"] == "dice"].pivot(index="patient", columns="target", values="value")
    return {
        "scores": means[["target", "metric", "mean", "low", "high", "patients"]].to_dict("records"),
        "dice": patients[scores["target"].unique()].to_dict("index"),
    }


def write_card(networks: Sequence[TrainedNetwork]) -> str:
    """What the files are, what they reach, what they are for."""
    scores = pd.concat([pd.DataFrame(network.description["scores"]).assign(network=network.name) for network in networks])
    dice = pd.concat(
        [pd.DataFrame.from_dict(n.description["dice"], orient="index").rename_axis("patient").reset_index().assign(network=n.name) for n in networks]
    )
    patients, about = int(scores["patients"].max()), networks[0].description
    learned = about["learned_from"][0]
    tables = [
        (f"Means over {patients} patients and 95 % intervals", with_intervals(scores, "mean", ["network", "metric"])),
        ("Dice of each patient", dice[["network", "patient", *about["targets"]]]),
    ]
    files = pd.DataFrame(
        [
            (f"{n.name}.safetensors", describe(n.name), n.parameters, write_sizes(n.sizes), *n.description["learned_from"][0].values(), n.description["seed"])
            for n in networks
        ],
        columns=["file", "network", "parameters", "sizes", "patients learned from", "slices", "seed"],
    )
    headline = choose_headline(about["targets"])
    best = scores[(scores["target"] == headline) & (scores["metric"] == "dice")].sort_values("mean").iloc[-1]
    summary = (
        f"{best.network} learned from {learned['slices']} slices of {learned['patients']} real patients. On the whole volumes of {patients} others "
        f"it reaches a mean Dice of {best['mean']:.3f} for {headline}, {best.low:.3f} to {best.high:.3f}. A start for fine-tuning, not a finished product."
    )
    sections = [
        Section("Files", "Each describes itself: sizes, modalities, preparation, recipe and scores are in its header.", [("Networks", files)]),
        Section("Intended use", f"{USE} Above all to go on from with scans of your own."),
        Section("Figures", f"{PROTOCOL} None of these patients is among those learned from.", tables),
        Section("Known limits", write_list(_limits(patients, learned, about))),
        Section("How to use them", USAGE),
        Section("How they were made", MADE),
        Section("Citations", write_list(SOURCES)),
    ]
    return render_card(f"Weights: segmentation of {about['data_set']}", summary, sections, simulated=about["simulated"])


def _limits(patients: int, learned: dict[str, int], about: dict[str, Any]) -> list[str]:
    return [
        f"{learned['patients']} patients, a slice or two of each: BraTS 2020 has 369, with 155 slices each. Train on all of it with `--env full`.",
        "Every real slice that was learned from shows tumour, so far from it the network finds some that isn't there: see the distances between surfaces.",
        f"{patients} patients are few to measure by: the intervals say how few, and not that other hospitals' scans are different.",
        f"Slices are seen one by one, at {about['slice_size']} x {about['slice_size']} pixels: nothing makes neighbours agree, and what is finer is lost.",
    ]
