"""Nodes of classification data engineering."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.common.files import is_simulated
from brain_tumor.data.common.parallel import WorkerSettings, parallel_map
from brain_tumor.data.common.provenance import Origin
from brain_tumor.data.common.sets import join_groups
from brain_tumor.data.common.store import Chunk, Store, StoreContent, fingerprint
from brain_tumor.data.images import split as image_split
from brain_tumor.data.images.borders import PREPARATION, ImagePreparation, cut
from brain_tumor.data.images.class_folders import CANT_BE_READ, ImageFile, ImageSet, find_images, read_image
from brain_tumor.data.images.duplicates import FLIPS, VIEW, DuplicateSettings, find_near_duplicates, flipped
from brain_tumor.data.images.image_index import INSPECTION, cut_images, inspect_images
from brain_tumor.data.images.outlines import Outline, draw_tumour, find_outlines
from brain_tumor.data.images.patients import PatientSettings, add_patients, find_table, read_patients
from brain_tumor.data.simulation.images import PLANTED
from brain_tumor.pipelines.experiments import Figures
from brain_tumor.reporting.data_classification.data_sheet import compose_data_sheet
from brain_tumor.reporting.data_classification.report import compose_data_report, count_planted

logger = logging.getLogger(__name__)

PART = 64
"""Images that are inspected, or prepared, together."""


def index_images(
    source: Path,
    patients: Path,
    inspections: joblib.Memory,
    data_set: ImageSet,
    patient_settings: PatientSettings,
    workers: WorkerSettings,
) -> pd.DataFrame:
    """A row for each file of the source, with its patient. Files that haven't changed are not read again.

    Args:
        patients: the table of patients, used if it is there.
    """
    images = find_images(source, data_set)
    index = pd.concat([rows for rows, _ in _inspections(images, source, inspections, workers)], ignore_index=True)
    index["simulated"] = is_simulated(source)
    index = _join_patients(index, patients, data_set, patient_settings)
    excluded = index[index["excluded"] != ""]
    logger.info("%d images are used, %d excluded", len(index) - len(excluded), len(excluded))
    for row in excluded.itertuples():
        logger.warning("excluded: %s: %s", row.file, row.excluded)
    used = index[index["excluded"] == ""].groupby(["folder", "class"]).size()
    for folder in (data_set.training, data_set.testing):
        for name in data_set.classes:
            if (folder, name) not in used:
                reason = excluded.loc[(excluded["folder"] == folder) & (excluded["class"] == name), "excluded"].iloc[0]
                raise ValueError(f"no image of {name} in {folder} can be used; the first reason is: {reason}")
    return index


def _join_patients(index: pd.DataFrame, patients: Path, data_set: ImageSet, settings: PatientSettings) -> pd.DataFrame:
    path = find_table(patients if patients.is_file() else None, index)
    if path is None:
        logger.warning(
            "no table of patients: images are split by duplicates alone, so those of one patient may be in two sets; "
            "give a table with `--params classification_patients=PATH`"
        )
        return index.assign(patient="")
    return add_patients(index, read_patients(path, settings, data_set.classes), path, settings)


def _inspections(
    images: Sequence[ImageFile], source: Path, inspections: joblib.Memory, workers: WorkerSettings
) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Rows of the index and views of the images, part by part; remembered by the state of the files.

    Hashing all the arguments would take longer.
    """
    inspect = inspections.cache(_inspect, ignore=["images", "source"])
    parts = [images[start : start + PART] for start in range(0, len(images), PART)]
    tasks = [
        (fingerprint(INSPECTION, str(source), [(image.state, image.problem) for image in part]), part, source)
        for part in parts
    ]
    changed = [task for task in tasks if not inspect.check_call_in_cache(*task)]
    if changed:
        logger.info(
            "%d images in %s, %d in parts that are new or changed since the last run",
            len(images),
            source,
            sum(len(part) for _, part, _ in changed),
        )
    deque(parallel_map(inspect, changed, workers, "inspecting", unit="part"), maxlen=0)
    for task in tasks:
        part = inspect(*task)
        if part[0]["excluded"].str.startswith(CANT_BE_READ).any():
            inspect.call_and_shelve(*task).clear()  # which may have passed by the next run
        yield part


def _inspect(state: str, images: Sequence[ImageFile], source: Path) -> tuple[pd.DataFrame, np.ndarray]:  # noqa: ARG001
    return inspect_images(images, source)


