"""Settings of the validation of survival models."""

from pydantic import BaseModel, Field, model_validator

from brain_tumor.data.survival.cohort import FEATURE_SETS

BASELINE = ("Cox", "age")
"""Model and features that the others are compared with. Nested in HEADLINE: only the shape features differ."""

HEADLINE = ("Cox", "age + shape")
"""Model and features of the primary analysis and of the permutation test. Chosen before any result was seen."""

HORIZON = 365.0
"""Days at which calibration is measured."""


class ProtocolSettings(BaseModel, frozen=True, extra="forbid"):
    """Validation protocol of the survival models.

    Attributes:
        folds: of each cross-validation.
        repeats: number of cross-validations, each with other folds.
        permutations: permutations of the shape features among the patients, for the permutation null.
        bootstrap: bootstrap samples of patients for each interval.
        min_deaths: observed deaths that a cohort needs to be modelled.
    """

    folds: int = Field(5, ge=2)
    repeats: int = Field(10, ge=1)
    permutations: int = Field(200, ge=1)
    bootstrap: int = Field(2000, ge=100)
    min_deaths: int = Field(30, ge=10)
    seed: int = 0

    @model_validator(mode="after")
    def _patients_must_outnumber_features(self) -> "ProtocolSettings":
        max_features = max(len(names) for names in FEATURE_SETS.values())
        # Deaths in the training folds, when they are spread evenly.
        training_folds = self.folds - 1
        training_deaths = self.min_deaths * training_folds // self.folds
        if training_deaths <= max_features:
            needed = (max_features + 1) * self.folds // training_folds + 1
            raise ValueError(
                f"Cox can't be fitted to fewer patients than features ({max_features}): with {self.folds} folds "
                f"min_deaths must be {needed}, got {self.min_deaths}"
            )
        return self
