"""How raw scans are prepared."""

from typing import Literal

from pydantic import BaseModel, Field


class RawSettings(BaseModel, frozen=True, extra="forbid"):
    """How raw scans are prepared, and masks brought back.

    Attributes:
        reference: modality that the others are registered to.
        brain_modality: modality that the brain is extracted from.
        brain_masks: folder of brain masks of your own, on the grid of `brain_modality` (`PATIENT.nii.gz`, or
            `PATIENT_t1_bet.nii.gz` as HD-BET names them); None: deepbet extracts the brain.
        atlas: NIfTI file of a brain in the position of BraTS, such as SRI24; None: the ICBM152 template, moved there.
        atlas_transform: "rigid" keeps the size of the head, as BraTS does; "affine" fits it to the atlas.
        mask_on: modality on whose grid the mask is written.
        mask_interpolation: of the way back: "probability" interpolates each tissue, and the likeliest is taken.
        dicom_seg: the mask of a patient whose scan came as DICOM is written as a DICOM-SEG object too.
        keep_intermediate: modalities in the position of BraTS with the skull are written too.
        series: patient > modality > number of the DICOM series that is taken, whatever its header reads.
    """

    reference: str = "T1ce"
    brain_modality: str = "T1"
    brain_masks: str | None = None
    atlas: str | None = None
    atlas_transform: Literal["rigid", "affine"] = "rigid"
    mask_on: str = "T1ce"
    mask_interpolation: Literal["nearest", "probability"] = "probability"
    dicom_seg: bool = True
    keep_intermediate: bool = False
    series: dict[str, dict[str, int]] = Field(default_factory=dict)