def compare_images(
    index: pd.DataFrame,
    source: Path,
    inspections: joblib.Memory,
    data_set: ImageSet,
    duplicate_settings: DuplicateSettings,
    workers: WorkerSettings,
) -> pd.DataFrame:
    """Pairs of images that might be duplicates.

    Rows `first`, `second`, `flip`, `distance` of their hashes, `similarity` of their detail.

    Identical images have a row for each but the first, with similarity 1. Images that are duplicates through others are
    not compared again.
    """
    compare = inspections.cache(_compare, ignore=["index", "views", "workers"])
    views = np.concatenate(
        [part for _, part in _inspections(find_images(source, data_set), source, inspections, workers)]
    )
    used = np.flatnonzero(index["excluded"] == "")
    state = fingerprint(INSPECTION, index.loc[used, ["file", "hash", "perceptual_hash"]].to_numpy().tolist())
    pairs = compare(state, duplicate_settings, index.loc[used].reset_index(drop=True), views[used], workers)
    logger.info(
        "%d pairs compared, %d of them duplicates",
        len(pairs),
        (pairs["similarity"] >= duplicate_settings.similarity).sum(),
    )
    return pairs


def _compare(
    state: str,  # noqa: ARG001
    duplicate_settings: DuplicateSettings,
    index: pd.DataFrame,
    views: np.ndarray,
    workers: WorkerSettings,
) -> pd.DataFrame:
    original = index.groupby("hash")["file"].transform("first")
    unique = index[original == index["file"]]
    hashes = np.array([int(text, 16) for text in unique["perceptual_hash"]], np.uint64)
    near = find_near_duplicates(hashes, views[unique.index], duplicate_settings, workers)
    files = unique["file"].to_numpy()
    near = near.assign(first=files[near["first"]], second=files[near["second"]], flip=np.array(FLIPS)[near["flip"]])
    again = index[original != index["file"]]
    identical = pd.DataFrame(
        {"first": original[again.index], "second": again["file"], "flip": FLIPS[0], "distance": 0, "similarity": 1.0}
    )
    return pd.concat([identical, near], ignore_index=True)


def group_duplicates(
    index: pd.DataFrame, pairs: pd.DataFrame, data_set: ImageSet, duplicate_settings: DuplicateSettings
) -> pd.DataFrame:
    """A row for each image that has duplicates.

    Its `group`, how many are in it, whether one is identical to it, and what the group spans.
    """
    same = pairs[pairs["similarity"] >= duplicate_settings.similarity]
    table = index.loc[index["excluded"] == "", ["file", "folder", "class", "hash"]].sort_values(
        "file", ignore_index=True
    )
    number = pd.Series(table.index, table["file"])
    table["group"] = join_groups(len(table), number[same["first"]].to_numpy(), number[same["second"]].to_numpy())
    table = table[table.duplicated("group", keep=False)]
    group = table.groupby("group")
    table["images"] = group["file"].transform("size")
    table["identical"] = table.duplicated("hash", keep=False)
    table["both_folders"] = group["folder"].transform("nunique") > 1
    table["conflict"] = group["class"].transform("nunique") > 1
    table["group"] = [f"g{1 + number:05d}" for number in pd.factorize(table["group"])[0]]
    testing = table["folder"] == data_set.testing
    logger.info(
        "%d images in %d groups of duplicates; %d test images have a duplicate in %s",
        len(table),
        group.ngroups,
        (testing & table["both_folders"]).sum(),
        data_set.training,
    )
    return table.drop(columns="hash").sort_values(["group", "file"], ignore_index=True)


def prepare_images(
    index: pd.DataFrame, source: Path, data_set: ImageSet, preparation: ImagePreparation, workers: WorkerSettings
) -> StoreContent:
    """Every image in use, grey, without its borders, in one size; read again only if files or settings changed."""
    used = index[index["excluded"] == ""]
    description = {
        "data_set": data_set.name,
        "classes": list(data_set.classes),
        "healthy": data_set.healthy,
        **preparation.model_dump(),
        "preparation": PREPARATION,
        "intensities": "grey levels from 0 to 255",
        "simulated": bool(index["simulated"].any()),
    }
    rows = used[["file", "class", "hash", "width", "height", *BoundingBox._fields]]
    outlines = find_outlines(index)
    mark = fingerprint(description, rows.to_numpy().tolist(), len(outlines))
    chunks = _prepare(rows, source, data_set, preparation, outlines, workers)
    return StoreContent(description | {"fingerprint": mark}, chunks)


def _prepare(
    rows: pd.DataFrame,
    source: Path,
    data_set: ImageSet,
    preparation: ImagePreparation,
    outlines: dict[str, Outline],
    workers: WorkerSettings,
) -> Iterator[Chunk]:
    tasks = []
    for start in range(0, len(rows), PART):
        part = rows.iloc[start : start + PART]
        own = {file: outlines[file] for file in part["file"] if file in outlines}
        tasks.append((part, source, data_set, preparation, own))
    yield from parallel_map(prepare_part, tasks, workers, "preparing", unit="part")


