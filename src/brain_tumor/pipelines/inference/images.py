"""Nodes that classify images which nobody has labelled. Those that compute with torch import it when they run.

It takes seconds.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from brain_tumor.data.common.files import SIMULATED_MARK, is_simulated, list_files
from brain_tumor.data.common.parallel import WorkerSettings, parallel_map
from brain_tumor.data.common.store import Chunk, Store, StoreContent
from brain_tumor.data.common.tables import with_text
from brain_tumor.data.images.borders import ImagePreparation
from brain_tumor.data.images.class_folders import ImageFile
from brain_tumor.data.images.image_index import cut_images, inspect_images
from brain_tumor.metrics.classification import to_probability
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.pipelines.experiments import Figures
from brain_tumor.reporting.formatting import mark_title
from brain_tumor.reporting.inference.report import compose_images_report
from brain_tumor.training.settings import EngineSettings

logger = logging.getLogger(__name__)

PART = 64
"""Images that are read together."""

SHOWN = 48
"""Images in a figure, at most: those that the network is least sure of."""

REMEDY = "give the images with `--params inference_source=PATH`, a folder or one file"


def index_images(source: Path, network: TrainedNetwork, workers: WorkerSettings) -> pd.DataFrame:
    """A row for each file of a folder, at any depth, or for one file.

    The box that is kept, a note on what is unusual, why it is excluded.

    Raises:
        FileNotFoundError: if there is no such folder or file, or no file in it.
        ValueError: if the network doesn't classify images, or none of them can be used.
    """
    if "classes" not in network.description:
        what = ", ".join(network.description.get("tissues", []))
        raise ValueError(
            f"{network.name} finds {what}, no classes of images; give a network that classifies with "
            "`--params inference_network=PATH`"
        )
    if not source.exists():
        raise FileNotFoundError(f"{source} is not there; {REMEDY}")
    paths = [source] if source.is_file() else [path for path in list_files(source) if path.name != SIMULATED_MARK]
    if not paths:
        raise FileNotFoundError(f"there is no image in {source}; {REMEDY}")
    tasks = [
        ([ImageFile(path, "", "") for path in paths[start : start + PART]], _root(source))
        for start in range(0, len(paths), PART)
    ]
    index = pd.concat(
        [rows for rows, _ in parallel_map(inspect_images, tasks, workers, "reading", unit="part")], ignore_index=True
    )
    excluded = index[index["excluded"] != ""]
    for row in excluded.itertuples():
        logger.warning("excluded: %s: %s", row.file, row.excluded)
    if len(excluded) == len(index):
        raise ValueError(
            f"none of the {len(index)} files in {source} can be used; {excluded['file'].iloc[0]}: "
            f"{excluded['excluded'].iloc[0]}; {REMEDY}"
        )
    return index.drop(columns=["folder", "class", "perceptual_hash"])


def _root(source: Path) -> Path:
    return source.parent if source.is_file() else source


def prepare_images(index: pd.DataFrame, source: Path, network: TrainedNetwork, workers: WorkerSettings) -> StoreContent:
    """The images as those that the network learned from were prepared: grey, without borders, in its size."""
    about = network.description
    preparation = ImagePreparation(image_size=about["image_size"], fit=about["fit"])
    description = {
        "image_size": about["image_size"],
        "fit": about["fit"],
        "simulated": is_simulated(source),
    }
    return StoreContent(description, _prepare(index[index["excluded"] == ""], _root(source), preparation, workers))


def _prepare(used: pd.DataFrame, root: Path, preparation: ImagePreparation, workers: WorkerSettings) -> Iterator[Chunk]:
    parts = [used.iloc[start : start + PART] for start in range(0, len(used), PART)]
    images = parallel_map(cut_images, [(part, root, preparation) for part in parts], workers, "preparing", unit="part")
    for part, image in zip(parts, images, strict=True):
        yield {"image": image[:, None], "file": part["file"].to_numpy(object)}


def classify_images(
    network: TrainedNetwork, index: pd.DataFrame, images: Store, engine: EngineSettings
) -> pd.DataFrame:
    """Rows `file`, `found`, `confidence`, the probability of each class, `note`, `excluded`; least sure first.

    Probabilities are those at the temperature that fitted validation, where the network's file says which.
    """
    from brain_tumor.training.classification.prediction import predict_logits
    from brain_tumor.training.device import choose_device

    classes, rows = network.description["classes"], images.rows
    logits = predict_logits(network, images, np.arange(len(rows)), choose_device(engine))
    probability = to_probability(np.concatenate(list(logits)), network.description.get("temperature", 1.0))
    found = rows[["file"]].assign(found=np.array(classes)[probability.argmax(1)], confidence=probability.max(1))
    found[classes] = probability
    table = found.merge(index[["file", "note", "excluded"]], "right", on="file")
    return table.sort_values(["confidence", "file"], ignore_index=True)


def draw_images(network: TrainedNetwork, classes: pd.DataFrame, images: Store, engine: EngineSettings) -> Figures:
    """The images that the network is least sure of, and what in them speaks for the class found."""
    from brain_tumor.figures.classification import Looked, draw_saliency_by_region
    from brain_tumor.training.classification.saliency import compute_saliency
    from brain_tumor.training.device import choose_device

    shown = with_text(classes, "excluded").query("excluded == ''").head(SHOWN)
    row = pd.Index(images.rows["file"]).get_indexer(shown["file"])
    found = pd.Index(network.description["classes"]).get_indexer(shown["found"])
    heat = compute_saliency(network, images, row, found, choose_device(engine))
    words = [f"{r.found} {r.confidence:.2f}\n{Path(r.file).name}" for r in shown.itertuples()]
    looks = [Looked(*look) for look in zip(words, images.read(row, "image")[0][:, 0], heat, strict=True)]
    title = mark_title(f"{network.name}: what it finds and where it looks", simulated=images.description["simulated"])
    return {"1_images": draw_saliency_by_region(looks, title)}


def write_images_report(
    network: TrainedNetwork, classes: pd.DataFrame, figures: dict[str, bytes], images: Store, engine: EngineSettings
) -> str:
    """The report as one HTML page."""
    return compose_images_report(
        network, classes, figures, {"training": engine}, simulated=images.description["simulated"]
    )
