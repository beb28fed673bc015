"""What training recipes reach in the same CPU time, on the same real patients, tested on patients never seen.

    # prepares the store and the splits
    kedro run --pipelines data_engineering --params segmentation_source=FOLDER
    # folds 0, 1, 2 are tested in turn; the others train
    python benchmarks/segmentation_recipes.py test --out RESULTS.csv
    # recipes are chosen here: folds 3, 4 are scored, 0, 1, 2 train
    python benchmarks/segmentation_recipes.py develop --set augmentation.affine=0.5
    # networks of a library, pretrained or not
    python benchmarks/segmentation_recipes.py test --blocks BLOCKS.yml --networks lite0_unet --out RESULTS.csv
    # tables of what was measured
    python benchmarks/segmentation_recipes.py compare --out RESULTS.csv

Recipes: `reference` (BCE, Adam 2e-3 with L2 1e-2, x0.9 an epoch, batches of 32, no augmentation, fp32), `plain` (Dice
and BCE, AdamW 1e-3, no augmentation, fp32), `ours` (conf/full, in batches of 16); on request `sample` (conf/base). Each
training gets `--minutes` of CPU time on one thread, in a process of its own; how many epochs fit is measured first. A
tenth of the training patients validate: the weights of the best epoch are scored, for all three recipes (`sample` keeps
its last). Volume Dice as in the report; BraTS 2020 rule for empty masks. A training that is in RESULTS.csv already is
not repeated. Networks see the window that holds every brain; in results/segmentation.csv they saw whole slices, but for
`ours, window`.
"""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from recipes import Work, make_parser, override, read_block, train_all

from brain_tumor.data.common.store import Store
from brain_tumor.data.scans.brain_crop import find_brain_crop
from brain_tumor.networks import build, networks_of
from brain_tumor.networks.trained import TrainedNetwork, read_network, write_network
from brain_tumor.training.settings import EngineSettings, ExperimentSettings, SegmentationRecipe

if TYPE_CHECKING:
    from brain_tumor.training.start import Start

BASE, FULL = (
    yaml.safe_load((Path(__file__).parents[1] / f"conf/{environment}/parameters_segmentation.yml").read_text())[
        "segmentation"
    ]
    for environment in ("base", "full")
)
OURS = (
    BASE["recipe"]
    | FULL["recipe"]
    | {"batch_size": 16, "augmentation": BASE["recipe"]["augmentation"] | FULL["recipe"]["augmentation"]}
)
NO_AUGMENTATION = {"horizontal_flip": 0.0}
RECIPES: dict[str, tuple[dict[str, Any], str]] = {
    # recipe, precision
    "reference": (
        {
            "dice_weight": 0.0,
            "optimiser": "adam",
            "learning_rate": 2e-3,
            "weight_decay": 1e-2,
            "schedule": "exponential",
            "batch_size": 32,
        }
        | {"augmentation": NO_AUGMENTATION},
        "fp32",
    ),
    "plain": ({"learning_rate": 1e-3, "weight_decay": 1e-2, "batch_size": 16, "augmentation": NO_AUGMENTATION}, "fp32"),
    "ours": (OURS, "auto"),
    "sample": (BASE["recipe"], "auto"),
}
COMPARED = ["reference", "plain", "ours"]
EPOCH = 400
"""Slices in an epoch, at least: the rest of the time is for validation."""


def train(work: Work, epochs: int, slices: int = EPOCH) -> tuple[dict[str, Any], float]:
    """What is left of training with each rule of which weights to keep, and its CPU minutes; on one thread."""
    import torch

    from brain_tumor.training.batches import Rows
    from brain_tumor.training.checkpoints import Checkpoints
    from brain_tumor.training.fit import Job, fit, read_fitted
    from brain_tumor.training.segmentation.task import MONITOR, SegmentationTask, training_rows

    torch.set_num_threads(1)
    logging.getLogger("brain_tumor").setLevel(logging.WARNING)
    store = Store(Path(work["store"]))
    about, rows = store.description, rows_of(store, work["sets"])
    steps = slices // work["settings"]["batch_size"]
    settings = SegmentationRecipe.model_validate(
        work["settings"] | {"epochs": epochs, "patience": epochs, "epoch_steps": steps}
    )
    engine = EngineSettings(device="cpu", precision=work["precision"])
    torch.manual_seed(engine.seed)
    network, fine_tuning, _ = start_of(work).build(settings.output_prior)
    if work["initial"]:
        network.load_state_dict(read_network(Path(work["initial"])).members[0])
    task = SegmentationTask(network, about["targets"], len(about["tissues"]), settings, engine.seed)
    task.fine_tuning = fine_tuning
    with tempfile.TemporaryDirectory() as folder:
        start = process_time()
        job = Job(
            task,
            training_rows(store, rows["train"], settings),
            Rows(store, rows["validation"]),
            MONITOR,
            settings,
            engine,
            Checkpoints(Path(folder)),
        )
        fit(job)
        minutes = (process_time() - start) / 60
        state = job.checkpoints.newest()[1]
        jobs = {keep: replace(job, recipe=settings.model_copy(update={"checkpoint": keep})) for keep in work["keep"]}
        return {keep: read_fitted(state, each) for keep, each in jobs.items()}, minutes


