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

SPELT_OUT = {"wholetumor": "WT", "tumorcore": "TC", "enhancingtumor": "ET"}
"""Regions and tissue of BraTS as others write them, in letters and digits alone > the usual name."""


def match_modalities(folder: ModelFolder, data_set: DataSet, names: Mapping[str, str]) -> list[int]:
    """Of each input channel of the network, the place of its modality in the data set.

    Args:
        names: what the folder calls it > the declared name, where they differ by more than spelling.

    Raises:
        ValueError: if a channel is none of the modalities, or two are one.
    """
    known = {_plain(name): name for name in data_set.modality_names}
    known |= {_plain(suffix): each.name for each in data_set.modalities for suffix in each.suffixes}
    found = _match(folder, "input", folder.channels, known, names, data_set.modality_names)
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise ValueError(f"{folder.path}: two channels of its input ({', '.join(folder.channels)}) are {twice[0]}")
    return [data_set.modality_names.index(name) for name in found]


def _match(
    folder: ModelFolder,
    what: str,
    own: Sequence[str],
    known: Mapping[str, str],
    names: Mapping[str, str],
    declared: Sequence[str],
) -> list[str]:
    matched = [names.get(name, known.get(_plain(name))) for name in own]
    unknown = [name for name, found in zip(own, matched, strict=True) if found not in declared]
    if unknown:
        wrong = [f"inference_names has {names[name]} for {name}, " for name in unknown if name in names]
        raise ValueError(
            f"{folder.path}: its {what} is called {', '.join(own)}; {''.join(wrong[:1])}declared are "
            f"{', '.join(declared)}: say which of them {', '.join(unknown)} is in conf/local/parameters.yml: "
            f"inference_names: {{{unknown[0]}: NAME}}"
        )
    return [found for found in matched if found]


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower()).replace("tumour", "tumor")


def require_used(folder: ModelFolder, names: Mapping[str, str]) -> None:
    """Refuse names that the folder doesn't have.

    Raises:
        ValueError: naming the first one.
    """
    own = [*folder.channels, *folder.classes]
    unused = [name for name in names if name not in own]
    if unused:
        raise ValueError(f"inference_names has {unused[0]}, which {folder.path} has not; it has {', '.join(own)}")


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
            ValueError: if a class is none of the declared tissues and regions, what is left of a region outside those
                in it isn't one tissue, or a tissue is in no class.
        """
        targets = data_set.targets
        known = {_plain(name): name for name in targets}
        known |= {words: name for words, name in SPELT_OUT.items() if name in targets}
        found = _match(folder, "output", folder.tumour_classes, known, names, [*targets])
        tissues = [targets[name] for name in found]
        labels = []
        for name, own in zip(found, tissues, strict=True):
            inner = {label for other in tissues if set(other) < set(own) for label in other}
            rest = sorted(set(own) - inner)
            if len(rest) != 1 or (folder.exclusive and len(own) > 1):
                several = " and ".join(data_set.tissue_names[label - 1] for label in own)
                raise ValueError(f"{folder.path}: its class {name} is {several} in one, which it doesn't tell apart")
            labels += rest
        absent = [name for label, name in enumerate(data_set.tissue_names, 1) if label not in labels]
        if absent:
            raise ValueError(f"{folder.path}: none of its classes ({', '.join(folder.classes)}) is {absent[0]}")
        if folder.exclusive:
            return cls(True, (0, *labels), ((), *tissues))
        return cls(False, tuple(labels), tuple(tissues))

    def to_labels(self, probability: Float[np.ndarray, "k ..."]) -> UInt8[np.ndarray, "..."]:
        """The label of each voxel."""
        if self.exclusive:
            return np.array(self.labels, np.uint8)[probability.argmax(0)]
        labels = np.zeros(probability.shape[1:], np.uint8)
        for number in sorted(range(len(self.labels)), key=lambda number: -len(self.tissues[number])):
            labels[probability[number] >= LEAST] = self.labels[number]
        return labels

    def to_steps(self, probability: Float[np.ndarray, "k ..."]) -> UInt8[np.ndarray, "t ..."]:
        """The probability of each tissue in steps of 1/255: of a region, less those of the regions in it."""
        tissues = np.zeros((max(self.labels), *probability.shape[1:]), np.float32)
        for number, label in enumerate(self.labels):
            if label:
                held = sum(probability[other] for other in self._find_inner(number))
                tissues[label - 1] += np.clip(probability[number] - held, 0, 1)
        return (255 * tissues.clip(0, 1)).round().astype(np.uint8)

    def _find_inner(self, number: int) -> list[int]:
        """Regions that lie in a region, and in no other of these."""
        own = set(self.tissues[number])
        inner = [other for other, tissues in enumerate(self.tissues) if tissues and set(tissues) < own]
        return [one for one in inner if not any(set(self.tissues[one]) < set(self.tissues[other]) for other in inner)]
