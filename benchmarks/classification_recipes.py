r"""What training recipes of the classifiers reach in a stated CPU time on the real images.

    # the index, the duplicates, the prepared images
    kedro run --pipelines data_engineering --params classification_source=FOLDER
    # to choose recipes: a quarter of the training images is scored
    python benchmarks/classification_recipes.py develop --networks cnn --set ema_decay=0.99
    python benchmarks/classification_recipes.py test --policy deduplicated --seeds 0 1 2 \
        --out RESULTS.csv --weights FOLDER
    # networks of a library, pretrained or not
    python benchmarks/classification_recipes.py test --blocks BLOCKS.yml --networks lite0 --out RESULTS.csv
    # mean and spread over the seeds
    python benchmarks/classification_recipes.py compare --out RESULTS.csv

Recipes: `reference` (Adam 1e-4 with L2 1e-5, halved every ten epochs, batches of 64, mirrored, turned by 10 degrees,
contrast and brightness 0.2, fp32, its last epoch) and `ours` (conf/full). Each training gets `--minutes` of CPU time on
one thread, in a process of its own; how many epochs fit is measured first. `test` learns, validates and tests on the
sets of the policy; the test sets are scored once, at the end, and no choice depends on them. Under `develop` no image
of the testing folder is looked at. Temperature is not fitted here: it doesn't change which class is found.
"""

import argparse
import logging
import os
import sys
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pandas as pd
import yaml
from recipes import Work, make_parser, override, read_block, train_all

from brain_tumor.data.common.store import Store, fingerprint
from brain_tumor.data.images.class_folders import ImageSet
from brain_tumor.data.images.split import OFFICIAL, ImageSplitSettings, split_images
from brain_tumor.networks import networks_of
from brain_tumor.networks.trained import TrainedNetwork, write_network
from brain_tumor.training.settings import ClassificationRecipe, EngineSettings, ExperimentSettings

CONF = Path(__file__).parents[1] / "conf"
BASE, FULL = (
    yaml.safe_load((CONF / environment / "parameters_classification.yml").read_text())["classification"]
    for environment in ("base", "full")
)
DATA = yaml.safe_load((CONF / "base/parameters_data_classification.yml").read_text())["data_classification"]
OURS = (
    BASE["recipe"]
    | FULL["recipe"]
    | {"augmentation": BASE["recipe"]["augmentation"] | FULL["recipe"].get("augmentation", {})}
)
RECIPES: dict[str, tuple[dict[str, Any], str]] = {
    # recipe, precision
    "reference": (
        {
            "optimiser": "adam",
            "learning_rate": 1e-4,
            "weight_decay": 1e-5,
            "schedule": "halving",
            "batch_size": 64,
            "checkpoint": "last",
        }
        | {
            "augmentation": {
                "horizontal_flip": 0.5,
                "affine": 1,
                "rotation": 10,
                "scaling": 0,
                "shift": 0,
                "intensity": 1,
                "contrast": 0.2,
                "brightness": 0.2,
            }
        },
        "fp32",
    ),
    "ours": (OURS, "auto"),
}


TABLES = ("02_intermediate/classification/index.csv", "08_reporting/classification/duplicates.csv")


def make_sets(data: Path, policy: str, validation: float) -> pd.DataFrame:
    """Each image's set under a policy."""
    index, duplicates = (pd.read_csv(data / path, keep_default_na=False) for path in TABLES)
    settings = ImageSplitSettings(**DATA["split"] | {"policy": policy, "validation": validation})
    return split_images(index, duplicates.astype({"conflict": bool}), ImageSet(**DATA["data_set"]), settings)


