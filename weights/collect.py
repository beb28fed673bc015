"""Keep trained networks in this folder, with their test scores in the file.

    kedro run --pipelines classification --env full --params classification_source=FOLDER
    python weights/collect.py classification cnn alexnet

The scores are those that the run wrote; weights/README.md is the run's model card.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd

from brain_tumor.networks.trained import read_network, write_network

HERE = Path(__file__).parent
SHIPPED = 20e6
"""Bytes that a file may have to ship with the project."""


def collect(data: Path, task: str, name: str) -> Path:
    """Copy a network; its header says what it reached on the test sets."""
    network = read_network(data / f"06_models/{task}/{name}/network.safetensors")
    scores = pd.read_csv(data / f"08_reporting/{task}/{name}/scores.csv").query("metric in ('accuracy', 'macro_f1', 'calibration_error_scaled')")
    rows = scores[["test_set", "metric", "value", "low", "high", "images"]].to_dict("records")
    path = HERE / f"{name}.safetensors"
    write_network(path, replace(network, description=network.description | {"scores": rows}))
    if path.stat().st_size > SHIPPED:
        path.unlink()
        raise ValueError(f"{name} takes more than {SHIPPED / 1e6:.0f} MB; leave it out")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["classification"])
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the data folder of the run")
    arguments = parser.parse_args()
    for name in arguments.networks:
        print(collect(arguments.data, arguments.task, name))  # noqa: T201
    shutil.copy(arguments.data / f"08_reporting/{arguments.task}/model_card.md", HERE / "README.md")
