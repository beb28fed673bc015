"""What is validated, and its settings from the parameters files."""

from pydantic import BaseModel, Field, model_validator

from brain_tumor.data.survival.cohort import FEATURE_SETS

BASELINE = ("linear", "age")
"""Model and features that the others are compared with: regression on age alone."""

HEADLINE = ("Cox", "age + shape")
"""Model and features of the answer and of the permutation test. Chosen before any result was seen."""

HORIZON = 365.0
"""Days at which calibration is looked at."""


class ProtocolSettings(BaseModel, frozen=True, extra="forbid"):
    """How models are validated.

    Attributes:
        folds: of a cross-validation.
        repeats: cross-validations, with other folds each time.
        permutations: times that the shape features are dealt to other patients to see what chance gives.
        bootstrap: samples of patients behind each interval.
        min_deaths: patients with a known day of death that a cohort must have to be modelled.
    """

    folds: int = Field(5, ge=2)
    repeats: int = Field(10, ge=1)
    permutations: int = Field(200, ge=1)
    bootstrap: int = Field(2000, ge=100)
    min_deaths: int = Field(30, ge=10)
    seed: int = 0

    @model_validator(mode="after")
    def _patients_must_outnumber_features(self) -> "ProtocolSettings":
        most = max(len(names) for names in FEATURE_SETS.values())
        if self.min_deaths * (self.folds - 1) // self.folds <= most:
            least = (most + 1) * self.folds // (self.folds - 1) + 1
            raise ValueError(
                f"Cox can't be fitted to fewer patients than features ({most}): with {self.folds} folds "
                f"min_deaths must be {least}, got {self.min_deaths}"
            )
        return self
