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
from brain_tumor.data.images.borders import PREPARATION, ImagePreparation
from brain_tumor.data.images.class_folders import ImageFile
from brain_tumor.data.images.image_index import cut_images, inspect_images
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics.classification import to_probability
from brain_tumor.networks.model_folders import ModelFolder
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.pipelines.experiments import Figures
from brain_tumor.reporting.formatting import mark_title
from brain_tumor.reporting.inference.report import compose_images_report
from brain_tumor.training.settings import EngineSettings

logger = logging.getLogger(__name__)

PART = 64
"""Images that are read together."""

SHOWN = 48
"""Images in a figure, at most: those with the lowest confidence."""

UNLIKE = "unlike the training images"
"""Note of an image that lies farther from them than the limit."""

REMEDY = "give the images with `--params inference_source=PATH`, a folder or one file"


def index_images(source: Path, network: TrainedNetwork | ModelFolder, workers: WorkerSettings) -> pd.DataFrame:
    """A row for each file of a folder, at any depth, or for one file.

    The box that is kept, a note on what is unusual, why it is excluded.

    Raises:
        FileNotFoundError: if there is no such folder or file, or no file in it.
        ValueError: if the network doesn't classify images, or none of them can be used.
    """
    if isinstance(network, ModelFolder) or "classes" not in network.description:
        found = network.tumour_classes if isinstance(network, ModelFolder) else network.description.get("tissues", [])
        what = ", ".join(found)
        raise ValueError(
            f"{network.name} segments {what}; give a network that classifies images with "
            "`--params inference_network=PATH`"
        )
    network.require_preparation(PREPARATION)
    if not source.exists():
        raise FileNotFoundError(f"{source} is not there; {REMEDY}")
    paths = [source]
    if not source.is_file():
        paths = [path for path in list_files(source) if path.name != SIMULATED_MARK]
    if not paths:
        raise FileNotFoundError(f"there is no image in {source}; {REMEDY}")
    # Without folder and class, which nobody has given them.
    images = [ImageFile(path, "", "") for path in paths]
    root = _root(source)
    tasks = [(images[start : start + PART], root) for start in range(0, len(images), PART)]
    # The views are for a search of near-duplicates, which isn't made here.
    inspected = parallel_map(inspect_images, tasks, workers, "reading", unit="part")
    index = pd.concat([rows for rows, _ in inspected], ignore_index=True)
    excluded = index[index["excluded"] != ""]
    for row in excluded.itertuples():
        logger.warning("excluded: %s: %s", row.file, row.excluded)
    if len(excluded) == len(index):
        first = excluded.iloc[0]
        raise ValueError(
            f"none of the {len(index)} files in {source} can be used; {first['file']}: {first['excluded']}; {REMEDY}"
        )
    # Folder and class are empty, and no images are compared by their hash.
    return index.drop(columns=["folder", "class", "perceptual_hash"])


def _root(source: Path) -> Path:
    return source.parent if source.is_file() else source


def prepare_images(
    index: pd.DataFrame,
    source: Path,
    network: TrainedNetwork,
    workers: WorkerSettings,
) -> StoreContent:
    """The images as those that the network was trained on were prepared: grey, without borders, in its size."""
    about = network.description
    preparation = ImagePreparation(image_size=about["image_size"], fit=about["fit"])
    description = {
        "image_size": about["image_size"],
        "fit": about["fit"],
        "simulated": is_simulated(source),
    }
    used = index[index["excluded"] == ""]
    chunks = _prepare(used, _root(source), preparation, workers)
    return StoreContent(description, chunks)


def _prepare(
    used: pd.DataFrame,
    root: Path,
    preparation: ImagePreparation,
    workers: WorkerSettings,
) -> Iterator[Chunk]:
    parts = [used.iloc[start : start + PART] for start in range(0, len(used), PART)]
    tasks = [(part, root, preparation) for part in parts]
    images = parallel_map(cut_images, tasks, workers, "preparing", unit="part")
    for part, image in zip(parts, images, strict=True):
        # With an axis of one channel, as stores of images have it.
        yield {"image": image[:, None], "file": part["file"].to_numpy(object)}


