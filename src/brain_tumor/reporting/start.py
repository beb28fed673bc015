"""What reports and cards say of the weights that a network started from."""

from brain_tumor.figures.palette import name_network
from brain_tumor.networks.trained import TrainedNetwork

NAMED = 10
"""Patients that a sentence names."""


def tell_start(network: TrainedNetwork) -> str:
    """Whether a network started from pretrained weights: of its library, of a file, or of this project."""
    about = network.description
    if about.get("initialised_from"):
        return "yes (this project)"
    if not about.get("pretrained"):
        return "no"
    # What a library downloads has an address.
    return "yes (library)" if "://" in about["pretrained"]["source"] else "yes (file)"


def say_start(network: TrainedNetwork) -> str:
    """What weights of this project that a network started from mean for its scores; empty where there are none."""
    before, name = network.description.get("initialised_from"), name_network(network.experiment)
    if not before:
        return ""
    if before.get("scored") is None:
        return f"{name} started from weights whose file doesn't list their training patients: its scores may flatter."
    if before["scored"]:
        known = _name(before["scored"])
        return f"{name} started from weights that were trained on patients scored here ({known}): its scores flatter."
    return f"{name} started from weights that were trained on none of these patients, by their names."


def _name(patients: list[str]) -> str:
    more = f" and {len(patients) - NAMED} more" if len(patients) > NAMED else ""
    return ", ".join(patients[:NAMED]) + more
