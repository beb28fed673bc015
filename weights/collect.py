"""Copy networks of a run into this folder, with their scores in the header, and write their cards.

Classifiers:

    kedro run --pipelines classification --env full --params classification_source=FOLDER
    python weights/collect.py classification cnn alexnet

Segmentation networks, cross-validated by the commands in their cards:

    python weights/collect.py segmentation classic_unet residual_attention_unet
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import classifiers
import segmenters

from brain_tumor.data.common.atomic import replacing
from brain_tumor.networks.trained import TrainedNetwork, read_network, write_network

HERE = Path(__file__).parent
TASKS = {module.TASK: module for module in (classifiers, segmenters)}
LARGEST = 20e6
"""Most bytes of a file that ships with the project."""


def read_measured(data: Path, task: str, name: str) -> TrainedNetwork:
    """A network of a run, with its scores in the header."""
    network = read_network(data / f"06_models/{task}/{name}/network.safetensors")
    return replace(network, description=network.description | TASKS[task].measure(data, name))


def keep(network: TrainedNetwork) -> None:
    """Write a network into this folder, in fp16.

    Raises:
        ValueError: if it is too large to ship.
    """
    with replacing(HERE / f"{network.experiment}.safetensors") as draft:
        write_network(draft, network, half=True)
        if draft.stat().st_size > LARGEST:
            raise ValueError(f"{network.experiment} takes more than {LARGEST / 1e6:.0f} MB; leave it out")


def read_kept(task: str, names: Sequence[str]) -> list[TrainedNetwork]:
    """Networks for a task that are here already, apart from those that are collected."""
    kept = [read_network(file) for file in sorted(HERE.glob("*.safetensors")) if file.stem not in names]
    return [network for network in kept if TASKS[task].MARK in network.description]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the data folder of the run")
    arguments = parser.parse_args()
    networks = [read_measured(arguments.data, arguments.task, name) for name in arguments.networks]
    # Before the files: a network that a card refuses isn't copied.
    cards = TASKS[arguments.task].write_cards([*read_kept(arguments.task, arguments.networks), *networks])
    for network in networks:
        keep(network)
    for name, card in cards.items():
        (HERE / name).write_text(card)
    print(f"{', '.join(arguments.networks)} kept; {', '.join(str(HERE / name) for name in cards)}")