def classify_images(
    network: TrainedNetwork,
    index: pd.DataFrame,
    images: Store,
    engine: EngineSettings,
) -> pd.DataFrame:
    """Rows `file`, `predicted`, `confidence`, `distance`, probability of each class, `note`, `excluded`.

    The lowest confidence first. Probabilities are those at the temperature of the network's file. The distance is that
    from the training images, as a multiple of that within which 95 % of the validation images lie; empty where the
    network's file doesn't say.
    """
    from brain_tumor.training.classification.prediction import predict_all
    from brain_tumor.training.device import choose_device

    classes = network.description["classes"]
    # Files of earlier versions have no temperature; 1 changes nothing.
    temperature = network.description.get("temperature", 1.0)
    rows = images.rows
    logits, features = predict_all(network, images, np.arange(len(rows)), choose_device(engine))
    probability = to_probability(logits, temperature)
    most_probable = np.array(classes)[probability.argmax(1)]
    predicted = rows[["file"]].assign(predicted=most_probable, confidence=probability.max(1))
    predicted["distance"] = _measure_distance(network, features)
    predicted[classes] = probability
    # A right join keeps the images that are excluded.
    table = predicted.merge(index[["file", "note", "excluded"]], "right", on="file")
    unlike = table["distance"] > 1
    if unlike.any():
        words = "%d of %d images are unlike the training images: their classes mean little"
        logger.warning(words, unlike.sum(), len(rows))
    table.loc[unlike, "note"] = [
        "; ".join(filter(None, (note, UNLIKE))) for note in with_text(table[unlike], "note")["note"]
    ]
    return table.sort_values(["confidence", "file"], ignore_index=True)


def _measure_distance(network: TrainedNetwork, features: list[np.ndarray]) -> np.ndarray | float:
    """Of each image, the mean over the members of an ensemble; NaN where it isn't known."""
    if not network.familiarity:
        return np.nan
    pairs = zip(network.familiarity, features, strict=True)
    return np.mean([familiarity.measure(own) for familiarity, own in pairs], axis=0)


def draw_images(
    network: TrainedNetwork,
    classes: pd.DataFrame,
    images: Store,
    engine: EngineSettings,
) -> Figures:
    """The images with the lowest confidence, and saliency maps of their predicted classes."""
    from brain_tumor.figures.classification import SaliencyImage, draw_saliency
    from brain_tumor.training.classification.saliency import compute_saliency
    from brain_tumor.training.device import choose_device

    used = with_text(classes, "excluded").query("excluded == ''")
    # Rows are in the order of confidence, the least first.
    shown = used.head(SHOWN)
    row = pd.Index(images.rows["file"]).get_indexer(shown["file"])
    predicted = pd.Index(network.description["classes"]).get_indexer(shown["predicted"])
    saliency = compute_saliency(network, images, row, predicted, choose_device(engine))
    captions = [f"{image.predicted} {image.confidence:.2f}\n{Path(image.file).name}" for image in shown.itertuples()]
    (grey,) = images.read(row, "image")
    drawn = [SaliencyImage(*parts) for parts in zip(captions, grey[:, 0], saliency, strict=True)]
    title = f"{name_network(network.name)}: predicted classes and saliency maps"
    return {"1_images": draw_saliency(drawn, mark_title(title, simulated=images.description["simulated"]))}


def write_images_report(
    network: TrainedNetwork,
    classes: pd.DataFrame,
    figures: dict[str, bytes],
    images: Store,
    engine: EngineSettings,
) -> str:
    """The report as one HTML page."""
    settings = {"training": engine}
    simulated = images.description["simulated"]
    return compose_images_report(network, classes, figures, settings, simulated=simulated)
