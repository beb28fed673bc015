"""Schemas of the tables that the catalog keeps, checked whenever one is saved or loaded."""

import pandera.pandas as pa
from pandera.typing import Series

from brain_tumor.data.scan import WHOLE_PATIENT
from brain_tumor.data.split import TEST, TRAIN, VALIDATION


class SliceIndex(pa.DataFrameModel):
    """Rows of the index.

    Attributes:
        slice: -1 for a patient none of whose slices can be used.
        file: relative to the source; for NIfTI the folder of the patient's volumes.
        hash: BLAKE2b of the file (NIfTI: of all the patient's files).
        pixels: brain pixels of the slice, and of each tissue.
        simulated: made by the project, not scanned.
        left_out: the reason; empty if the slice is used.
    """

    patient: Series[str]
    slice: Series[int] = pa.Field(ge=WHOLE_PATIENT)
    file: Series[str]
    hash: Series[str]
    voxel_mm3: Series[float] = pa.Field(ge=0)
    brain_pixels: Series[int] = pa.Field(ge=0)
    pixels: Series[int] = pa.Field(ge=0, alias=".+_pixels", regex=True)
    simulated: Series[bool]
    left_out: Series[str] = pa.Field(coerce=True)

    class Config:  # noqa: D106
        coerce = True
        strict = True
        unique = ("patient", "slice", "file")


class Patients(pa.DataFrameModel):
    """Rows of the table of patients.

    Attributes:
        volumes: of each tissue and of the tumour, over the slices in use.
        age: years, as published; empty if not known. So are the other facts.
    """

    patient: Series[str] = pa.Field(unique=True)
    slices: Series[int] = pa.Field(gt=0)
    volumes: Series[float] = pa.Field(ge=0, alias=".+_ml", regex=True)
    grade: Series[str]
    age: Series[str]
    survival_days: Series[str]
    resection: Series[str]

    class Config:  # noqa: D106
        coerce = True
        strict = True


class Splits(pa.DataFrameModel):
    """Rows of the splits. A patient in two sets is refused, whoever wrote the table."""

    patient: Series[str] = pa.Field(unique=True)
    split: Series[str] = pa.Field(isin=(TRAIN, VALIDATION, TEST))
    fold: Series[int] = pa.Field(ge=0)

    class Config:  # noqa: D106
        coerce = True
        strict = True
