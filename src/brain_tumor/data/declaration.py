"""What a data set declares of itself: modalities, tissues, regions, and how its files are named."""

import re

from pydantic import BaseModel, Field, model_validator

MASK = "mask"


class DataSet(BaseModel, frozen=True, extra="forbid"):
    """A segmentation data set. BraTS, or one of your own, written in YAML.

    Attributes:
        modalities: in the order of the channels of `image` in HDF5 slices.
        tissues: name > label values in NIfTI masks; in the order of the channels of `mask` in HDF5 slices.
            In a prepared store tissue number k (from 1) is label k.
        regions: name > the tissues it is made of.
        slice_file: name of an HDF5 slice, with `{volume}` and `{slice}` where the numbers stand.
        slice_patient: the patient that volume belongs to, as a format of `volume`.
        volume_endings: modality (and `mask`) > the endings of NIfTI names, `_` or `-` before them left out.
        spacing: millimetres of an HDF5 slice, (row, column, slice); NIfTI files carry their own.
    """

    name: str
    modalities: tuple[str, ...] = Field(min_length=1)
    tissues: dict[str, tuple[int, ...]] = Field(min_length=1)
    regions: dict[str, tuple[str, ...]] = {}
    slice_file: str
    slice_patient: str
    volume_endings: dict[str, tuple[str, ...]]
    spacing: tuple[float, float, float]

    @model_validator(mode="after")
    def _names_must_agree(self) -> "DataSet":
        missing = {*self.modalities, MASK} - set(self.volume_endings)
        if missing:
            raise ValueError(f"volume_endings lacks {sorted(missing)}: give the file-name endings of every modality and of '{MASK}'")
        for region, tissues in self.regions.items():
            unknown = set(tissues) - set(self.tissues)
            if unknown:
                raise ValueError(f"region {region} is made of {sorted(unknown)}, which are not tissues; tissues are {list(self.tissues)}")
        for field in ("{volume}", "{slice}"):
            if field not in self.slice_file:
                raise ValueError(f"slice_file must hold {field}, got '{self.slice_file}'")
        return self

    @property
    def slice_pattern(self) -> re.Pattern[str]:
        """Matches the name of an HDF5 slice; groups `volume` and `slice`."""
        pattern = re.escape(self.slice_file)
        for field in ("volume", "slice"):
            pattern = pattern.replace(re.escape("{" + field + "}"), rf"(?P<{field}>\d+)")
        return re.compile(pattern + r"\Z")

    @property
    def targets(self) -> dict[str, tuple[int, ...]]:
        """What is scored: each tissue and each region > the labels of a prepared store that it is made of."""
        label = {tissue: k for k, tissue in enumerate(self.tissues, start=1)}
        tissues = {tissue: (k,) for tissue, k in label.items()}
        return tissues | {region: tuple(label[t] for t in parts) for region, parts in self.regions.items()}
