"""Model folders of nnU-Net v2 (Isensee et al. 2021): `nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION`."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Num
from nibabel.affines import voxel_sizes

if TYPE_CHECKING:
    import torch

    from brain_tumor.networks.model_folders.axes import Predict

KIND = "nnU-Net"

PACKAGE = "nnunetv2"

MARK = "plans.json"

CHECKPOINT = "checkpoint_final.pth"

IGNORED = "ignore"
"""A label that nnU-Net trains on nothing where it is, and never predicts."""

REORIENTING = "WithReorient"
"""Ends the names of nnU-Net's readers that turn volumes to axes R, A, S."""


def describe(path: Path) -> dict[str, Any]:
    """Entries of a ModelFolder, and the files that decide what it predicts.

    Raises:
        ValueError: if it holds no finished training, or one that needs another before it.
    """
    plans = json.loads((path / MARK).read_text(encoding="utf-8"))
    configuration = plans.get("configurations", {}).get(path.name.rpartition("__")[2], {})
    if "previous_stage" in configuration:
        raise ValueError("it is the second stage of a cascade; give a 2d or 3d_fullres model")
    about = json.loads((path / "dataset.json").read_text(encoding="utf-8"))
    # Lists of one label are no regions, as in nnU-Net.
    has_regions = any(isinstance(label, list) and len(label) > 1 for label in about["labels"].values())
    labels = {name: _first(label) for name, label in about["labels"].items() if name != IGNORED}
    regions = [name for name, label in labels.items() if label != 0]
    channels = about["channel_names"]
    weights = [path / fold / CHECKPOINT for fold in find_folds(path)]
    return {
        "name": plans["dataset_name"],
        "channels": tuple(channels[number] for number in sorted(channels, key=int)),
        "classes": tuple(regions if has_regions else sorted(labels, key=labels.__getitem__)),
        "exclusive": not has_regions,
        "axes": "RAS" if plans.get("image_reader_writer", "").endswith(REORIENTING) else None,
        "simulated": about.get("simulated", False),
        "files": [*weights, path / MARK, path / "dataset.json"],
    }


def _first(label: int | list[int]) -> int:
    return label[0] if isinstance(label, list) else label


def find_folds(path: Path) -> list[str]:
    """Folders of the trainings that have ended: of folds if there are any, otherwise of all patients.

    Raises:
        ValueError: if none has.
    """
    names = sorted(file.parent.name for file in path.glob(f"fold_*/{CHECKPOINT}"))
    folds = [name for name in names if re.fullmatch(r"fold_\d+", name)] or [n for n in names if n == "fold_all"]
    if not folds:
        raise ValueError(f"no training has ended: there is no fold_*/{CHECKPOINT}")
    return folds


def open_network(path: Path, device: "torch.device", *, mirrored: bool) -> "Predict":
    """All folds of the folder, whose logits nnU-Net averages."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        use_mirroring=mirrored,
        perform_everything_on_device=device.type == "cuda",
        device=device,
        verbose_preprocessing=False,
        allow_tqdm=False,
    )
    folds = tuple(name.removeprefix("fold_") for name in find_folds(path))
    predictor.initialize_from_trained_model_folder(str(path), folds, CHECKPOINT)

    def predict(image: Num[np.ndarray, "m x y z"], affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "k ..."]:
        # Axes z, y, x, as nnU-Net's readers have them.
        array = np.ascontiguousarray(image.transpose(0, 3, 2, 1), np.float32)
        spacing = {"spacing": voxel_sizes(affine)[::-1].tolist()}
        _, probability = predictor.predict_single_npy_array(array, spacing, save_or_return_probabilities=True)
        return np.asarray(probability, np.float32).transpose(0, 3, 2, 1)

    return predict
