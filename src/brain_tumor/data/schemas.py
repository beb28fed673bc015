"""Schemas of the tables that the catalog keeps, checked whenever one is saved or loaded."""

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from brain_tumor.data.common.sets import TEST, TRAIN, VALIDATION
from brain_tumor.data.scans.scan import WHOLE_PATIENT
from brain_tumor.data.survival.shape_features import FEATURES


class SliceIndex(pa.DataFrameModel):
    """Rows of the index.

    Attributes:
        slice: -1 for a patient none of whose slices can be used.
        file: relative to the source; for NIfTI the folder of the patient's volumes.
        hash: BLAKE2b of the file (NIfTI: of all the patient's files).
        pixels: brain pixels of the slice, and of each tissue.
        simulated: made by the project, not scanned.
        excluded: the reason; empty if the slice is used.
        note: what is unusual about a patient in use.
    """

    patient: Series[str]
    slice: Series[int] = pa.Field(ge=WHOLE_PATIENT)
    file: Series[str]
    hash: Series[str]
    voxel_mm3: Series[float] = pa.Field(ge=0)
    brain_pixels: Series[int] = pa.Field(ge=0)
    pixels: Series[int] = pa.Field(ge=0, alias=".+_pixels", regex=True)
    simulated: Series[bool]
    excluded: Series[str] = pa.Field(coerce=True)
    note: Series[str] = pa.Field(coerce=True)

    class Config:
        coerce = True
        strict = True
        unique = ("patient", "slice", "file")


class Patients(pa.DataFrameModel):
    """Rows of the table of patients.

    Attributes:
        person: the same for all scans of one, which the same files, the published tables or the names say.
        slice_step: slice numbers from one slice in use to the next, the space that each stands for; 0 where they make
            no volume.
        volumes: millilitres of each tissue and of the tumour, over the slices in use.
        age: years, as published; empty if not known. So are the other facts.
    """

    patient: Series[str] = pa.Field(unique=True)
    person: Series[str]
    slices: Series[int] = pa.Field(gt=0)
    slice_step: Series[int] = pa.Field(ge=0)
    volumes: Series[float] = pa.Field(ge=0, alias=".+_ml", regex=True)
    grade: Series[str]
    age: Series[str]
    survival_days: Series[str]
    resection: Series[str]

    class Config:
        coerce = True
        strict = True


class Splits(pa.DataFrameModel):
    """Rows of the splits. A patient in two sets, or a person, is refused, whoever wrote the table."""

    patient: Series[str] = pa.Field(unique=True)
    person: Series[str]
    split: Series[str] = pa.Field(isin=(TRAIN, VALIDATION, TEST))
    fold: Series[int] = pa.Field(ge=0)

    class Config:
        coerce = True
        strict = True

    @pa.dataframe_parser
    @classmethod
    def _each_a_person(cls, table: pd.DataFrame) -> pd.DataFrame:
        # A table of one's own needn't have it.
        return table if "person" in table else table.assign(person=table["patient"])

    @pa.dataframe_check
    @classmethod
    def no_person_in_two_sets(cls, table: pd.DataFrame) -> bool:
        """All scans of a person are in one set and one fold."""
        return bool((table.groupby("person")[["split", "fold"]].nunique() == 1).all(axis=None))


class TumourFeatures(pa.DataFrameModel):
    """Rows of measured masks.

    Attributes:
        file: relative to the source; empty for slices of a store.
        spacing_mm: of the voxels that were measured.
        centre_from: where the brain's centre was taken from; empty if it isn't known.
        simulated: made by the project, not a person's.
        excluded: why the mask can't be measured; empty if it can.
    """

    patient: Series[str] = pa.Field(unique=True)
    file: Series[str]
    spacing_mm: Series[str]
    centre_from: Series[str]
    simulated: Series[bool]
    excluded: Series[str]
    features: Series[float] = pa.Field(
        alias="^(" + "|".join(feature.name for feature in FEATURES) + ")$", regex=True, nullable=True, ge=0
    )

    class Config:
        coerce = True
        strict = True

    @pa.dataframe_parser
    @classmethod
    def _empty_text(cls, table: pd.DataFrame) -> pd.DataFrame:
        texts = [
            name
            for name in ("file", "spacing_mm", "centre_from", "excluded", "grade", "resection", "note")
            if name in table
        ]
        return table.assign(**{name: table[name].astype(object).fillna("") for name in texts})