def start_of(work: Work) -> "Start":
    """The network that a training starts from."""
    from brain_tumor.training.start import prepare_start

    size = Store(Path(work["store"])).description["slice_size"]
    needed = {"in_channels": 4, "out_channels": 3, "image_size": size}
    return prepare_start(ExperimentSettings(**work["experiment"]), needed, maps=True)


def measure_pace(work: Work) -> float:
    """CPU minutes of an epoch, validation included."""
    train(work, 1, slices=32)  # what is built once
    return train(work, 1)[1]


def train_and_score(work: Work) -> pd.DataFrame:
    """One training, scored on the patients held out; rows `patient`, `target`, `dice` and what was trained."""
    from brain_tumor.metrics.segmentation import count_slices, score_patients, to_labels
    from brain_tumor.training.device import choose_device
    from brain_tumor.training.segmentation.prediction import predict_probabilities
    from brain_tumor.training.segmentation.task import MONITOR

    fitted, minutes = train(work, work["epochs"])
    store = Store(Path(work["store"]))
    chosen, patients, tables = rows_of(store, work["sets"])["held out"], store.rows["patient"].to_numpy(), []
    (labels,) = store.read(chosen, "labels")
    start = start_of(work)
    device = choose_device(EngineSettings(device="cpu", precision=work["precision"]))
    for keep, result in fitted.items():
        network = build(start.experiment.network, **start.sizes)
        network.load_state_dict(result.weights)
        if work["networks"]:
            about = store.description | {
                "window": find_brain_crop(store).shape,
                "recipe": work["settings"],
                "kept": [result.kept],
            }
            file = Path(work["networks"]) / f"{work['network']} {work['recipe']} {work['fold']} {keep}.safetensors"
            write_network(
                file,
                TrainedNetwork(start.experiment.network, start.sizes, about, (result.weights,)),
            )
        found = np.concatenate(
            list(predict_probabilities(network.eval(), store, chosen, device, tta_flip=work["tta_flip"]))
        )
        counts = count_slices(labels, to_labels(found), store.description["targets"])
        dice = score_patients(counts.assign(patient=patients[chosen][counts["position"]])).query("metric == 'dice'")
        names = {"network": work["network"], "recipe": work["recipe"], "fold": work["fold"], "keep": keep}
        facts = {
            "minutes": round(minutes, 2),
            "epochs": len(result.log),
            "epoch": int(result.kept["epoch"]),
            "validation": result.kept[MONITOR],
        }
        tables.append(dice[["patient", "target", "value"]].rename(columns={"value": "dice"}).assign(**names, **facts))
    return pd.concat(tables)


def rows_of(store: Store, sets: dict[str, str]) -> dict[str, np.ndarray]:
    """Rows of the store in each set."""
    kinds = store.rows["patient"].map(sets)
    return {name: np.flatnonzero(kinds == name) for name in set(sets.values())}


def divide(splits: pd.DataFrame, held_out: list[int], train: list[int], seed: int = 0) -> dict[str, str]:
    """Patients of some folds held out, a tenth of those that train kept for validation."""
    learning = splits.loc[splits["fold"].isin(train), "patient"].sort_values().to_numpy()
    validation = np.random.default_rng(seed).choice(learning, max(1, round(len(learning) / 10)), replace=False)
    sets = dict.fromkeys(learning, "train") | dict.fromkeys(validation, "validation")
    return sets | dict.fromkeys(splits.loc[splits["fold"].isin(held_out), "patient"], "held out")


def measure(arguments: argparse.Namespace) -> None:
    """Every training that is not measured yet; the table grows as they end.

    First, how many epochs of each network and recipe fit the time.
    """
    splits = pd.read_csv(arguments.data / "05_model_input/segmentation/splits.csv")
    folds = (
        {0: ([3, 4], [0, 1, 2])}
        if arguments.what == "develop"
        else {k: ([k], [f for f in range(5) if f != k]) for k in (0, 1, 2)}
    )
    works = [
        make_work(arguments, splits, *each) for each in product(folds.items(), arguments.networks, arguments.recipes)
    ]
    train_all(arguments, works, ["network", "recipe", "fold"], measure_pace, train_and_score, say)


def say(table: pd.DataFrame) -> None:
    """A line for each rule of which weights to keep."""
    for keep, part in table.groupby("keep"):
        means, row = part.groupby("target", sort=False)["dice"].mean(), part.iloc[0]
        print(
            (
                f"{row.network} | {row.recipe} | fold {row.fold} | {keep}: {row.epoch} of {row.epochs} epochs, "
                f"{row.minutes} min |"
            ),
            end=" ",
        )
        print(
            f"{means[['WT', 'TC', 'ET']].mean():.4f} |", " ".join(f"{k} {v:.3f}" for k, v in means.items()), flush=True
        )