def train(work: Work, epochs: int) -> tuple[dict[str, TrainedNetwork], int, float]:
    """The network with each rule of which weights to keep, epochs and CPU minutes; on one thread."""
    import torch

    from brain_tumor.training.batches import Rows
    from brain_tumor.training.checkpoints import Checkpoints
    from brain_tumor.training.classification.normalisation import MEAN, STANDARD_DEVIATION
    from brain_tumor.training.classification.sampling import choose_rows
    from brain_tumor.training.classification.task import MONITOR, NAMES, ClassificationTask
    from brain_tumor.training.fit import Job, fit, read_fitted
    from brain_tumor.training.start import prepare_start

    torch.set_num_threads(1)
    logging.getLogger("brain_tumor").setLevel(logging.WARNING)
    images, splits = Store(Path(work["store"])), work["splits"]
    rows = {
        name: np.flatnonzero(images.rows["file"].isin(splits.loc[splits["split"] == name, "file"]))
        for name in ("train", "validation")
    }
    settings = ClassificationRecipe.model_validate(work["settings"] | {"epochs": epochs, "patience": epochs})
    engine = EngineSettings(device="cpu", precision=work["precision"], seed=work["seed"])
    rows["train"] = choose_rows(images, splits, rows["train"], settings.source_balance)
    counts = np.bincount(images.read(rows["train"], "label")[0], minlength=4).tolist()
    torch.manual_seed(engine.seed)
    grey = MEAN, STANDARD_DEVIATION
    start = prepare_start(ExperimentSettings(**work["experiment"]), work["needed"], maps=False, grey=grey)
    network, fine_tuning, _ = start.build()
    task = ClassificationTask(network, start.sizes["in_channels"], counts, settings, engine.seed)
    task.fine_tuning = fine_tuning
    with tempfile.TemporaryDirectory() as folder:
        began = process_time()
        job = Job(
            task,
            *(Rows(images, rows[name], NAMES) for name in rows),
            MONITOR,
            settings,
            engine,
            Checkpoints(Path(folder)),
        )
        done = len(fit(job).log)
        minutes = (process_time() - began) / 60
        state = job.checkpoints.newest()[1]
    networks, about = {}, images.description | {"seed": engine.seed, "images": counts, "policy": work["policy"]}
    for keep in ("best", "last"):
        recipe = settings.model_copy(update={"checkpoint": keep})
        fitted = read_fitted(state, replace(job, recipe=recipe))
        networks[keep] = TrainedNetwork(
            start.experiment.network,
            start.sizes,
            about | {"recipe": recipe.model_dump(), "kept": fitted.kept},
            (fitted.weights,),
        )
    return networks, done, minutes


def measure_pace(work: Work) -> float:
    """CPU minutes of an epoch, validation included."""
    return train(work, 1)[-1]


def train_and_score(work: Work) -> pd.DataFrame:
    """One training, scored on the images held out; a row for each set of images."""
    from brain_tumor.metrics.classification import score, to_probability
    from brain_tumor.training.classification.prediction import predict_logits
    from brain_tumor.training.device import choose_device

    networks, epochs, minutes = train(work, work["epochs"])
    images, splits = Store(Path(work["store"])), work["splits"].set_index("file")
    device = choose_device(EngineSettings(device="cpu", precision=work["precision"]))
    sets = splits.loc[images.rows["file"]]
    tables = []
    for (keep, network), (name, column, value) in product(networks.items(), work["scored"]):
        rows = np.flatnonzero(sets[column].to_numpy() == value)
        logits = np.concatenate(list(predict_logits(network, images, rows, device)))
        scores = score(
            to_probability(logits),
            images.read(rows, "label")[0].astype(int),
            sets["group"].to_numpy()[rows],
            images.description["classes"],
        )
        kept = network.description["kept"]
        tables.append(
            scores.assign(
                set=name,
                images=len(rows),
                keep=keep,
                epoch=int(kept["epoch"]),
                likelihood=kept["validation_likelihood"],
            )
        )
    names = {"network": work["network"], "recipe": work["recipe"], "policy": work["policy"], "seed": work["seed"]}
    if work["weights"]:
        Path(work["weights"]).mkdir(parents=True, exist_ok=True)
        for keep, network in networks.items():
            write_network(
                Path(work["weights"]) / f"{work['network']}-{work['policy']}-{work['seed']}-{keep}.safetensors", network
            )
    return pd.concat(tables).assign(**names, minutes=round(minutes, 2), epochs=epochs)


