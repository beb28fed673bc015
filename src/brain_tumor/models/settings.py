"""Settings of validation, from the parameters files."""

from pydantic import BaseModel, Field


class ProtocolSettings(BaseModel, frozen=True, extra="forbid"):
    """How models are validated.

    Attributes:
        folds: of a cross-validation.
        repeats: cross-validations, with other folds each time.
        permutations: times that the shape features are dealt to other patients to see what chance gives.
        bootstrap: samples of patients behind each interval.
        smallest: patients that a cohort must have to be modelled.
    """

    folds: int = Field(5, ge=2)
    repeats: int = Field(10, ge=1)
    permutations: int = Field(200, ge=1)
    bootstrap: int = Field(2000, ge=100)
    smallest: int = Field(30, ge=10)
    seed: int = 0
