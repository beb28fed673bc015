"""MONAI bundles (Cardoso et al. 2022, arXiv:2211.02701): `configs/metadata.json`, `configs/inference.json`, weights."""

import json
import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from jaxtyping import Float, Num

if TYPE_CHECKING:
    import torch

    from brain_tumor.networks.model_folders.axes import Predict

KIND = "MONAI bundle"

PACKAGE = "monai"

MARK = "configs/metadata.json"

CONFIGS = ("inference.json", "inference.yaml", "inference.yml")

WEIGHTS = "models/model.pt"

BACKGROUND = "background"


def describe(path: Path) -> dict[str, Any]:
    """Entries of a ModelFolder, and the files that decide what it predicts.

    Raises:
        ValueError: if weights or configuration are missing, or it doesn't say what goes in and out.
    """
    if not (path / WEIGHTS).is_file():
        raise ValueError(f"{WEIGHTS} isn't there; `python -m monai.bundle download` brings it")
    about = json.loads((path / MARK).read_text(encoding="utf-8"))
    data = about["network_data_format"]
    classes = _name_channels(data, "outputs")
    return {
        "name": about.get("name", path.name),
        "channels": _name_channels(data, "inputs"),
        "classes": classes,
        "exclusive": classes[0].lower() == BACKGROUND,
        "files": [path / WEIGHTS, _find_config(path), path / MARK],
    }


def _find_config(path: Path) -> Path:
    config = next((file for name in CONFIGS if (file := path / "configs" / name).is_file()), None)
    if config is None:
        raise ValueError(f"none of {', '.join(CONFIGS)} is in its folder configs")
    return config


def _name_channels(data: dict[str, Any], which: str) -> tuple[str, ...]:
    """Names of the channels of the one image that goes in or out, in their order."""
    if len(data[which]) != 1:
        raise ValueError(f"{MARK} has {len(data[which])} {which}; bundles with one are supported")
    (image,) = data[which].values()
    channels = image.get("channel_def")
    if not channels:
        raise ValueError(f"{MARK} doesn't name the channels of its {which}; add `channel_def`")
    return tuple(channels[number] for number in sorted(channels, key=int))


def open_network(path: Path, device: "torch.device", *, mirrored: bool) -> "Predict":
    """Network, preprocessing and inferer of the bundle, and of its postprocessing what comes before labels.

    Raises:
        ValueError: if the bundle lacks one of them, or its weights don't fit.
    """
    import torch
    from monai.bundle import ConfigParser

    del mirrored  # the inferer of the bundle says what is averaged
    # Bundles import the code beside them as `scripts`.
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))
    # MONAI says that it lacks a decoder of DICOM, which NIfTI files don't need.
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    parser = ConfigParser()
    parser.read_config(_find_config(path))
    parser.read_meta(path / MARK)
    parser["bundle_root"] = str(path)
    parser["device"] = f"$torch.device('{device}')"
    names = ("network_def", "preprocessing", "inferer", "postprocessing")
    missing = [name for name in names if name not in parser]
    if missing:
        raise ValueError(f"its configuration has no {' and no '.join(missing)}")
    parser["postprocessing"]["transforms"] = _stop_at_probabilities(parser["postprocessing"]["transforms"])
    network, prepare, infer, finish = (parser.get_parsed_content(name) for name in names)
    weights = torch.load(path / WEIGHTS, map_location=device, weights_only=True)
    network.load_state_dict(weights.get("model", weights))
    network.to(device).eval()
    key = parser.get("image_key", "image")

    def predict(image: Num[np.ndarray, "m x y z"], affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "k ..."]:
        # Bundles begin with reading files.
        with TemporaryDirectory() as folder, torch.inference_mode():
            files = [str(Path(folder, f"{number}.nii.gz")) for number in range(len(image))]
            for file, volume in zip(files, image, strict=True):
                nib.save(nib.Nifti1Image(volume.astype(np.float32), affine), file)
            data = prepare({key: files if len(files) > 1 else files[0]})
            data["pred"] = infer(data[key][None].to(device), network)[0]
            probability = finish(data)["pred"]
        return np.asarray(probability.cpu(), np.float32)

    return predict


def _stop_at_probabilities(transforms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Transforms up to the one that returns to the grid of the scan, or without it the one that makes probabilities.

    Raises:
        ValueError: if these make no probabilities, or labels of them.
    """
    names = [transform["_target_"].rpartition(".")[2] for transform in transforms]
    if "Activationsd" not in names:
        raise ValueError("its postprocessing makes no probabilities: there is no Activationsd in it")
    end = names.index("Invertd") if "Invertd" in names else names.index("Activationsd")
    if "Activationsd" not in names[: end + 1] or "AsDiscreted" in names[: end + 1]:
        raise ValueError(
            "its postprocessing makes labels before it returns to the scan; put Invertd before AsDiscreted"
        )
    return transforms[: end + 1]
