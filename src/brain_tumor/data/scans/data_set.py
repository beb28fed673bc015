"""What a data set declares of itself: modalities, tissues, regions, and how its files are named."""

import re
from collections.abc import Iterable
from functools import cached_property

from pydantic import BaseModel, Field, model_validator

from brain_tumor.data.common.pseudonyms import PSEUDONYM

MASK = "mask"

WITHOUT = "without "
"""Before the name of a modality: what a scan is that lacks it."""

MOST_LABEL = 255
"""The largest value in a mask that is written."""

FINEST_MM, COARSEST_MM = 0.2, 20.0
"""Spacing that scanners have: voxels finer than the first are in another unit (1 mm is 0.1 cm), coarser ones too."""

RESERVED = {"brain", "tumour"}
"""Names in tables beside those of the tissues."""


class Modality(BaseModel, frozen=True, extra="forbid"):
    """One contrast. `suffixes` end the names of its NIfTI files, after `_`, `-`, `.` or a space."""

    name: str
    suffixes: tuple[str, ...] = Field(min_length=1)


class Tissue(BaseModel, frozen=True, extra="forbid"):
    """One tissue. `labels`: its values in NIfTI masks, the one to write first."""

    name: str
    labels: tuple[int, ...] = Field(min_length=1)


class Naming(BaseModel, frozen=True, extra="forbid"):
    """Labels that go with a way to name files: publishers changed both at once.

    Attributes:
        files: a regular expression; a patient is named so if it matches the whole name, that of one of the files,
            or of a folder that is named after the patient or a modality.
        labels: name of a tissue > its one value in the masks of these patients; of a tissue that isn't declared it
            means nothing.
    """

    files: str
    labels: dict[str, int]


class Region(BaseModel, frozen=True, extra="forbid"):
    """Tissues taken together."""

    name: str
    tissues: tuple[str, ...] = Field(min_length=1)


