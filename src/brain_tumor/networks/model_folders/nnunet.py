"""Model folders of nnU-Net v2 (Isensee et al. 2021): `nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Num
from nibabel.affines import voxel_sizes

if TYPE_CHECKING:
    import torch

    from brain_tumor.networks.model_folders.folder import Predict

KIND = "nnU-Net"

PACKAGE = "nnunetv2"

MARK = "plans.json"

CHECKPOINT = "checkpoint_final.pth"

IGNORED = "ignore"
"""A label that nnU-Net trains on nothing where it is, and never predicts."""


def describe(path: Path) -> dict[str, Any]:
    """Entries of a ModelFolder, and the files of its weights.

    Raises:
        ValueError: if it holds no finished training.
    """
    weights = sorted(path.glob(f"fold_*/{CHECKPOINT}"))
    if not weights:
        raise ValueError(f"no fold_*/{CHECKPOINT} is in it: no training has ended")
    about = json.loads((path / "dataset.json").read_text(encoding="utf-8"))
    labels = {name: label for name, label in about["labels"].items() if name != IGNORED}
    regions = [name for name, label in labels.items() if isinstance(label, list)]
    channels = about["channel_names"]
    return {
        "name": json.loads((path / MARK).read_text(encoding="utf-8"))["dataset_name"],
        "channels": tuple(channels[number] for number in sorted(channels, key=int)),
        "classes": tuple(_without_background(labels) if regions else sorted(labels, key=labels.__getitem__)),
        "exclusive": not regions,
        "simulated": about.get("simulated", False),
        "weights": weights,
    }


def _without_background(labels: dict[str, Any]) -> list[str]:
    return [name for name, label in labels.items() if label not in (0, [0])]


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
    predictor.initialize_from_trained_model_folder(str(path), None, CHECKPOINT)

    def predict(image: Num[np.ndarray, "m h w d"], affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "k h w d"]:
        # Axes z, y, x, as SimpleITK reads the volumes of BraTS.
        array = np.ascontiguousarray(image.transpose(0, 3, 2, 1), np.float32)
        spacing = {"spacing": voxel_sizes(affine)[::-1].tolist()}
        _, probability = predictor.predict_single_npy_array(array, spacing, save_or_return_probabilities=True)
        return np.asarray(probability, np.float32).transpose(0, 3, 2, 1)

    return predict