def make_work(
    arguments: argparse.Namespace,
    splits: pd.DataFrame,
    fold: tuple[int, tuple[list[int], list[int]]],
    network: str,
    name: str,
) -> dict[str, Any]:
    """All that one training needs, as plain values."""
    number, (held_out, learning) = fold
    recipe, precision = RECIPES[name]
    block = read_block(arguments.blocks, network)
    if block and name in ("ours", "sample"):
        recipe = ExperimentSettings(**block).adapt(SegmentationRecipe.model_validate(recipe)).model_dump()
    recipe, store = override(recipe, arguments.set), arguments.data / "03_primary/segmentation/slices.h5"
    height, width = find_brain_crop(Store(store)).shape
    return {
        "network": network,
        "experiment": block or {"network": network, "sizes": {"n_filters": arguments.filters}},
        "recipe": " ".join([name, *(["from weights"] if arguments.initial else []), *arguments.set]),
        "initial": arguments.initial,
        "networks": arguments.networks_to,
        "settings": recipe,
        "precision": precision,
        "pace": f"{network} {name} {'warped ' if recipe['augmentation'].get('affine') else ''}{height} x {width}",
        "fold": number,
        "sets": divide(splits, held_out, learning),
        "tta_flip": name in ("ours", "sample") and BASE["prediction"]["tta_flip"],
        "keep": ["best", "last"] if arguments.what == "develop" else [recipe.get("checkpoint", "best")],
        "store": str(store),
    }


def compare(arguments: argparse.Namespace) -> None:
    """Mean Dice of WT, TC and ET by network and recipe, and the paired gain over the better baseline."""
    from brain_tumor.metrics.segmentation import interval

    table = pd.read_csv(arguments.out, dtype={"patient": str})
    table = table[table["target"].isin(["WT", "TC", "ET"])]
    mean = table.groupby(["network", "recipe", "patient"])["dice"].mean().unstack("patient")
    print(
        table.pivot_table(index=["network", "recipe"], columns="target", values="dice")
        .assign(mean=mean.mean(axis=1), patients=mean.count(axis=1))
        .round(3)
    )
    print(table.pivot_table(index=["network", "recipe"], columns="fold", values="dice").round(3))

    def difference(name: str, ours: pd.Series, theirs: pd.Series) -> None:
        values = (ours - theirs).dropna().to_numpy()
        low, high = interval(values)
        print(
            f"{name}: {values.mean():+.3f} ({low:+.3f} to {high:+.3f}) over {len(values)} patients, "
            f"{np.mean(values > 0):.0%} of them better"
        )

    scores = mean.mean(axis=1)
    scores = scores[scores.index.isin(COMPARED, level="recipe")]
    pairs = {
        network: scores[network].drop("ours").idxmax()
        for network in scores.index.unique("network")
        if {"ours", "plain"} <= set(scores[network].index)
    }
    for network, best in pairs.items():
        difference(f"{network}: ours - {best}", mean.loc[(network, "ours")], mean.loc[(network, best)])
    complete = scores[mean.loc[scores.index].notna().all(axis=1)]  # a mean over other patients is no better or worse
    ours = complete.xs("ours", level=1).idxmax()
    others = complete.drop("ours", level=1)
    # Of our recipe alone, against the other networks
    rivals = [others.idxmax()] if len(others) else [each for each in complete.index if each[0] != ours]
    for rival in rivals:
        difference(f"best: {ours} ours - {' '.join(rival)}", mean.loc[(ours, "ours")], mean.loc[rival])
    if arguments.figure:
        draw_patients(
            {network: (mean.loc[(network, best)], mean.loc[(network, "ours")]) for network, best in pairs.items()},
            arguments.figure,
        )


def draw_patients(pairs: Mapping[str, tuple[pd.Series, pd.Series]], path: Path) -> None:
    """Every patient's score under the better baseline and under ours, a panel for each network.

    Above the line ours is better.
    """
    figure = Figure(figsize=(3.2 * len(pairs), 4.2), layout="constrained")
    for axes, (network, (theirs, ours)) in zip(
        figure.subplots(1, len(pairs), sharey=True, squeeze=False)[0], pairs.items(), strict=True
    ):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        axes.scatter(theirs, ours.reindex(theirs.index), s=16, alpha=0.7)
        axes.plot(
            theirs.mean(), ours.mean(), "k+", markersize=12, label=f"mean: {theirs.mean():.3f} > {ours.mean():.3f}"
        )
        axes.set(title=network, xlabel=theirs.name[1], xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.legend(frameon=False, fontsize="small", loc="upper left")
    figure.axes[0].set_ylabel("ours")
    figure.suptitle("Dice of each real patient, mean of WT, TC and ET", fontsize="medium")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    parser = make_parser(__doc__, networks_of("segmentation"), list(RECIPES), COMPARED, "recipes.csv", 10.0)
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--figure", type=Path, help="a PNG of each patient's scores, of `compare`")
    parser.add_argument("--networks-to", help="a folder for what was trained")
    parser.add_argument("--initial", help="a .safetensors file of the same network to start from")
    arguments = parser.parse_args()
    sys.exit(compare(arguments) if arguments.what == "compare" else measure(arguments))