class DataSet(BaseModel, frozen=True, extra="forbid"):
    """A segmentation data set. BraTS, or one of your own, written in YAML.

    Attributes:
        modalities: in the order of the channels of `image` in HDF5 slices.
        mask: suffixes of the NIfTI files that hold masks.
        tissues: in the order of the channels of `mask` in HDF5 slices. In a prepared store tissue number k (from 1) is
            label k.
        slice_file: name of an HDF5 slice, with `{volume}` and `{slice}` where the numbers stand.
        slice_patient: the patient that volume belongs to, as a format of `volume`.
        person: a pattern of patients' names whose first group is the person, where a name is one visit of several;
            empty: each patient is a person.
        naming: labels that differ by how files are named; the first that matches counts. Other patients have the labels
            in `tissues`.
        spacing: millimetres of an HDF5 slice, (row, column, slice); NIfTI files carry their own.
        skull_stripped: whether the skull was removed; a scan that still shows one is then noted.
    """

    name: str
    modalities: tuple[Modality, ...] = Field(min_length=1)
    mask: tuple[str, ...] = Field(("seg",), min_length=1)
    tissues: tuple[Tissue, ...] = Field(min_length=1)
    regions: tuple[Region, ...] = ()
    slice_file: str = "volume_{volume}_slice_{slice}.h5"
    slice_patient: str = "{volume:03d}"
    person: str = ""
    naming: tuple[Naming, ...] = ()
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    skull_stripped: bool = True

    @model_validator(mode="after")
    def _names_must_agree(self) -> "DataSet":
        for region in self.regions:
            unknown = set(region.tissues) - set(self.tissue_names)
            if unknown:
                raise ValueError(
                    f"region {region.name} is made of {sorted(unknown)}, which are not tissues; tissues "
                    f"are {self.tissue_names}"
                )
        regions = [region.name for region in self.regions]
        names = [*self.modality_names, MASK, *self.tissue_names, *regions]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"{', '.join(twice)} is declared twice; modalities, tissues and regions need names of "
                f"their own ('{MASK}' is taken)"
            )
        taken = sorted(RESERVED & set(self.tissue_names))
        if taken:
            raise ValueError(
                f"{', '.join(taken)} can't be the name of a tissue: tables have a column of that name for "
                "something else; choose another"
            )
        labels = [label for tissue in self.tissues for label in tissue.labels]
        if len(set(labels)) < len(labels) or min(labels) < 1 or max(labels) > MOST_LABEL:
            raise ValueError(
                f"labels of tissues must be different numbers from 1 to {MOST_LABEL} (0 is background), got {labels}"
            )
        return self

    @model_validator(mode="after")
    def _endings_must_differ(self) -> "DataSet":
        # File names are compared in lower case, so `_T1` and `_t1` are one ending.
        suffixes = [ending.lower() for several in self.volume_suffixes.values() for ending in several]
        twice = sorted({ending for ending in suffixes if suffixes.count(ending) > 1})
        if twice:
            raise ValueError(
                f"the suffixes {', '.join(twice)} are declared twice; one ending can't stand for two "
                "modalities, or for a modality and the mask"
            )
        return self

    @model_validator(mode="after")
    def _naming_must_match(self) -> "DataSet":
        for naming in self.naming:
            try:
                re.compile(naming.files)
            except re.error as error:
                raise ValueError(
                    f"naming.files must be a regular expression, got '{naming.files}' ({error})"
                ) from error
            labels = [label for tissue in self._with_labels(naming) for label in tissue.labels]
            if len(set(labels)) < len(labels) or min(labels) < 1 or max(labels) > MOST_LABEL:
                raise ValueError(
                    f"labels of files named {naming.files} must be different numbers from 1 to "
                    f"{MOST_LABEL}, got {labels}"
                )
        return self

    @model_validator(mode="after")
    def _spacing_must_be_millimetres(self) -> "DataSet":
        if not all(FINEST_MM <= step <= COARSEST_MM for step in self.spacing):
            raise ValueError(
                f"spacing must be {FINEST_MM} to {COARSEST_MM} mm in each direction, got {list(self.spacing)}"
            )
        return self

    @model_validator(mode="after")
    def _patterns_must_match(self) -> "DataSet":
        for field in ("{volume}", "{slice}"):
            if field not in self.slice_file:
                raise ValueError(f"slice_file must hold {field}, got '{self.slice_file}'")
        # Two numbers show whether the format holds the number at all.
        try:
            first = self.slice_patient.format(volume=1)
            second = self.slice_patient.format(volume=2)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                f"slice_patient must be a format of {{volume}}, got '{self.slice_patient}' ({error})"
            ) from error
        if first == second:
            raise ValueError(
                f"slice_patient must hold {{volume}}, got '{self.slice_patient}': all patients would have one name"
            )
        try:
            groups = re.compile(self.person).groups
        except re.error as error:
            raise ValueError(f"person must be a regular expression, got '{self.person}' ({error})") from error
        if self.person and groups != 1:
            raise ValueError(f"person must have one group, the person's part of a patient's name, got '{self.person}'")
        return self

    def find_person(self, patient: str) -> str:
        """The person whose visit this is; the patient where the name has no visit."""
        match = PSEUDONYM.fullmatch(patient) or re.fullmatch(self.person, patient)
        return match[1] if match else patient

    @property
    def modality_names(self) -> list[str]:
        """In the order of the channels."""
        return [modality.name for modality in self.modalities]

    @property
    def tissue_names(self) -> list[str]:
        """In the order of their labels in a store: 1, 2, ..."""
        return [tissue.name for tissue in self.tissues]

    def tissues_of(self, names: Iterable[str]) -> tuple[Tissue, ...]:
        """The tissues with the labels that a patient's masks have.

        Args:
            names: of the patient, of the files and of their folders.
        """
        names = list(names)
        for naming in self.naming:
            if any(re.fullmatch(naming.files, name) for name in names):
                return self._with_labels(naming)
        return self.tissues

    def _with_labels(self, naming: Naming) -> tuple[Tissue, ...]:
        tissues = []
        for tissue in self.tissues:
            label = naming.labels.get(tissue.name)
            if label is None:
                tissues.append(tissue)
            else:
                tissues.append(Tissue(name=tissue.name, labels=(label,)))
        return tuple(tissues)

    @property
    def volume_suffixes(self) -> dict[str, tuple[str, ...]]:
        """Each modality, then `mask` > the suffixes of its NIfTI files."""
        suffixes = {modality.name: modality.suffixes for modality in self.modalities}
        return suffixes | {MASK: self.mask}

    @property
    def kind_of_suffix(self) -> dict[str, str]:
        """Ending of a NIfTI file's name, in lower case > its modality, or `mask`."""
        kinds = {}
        for kind, suffixes in self.volume_suffixes.items():
            for ending in suffixes:
                kinds[ending.lower()] = kind
        return kinds

    @property
    def kind_of_folder(self) -> dict[str, str]:
        """Name of a folder that holds one modality, or the masks, in lower case > which."""
        masks = {"mask": MASK, "masks": MASK}
        names = {name.lower(): name for name in self.modality_names}
        # A declared suffix goes before a name, and both go before the usual folders of masks.
        return masks | names | self.kind_of_suffix

    def is_published(self, name: str) -> bool:
        """Whether a patient is named as those of published HDF5 slices are, in more than a number."""
        before, _, after = self.slice_patient.partition("{")
        ending = after.partition("}")[2]
        if not re.search("[A-Za-z]", before + ending):
            return False
        return re.fullmatch(rf"{re.escape(before)}\d+{re.escape(ending)}", name) is not None

    @cached_property
    def slice_pattern(self) -> re.Pattern[str]:
        """Matches the name of an HDF5 slice; groups `volume` and `slice`."""
        # Escaped first: the dot of `.h5` is a dot, not any character.
        pattern = re.escape(self.slice_file)
        for field in ("volume", "slice"):
            placeholder = re.escape("{" + field + "}")
            pattern = pattern.replace(placeholder, rf"(?P<{field}>\d+)")
        return re.compile(pattern + r"\Z")

    @property
    def targets(self) -> dict[str, tuple[int, ...]]:
        """What is scored: each tissue and each region > the labels of a prepared store that it is made of."""
        label = {tissue: k for k, tissue in enumerate(self.tissue_names, start=1)}
        targets: dict[str, tuple[int, ...]] = {tissue: (k,) for tissue, k in label.items()}
        for region in self.regions:
            targets[region.name] = tuple(label[tissue] for tissue in region.tissues)
        return targets
