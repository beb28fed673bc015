"""What the modalities and classes of a model folder are in the declared data set."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.networks.model_folders.folder import ModelFolder

LEAST = 0.5
"""Probability from which a voxel is in a region."""


def match_modalities(folder: ModelFolder, data_set: DataSet, names: Mapping[str, str]) -> list[int]:
    """Of each input channel of the network, the place of its modality in the data set.

    Args:
        names: what the folder calls it > the declared name, where they differ by more than spelling.

    Raises:
        ValueError: if a channel is none of the modalities.
    """
    known = {_plain(name): name for name in data_set.modality_names}
    known |= {_plain(suffix): each.name for each in data_set.modalities for suffix in each.suffixes}
    found = _match(folder, "input", folder.channels, known, names, data_set.modality_names)
    return [data_set.modality_names.index(name) for name in found]


def _match(
    folder: ModelFolder,
    what: str,
    own: Sequence[str],
    known: Mapping[str, str],
    names: Mapping[str, str],
    declared: Sequence[str],
) -> list[str]:
    matched = [names.get(name) or known.get(_plain(name)) or known.get(_initials(name)) for name in own]
    unknown = [name for name, found in zip(own, matched, strict=True) if found not in declared]
    if unknown:
        raise ValueError(
            f"{folder.path}: its {what} is called {', '.join(own)}; {', '.join(unknown)} could be any of the declared "
            f"{', '.join(declared)}: set inference_names: {{{unknown[0]}: {declared[0]}}} in conf/local/parameters.yml"
        )
    return [found for found in matched if found]


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _initials(name: str) -> str:
    """`et` of "Enhancing tumor"."""
    return "".join(word[0] for word in name.lower().split())


@dataclass(frozen=True)
class LabelRule:
    """How labels of tissues follow from the probabilities of a model folder's classes.

    Attributes:
        exclusive: whether the most probable class counts; otherwise each region from LEAST on, inner ones last.
        labels: of each class, the label that its voxels get; 0 for background.
        tissues: of each class, the labels that it is made of.
    """

    exclusive: bool
    labels: tuple[int, ...]
    tissues: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, folder: ModelFolder, data_set: DataSet, names: Mapping[str, str]) -> "LabelRule":
        """The rule of a folder.

        Raises:
            ValueError: if a class is none of the declared tissues and regions, or what is left of a region outside
                those in it isn't one tissue.
        """
        targets = data_set.targets
        classes = folder.classes[1:] if folder.exclusive else folder.classes
        found = _match(folder, "output", classes, {_plain(name): name for name in targets}, names, [*targets])
        tissues = [targets[name] for name in found]
        labels = []
        for name, own in zip(found, tissues, strict=True):
            inner = {label for other in tissues if set(other) < set(own) for label in other}
            rest = sorted(set(own) - inner)
            if len(rest) != 1 or (folder.exclusive and len(own) > 1):
                several = " and ".join(data_set.tissue_names[label - 1] for label in own)
                raise ValueError(f"{folder.path}: its class {name} is {several} in one, which it doesn't tell apart")
            labels += rest
        if folder.exclusive:
            return cls(True, (0, *labels), ((), *tissues))
        return cls(False, tuple(labels), tuple(tissues))

    def to_labels(self, probability: Float[np.ndarray, "k h w d"]) -> UInt8[np.ndarray, "h w d"]:
        """The label of each voxel."""
        if self.exclusive:
            return np.array(self.labels, np.uint8)[probability.argmax(0)]
        labels = np.zeros(probability.shape[1:], np.uint8)
        for number in sorted(range(len(self.labels)), key=lambda number: -len(self.tissues[number])):
            labels[probability[number] >= LEAST] = self.labels[number]
        return labels

    def to_steps(self, probability: Float[np.ndarray, "k h w d"], tissues: int) -> UInt8[np.ndarray, "t h w d"]:
        """The probability of each tissue in steps of 1/255: of a region, less that of the largest region in it."""
        steps = np.zeros((tissues, *probability.shape[1:]), np.uint8)
        for number, label in enumerate(self.labels):
            if label:
                own = set(self.tissues[number])
                inner = [other for other, those in enumerate(self.tissues) if those and set(those) < own]
                held = np.max(probability[inner], axis=0) if inner else 0
                steps[label - 1] = (255 * np.clip(probability[number] - held, 0, 1)).round()
        return steps
