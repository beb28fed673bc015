"""MONAI bundles (Cardoso et al. 2022, arXiv:2211.02701): `configs/metadata.json`, `configs/inference.json`, weights."""

import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from jaxtyping import Float, Num

if TYPE_CHECKING:
    import torch

    from brain_tumor.networks.model_folders.folder import Predict

KIND = "MONAI bundle"

PACKAGE = "monai"

MARK = "configs/metadata.json"

CONFIGS = ("inference.json", "inference.yaml", "inference.yml")

WEIGHTS = "models/model.pt"

BACKGROUND = "background"


def describe(path: Path) -> dict[str, Any]:
    """Entries of a ModelFolder, and the files of its weights.

    Raises:
        ValueError: if weights or configuration are missing.
    """
    if not (path / WEIGHTS).is_file():
        raise ValueError(f"{WEIGHTS} isn't there: `python -m monai.bundle download` brings it")
    _find_config(path)
    about = json.loads((path / MARK).read_text(encoding="utf-8"))
    data = about["network_data_format"]
    (given,), (found,) = data["inputs"].values(), data["outputs"].values()
    classes = _in_order(found["channel_def"])
    return {
        "name": about.get("name", path.name),
        "channels": _in_order(given["channel_def"]),
        "classes": classes,
        "exclusive": classes[0].lower() == BACKGROUND,
        "weights": [path / WEIGHTS],
    }


def _find_config(path: Path) -> Path:
    config = next((file for name in CONFIGS if (file := path / "configs" / name).is_file()), None)
    if config is None:
        raise ValueError(f"none of {', '.join(CONFIGS)} is in configs")
    return config


def _in_order(channels: dict[str, str]) -> tuple[str, ...]:
    return tuple(channels[number] for number in sorted(channels, key=int))


def open_network(path: Path, device: "torch.device", *, mirrored: bool) -> "Predict":
    """Network, preprocessing and inferer of the bundle, and of its postprocessing what comes before labels.

    Raises:
        ValueError: if the bundle lacks one of them, or its weights don't fit.
    """
    import torch
    from monai.bundle import ConfigParser

    del mirrored  # the inferer of the bundle says what is averaged

    # MONAI says that it lacks a decoder of DICOM, which NIfTI files don't need.
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    parser = ConfigParser()
    parser.read_config(_find_config(path))
    parser.read_meta(path / MARK)
    parser["bundle_root"] = str(path)
    parser["device"] = f"$torch.device('{device}')"
    parser["postprocessing"]["transforms"] = _keep_probabilities(parser["postprocessing"]["transforms"])
    names = ("network_def", "preprocessing", "inferer", "postprocessing")
    network, prepare, infer, finish = (parser.get_parsed_content(name) for name in names)
    weights = torch.load(path / WEIGHTS, map_location=device, weights_only=True)
    network.load_state_dict(weights.get("model", weights))
    network.to(device).eval()
    key = parser.get("image_key", "image")

    def predict(image: Num[np.ndarray, "m h w d"], affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "k h w d"]:
        # Bundles begin with reading files.
        with TemporaryDirectory() as folder, torch.inference_mode():
            files = [str(Path(folder, f"{number}.nii.gz")) for number in range(len(image))]
            for file, volume in zip(files, image, strict=True):
                nib.save(nib.Nifti1Image(volume.astype(np.float32), affine), file)
            data = prepare({key: files if len(files) > 1 else files[0]})
            data["pred"] = infer(data[key][None].to(device), network)[0]
            probability = finish(data)["pred"]
        if probability.shape[1:] != image.shape[1:]:
            found = " x ".join(map(str, probability.shape[1:]))
            raise ValueError(f"{path} gives masks of {found} voxels, which don't lie on the scan: it has no Invertd")
        return np.asarray(probability.cpu(), np.float32)

    return predict


def _keep_probabilities(transforms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Up to the one that returns to the grid of the scan; without it, what makes probabilities."""
    names = [transform["_target_"] for transform in transforms]
    end = names.index("Invertd") + 1 if "Invertd" in names else names.index("Activationsd") + 1
    return transforms[:end]
