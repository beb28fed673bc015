"""Schemas of the tables that the catalog keeps, checked whenever one is saved or loaded."""

import pandera.pandas as pa
from pandera.typing import Series

from brain_tumor.data.scan import WHOLE_PATIENT


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
    brain_pixels: Series[int] = pa.Field(ge=0)
    pixels: Series[int] = pa.Field(ge=0, alias=".+_pixels", regex=True)
    simulated: Series[bool]
    left_out: Series[str] = pa.Field(coerce=True)

    class Config:  # noqa: D106
        coerce = True
        strict = True
        unique = ("patient", "slice")