def prepare_part(
    rows: pd.DataFrame,
    source: Path,
    data_set: ImageSet,
    preparation: ImagePreparation,
    outlines: dict[str, Outline],
) -> Chunk:
    """Rows of the store for some images: `tumour` is the mask of the outline, all 0 where there is none."""
    tumour = np.zeros((len(rows), preparation.image_size, preparation.image_size), np.uint8)
    for number, (_, row) in enumerate(rows.iterrows()):
        if row["file"] in outlines:
            tumour[number] = draw_tumour(outlines[row["file"]], row["width"], row["height"], _box(row), preparation)
    label = np.array([data_set.classes.index(kind) for kind in rows["class"]], np.uint8)
    return {
        "image": cut_images(rows, source, preparation)[:, None],
        "label": label,
        "tumour": tumour,
        "file": rows["file"].to_numpy(object),
    }


def _box(row: pd.Series) -> BoundingBox:
    return BoundingBox(*(int(row[side]) for side in BoundingBox._fields))


def split_images(
    index: pd.DataFrame, duplicates: pd.DataFrame, data_set: ImageSet, settings: image_split.ImageSplitSettings
) -> pd.DataFrame:
    """Each image's set, and the test sets it is in."""
    splits = image_split.split_images(index, duplicates, data_set, settings)
    used = splits[splits["split"] != ""]
    if settings.policy == image_split.PATIENT:
        logger.info(
            "policy patient: %d images of %d patients or groups of duplicates in %d folds",
            len(used),
            used["person"].nunique(),
            settings.folds,
        )
        return splits
    sets = ", ".join(f"{count} {name or 'not used'}" for name, count in splits["split"].value_counts().items())
    logger.info(
        "policy %s: %s; %d in the deduplicated test set", settings.policy, sets, splits["deduplicated_test"].sum()
    )
    return splits


def draw_data(
    index: pd.DataFrame,
    pairs: pd.DataFrame,
    duplicates: pd.DataFrame,
    splits: pd.DataFrame,
    source: Path,
    data_set: ImageSet,
    duplicate_settings: DuplicateSettings,
) -> Figures:
    """Counts, borders before and after, similarities, and pairs on both sides of the threshold."""
    from brain_tumor.figures.classification_data import (
        choose_borders,
        choose_pairs,
        draw_borders,
        draw_counts,
        draw_pairs,
        draw_similarity,
    )

    title = f"{data_set.name}{', SIMULATED' if index['simulated'].any() else ''}"
    rows = {row["file"]: row for _, row in index.iterrows()}

    def read(file: str) -> tuple[np.ndarray, BoundingBox]:
        return read_image(source / file).grey, _box(rows[file])

    return {
        "1_counts": draw_counts(
            index, duplicates, splits, (data_set.training, data_set.testing), data_set.classes, title
        ),
        "2_borders": draw_borders([_cut(file, *read(file)) for file in choose_borders(index)], title),
        "3_similarity": draw_similarity(pairs, duplicate_settings.similarity, title),
        "4_pairs": draw_pairs(
            [_pair(row, read) for row in choose_pairs(pairs, duplicate_settings.similarity).itertuples()], title
        ),
    }


def _cut(file: str, grey: np.ndarray, box: BoundingBox) -> Any:
    from brain_tumor.figures.classification_data import Cut

    return Cut(Path(file).name, grey, box, cut(grey, box, VIEW))


def _pair(row: Any, read: Callable[[str], tuple[np.ndarray, BoundingBox]]) -> tuple[str, np.ndarray, np.ndarray]:
    first, second = (cut(*read(file), VIEW) for file in (row.first, row.second))
    names = " | ".join(Path(file).stem for file in (row.first, row.second))
    return f"{row.similarity:.2f}  {names}\n{row.flip}", first, flipped(second, FLIPS.index(row.flip))


def write_data_report(
    index: pd.DataFrame,
    pairs: pd.DataFrame,
    duplicates: pd.DataFrame,
    splits: pd.DataFrame,
    images: Store,
    source: Path,
    figures: dict[str, bytes],
    data_set: ImageSet,
    duplicate_settings: DuplicateSettings,
    policy: image_split.ImageSplitSettings,
) -> str:
    """The report on the data as one HTML page."""
    planted = source / PLANTED
    found = count_planted(pd.read_csv(planted), duplicates) if planted.is_file() else None
    return compose_data_report(
        index, pairs, duplicates, splits, images.description, figures, data_set, duplicate_settings, policy, found
    )


def write_data_sheet(
    index: pd.DataFrame,
    duplicates: pd.DataFrame,
    splits: pd.DataFrame,
    images: Store,
    data_set: ImageSet,
    duplicate_settings: DuplicateSettings,
    policy: image_split.ImageSplitSettings,
    origin: Origin,
) -> str:
    """The data sheet of the images."""
    return compose_data_sheet(
        index, duplicates, splits, images.description, data_set, duplicate_settings, policy, origin
    )