def measure(arguments: argparse.Namespace) -> None:
    """Every training that is not measured yet; the table grows as they end."""
    usual = 0.25 if arguments.what == "develop" else DATA["split"]["validation"]
    splits = make_sets(arguments.data, arguments.policy, arguments.validation or usual)
    works = [
        make_work(arguments, splits, *each) for each in product(arguments.networks, arguments.recipes, arguments.seeds)
    ]
    train_all(arguments, works, ["network", "recipe", "policy", "seed"], measure_pace, train_and_score, say)


def say(table: pd.DataFrame) -> None:
    """A line for each rule of which weights to keep: accuracy on each set of images."""
    for keep, part in table.groupby("keep"):
        row, values = part.iloc[0], part.set_index(["set", "metric"])["value"]
        words = [f"{name} {values[name, 'accuracy']:.4f}" for name in values.index.unique(0)]
        print(
            (
                f"{row.network} | {row.recipe} | {row.policy} | seed {row.seed} | {keep}: {row.epoch} of "
                f"{row.epochs} epochs, {row.minutes} min,"
            ),
            end=" ",
        )
        print(f"likelihood {row.likelihood:.4f} |", *words, flush=True)


def make_work(
    arguments: argparse.Namespace, splits: pd.DataFrame, network: str, name: str, seed: int
) -> dict[str, Any]:
    """All that one training needs, as plain values."""
    recipe, precision = RECIPES[name]
    store = arguments.data / "03_primary/classification/images.h5"
    block = read_block(arguments.blocks, network) or BASE[network] | FULL[network]
    experiment = ExperimentSettings(**block)
    sizes = experiment.sizes
    if name == "ours":
        recipe = experiment.adapt(ClassificationRecipe.model_validate(recipe)).model_dump()
    elif network == "vit":
        sizes = sizes | {"dropout": 0.2, "shrink": 1}
    recipe = override(recipe, arguments.set)
    developed, tested = (
        [("validation", "split", "validation")],
        [("deduplicated", "deduplicated_test", True), (OFFICIAL, "official_test", True)],
    )
    return {
        "network": network,
        "experiment": experiment.model_dump() | {"sizes": sizes},
        "needed": {"in_channels": 1, "out_channels": 4, "image_size": Store(store).description["image_size"]},
        "recipe": " ".join(
            [name, *([f"validation={arguments.validation}"] if arguments.validation else []), *arguments.set]
        ),
        "settings": recipe,
        "precision": precision,
        "policy": arguments.policy,
        "seed": seed,
        "pace": " ".join(
            [network, name, arguments.what, arguments.policy, fingerprint(sizes, recipe, arguments.validation)]
        ),
        "splits": splits,
        "scored": developed if arguments.what == "develop" else developed + tested,
        "weights": arguments.weights and str(arguments.weights),
        "store": str(store),
    }


def compare(arguments: argparse.Namespace) -> None:
    """Accuracy and macro-F1 on each set: mean, least and most over the seeds."""
    table = pd.read_csv(arguments.out).query("metric in ('accuracy', 'macro_f1')")
    print(
        table.groupby(["network", "recipe", "policy", "keep", "set", "metric"])["value"]
        .agg(["mean", "min", "max", "count"])
        .round(4)
        .to_string()
    )


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    parser = make_parser(
        __doc__, networks_of("classification"), list(RECIPES), ["ours"], "recipes_classification.csv", 30.0
    )
    parser.add_argument("--policy", choices=["deduplicated", "official"], default="deduplicated")
    parser.add_argument(
        "--validation", type=float, help="fraction of what is learned from that is held out; 0.1, to develop 0.25"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--weights", type=Path, help="a folder to keep the trained networks in")
    arguments = parser.parse_args()
    sys.exit(compare(arguments) if arguments.what == "compare" else measure(arguments))