class SurvivalPatients(TumourFeatures):
    """Rows of patients with what is known of them.

    Attributes:
        person: the same for all names and visits of one person.
        age: years; empty if not known.
        days: until death, or until the patient was last known to be alive; empty if not known.
        observed: whether death was seen.
        excluded: why the patient isn't modelled; empty if they are.
        note: what to know of a patient who is.
    """

    person: Series[str]
    grade: Series[str]
    age: Series[float] = pa.Field(nullable=True, gt=0)
    resection: Series[str]
    days: Series[float] = pa.Field(nullable=True, gt=0)
    observed: Series[bool]
    note: Series[str]


class ImageIndex(pa.DataFrameModel):
    """Rows of the index of images.

    Attributes:
        file: relative to the source.
        folder: training or testing.
        mode: of the pixels, as Pillow names it; `format` likewise, whatever the file's name says.
        hash: BLAKE2b of the decoded grey levels.
        perceptual_hash: 64 bits, hexadecimal.
        bounds: of what is kept of it: `top`, `bottom`, `left`, `right`.
        patient: by the table of patients; empty if it is not known.
        note: what is unusual.
        excluded: the reason; empty if the image is used.
    """

    file: Series[str] = pa.Field(unique=True)
    folder: Series[str]
    kind: Series[str] = pa.Field(alias="class")
    sizes: Series[int] = pa.Field(ge=0, alias="(width|height)$", regex=True)
    mode: Series[str]
    format: Series[str]
    hash: Series[str]
    perceptual_hash: Series[str]
    bounds: Series[int] = pa.Field(ge=0, alias="(top|bottom|left|right)$", regex=True)
    simulated: Series[bool]
    patient: Series[str]
    note: Series[str]
    excluded: Series[str] = pa.Field(coerce=True)

    class Config:
        coerce = True
        strict = True


class ImageSplits(pa.DataFrameModel):
    """Rows of the sets of images. Duplicates, or images of one person, in two sets are refused.

    Attributes:
        patient: empty if it is not known.
        group: the same for all duplicates of an image.
        person: the same for all images of a patient and their duplicates.
        split: empty if the image is not used.
        fold: in which the image is tested; -1 without folds, and if it is not used.
        validation_fold: in whose training the image validates; -1 if in none.
        test: in the test set by patient, in the one without duplicates of training images, in the published one.
        excluded: why it is not trained on.
    """

    file: Series[str] = pa.Field(unique=True)
    kind: Series[str] = pa.Field(alias="class")
    patient: Series[str]
    group: Series[str]
    person: Series[str]
    split: Series[str] = pa.Field(isin=("", TRAIN, VALIDATION, TEST))
    folds: Series[int] = pa.Field(ge=-1, alias="fold|validation_fold", regex=True)
    test: Series[bool] = pa.Field(alias="official_test|deduplicated_test|patient_test", regex=True)
    excluded: Series[str] = pa.Field(coerce=True)

    class Config:
        coerce = True
        strict = True

    @pa.dataframe_check
    @classmethod
    def no_duplicates_in_two_sets(cls, table: pd.DataFrame) -> bool:
        """Training, validation and the deduplicated test set share no group."""
        train, validation, test = (
            set(table.loc[rows, "group"])
            for rows in (table["split"] == TRAIN, table["split"] == VALIDATION, table["deduplicated_test"])
        )
        return not (train & validation or train & test or validation & test)

    @pa.dataframe_check
    @classmethod
    def no_person_in_two_folds(cls, table: pd.DataFrame) -> bool:
        """All images of a person are tested in one fold, and validate in one other at most."""
        used = table[table["fold"] >= 0]
        folds = used.groupby("person")[["fold", "validation_fold"]].nunique()
        return bool((folds <= 1).all(axis=None)) and not (used["fold"] == used["validation_fold"]).any()
