import numpy as np
import pandas as pd
import pytest

from brain_tumor.data.survival.cohort import SHAPE
from brain_tumor.survival.settings import ProtocolSettings
from brain_tumor.survival.two_masks import COLUMNS, compare_masks, with_features

PROTOCOL = ProtocolSettings(bootstrap=200)


def patients(rng, count, told=1.0):
    """Patients whose survival falls with the volume of the core, as far as it is told."""
    table = pd.DataFrame(rng.lognormal(size=(count, len(SHAPE))), columns=SHAPE)
    days = np.exp(6 - told * np.log1p(table["TC_ml"]) + 0.1 * rng.standard_normal(count))
    facts = {"patient": [f"p{k}" for k in range(count)], "age": rng.normal(60, 8, count), "resection": "GTR"}
    return table.assign(**facts, grade="HGG", days=days, observed=True)


def test_what_predicted_masks_lose_is_the_difference():
    rng = np.random.default_rng(0)
    others, expert = patients(rng, 120), patients(rng, 40)
    blind = expert.assign(**{name: rng.permutation(expert[name]) for name in SHAPE})
    found = compare_masks(others, expert, blind, PROTOCOL).set_index(["features", "masks"])
    value = found["concordance"]
    assert value["age + shape", "reference"] > 0.85
    assert value["age + shape", "predicted"] < 0.7
    assert value["age + shape", "predicted - reference"] == pytest.approx(
        value["age + shape", "predicted"] - value["age + shape", "reference"]
    )
    assert found.loc[("age + shape", "predicted - reference"), "high"] < 0
    assert set(found["fitted_to"]) == {120}


def test_same_masks_make_no_difference():
    rng = np.random.default_rng(0)
    others, expert = patients(rng, 60), patients(rng, 10)
    found = compare_masks(others, expert, expert, PROTOCOL).set_index("masks")
    row = found.loc["predicted - reference"]
    assert row["concordance"] == 0
    assert not found.loc["reference", ["low", "high"]].isna().any()


@pytest.mark.parametrize(("fitted", "compared"), [(20, 10), (60, 1), (60, 0)])
def test_too_few_deaths_give_no_row(fitted, compared):
    rng = np.random.default_rng(0)
    few = patients(rng, compared)
    found = compare_masks(patients(rng, fitted), few, few, PROTOCOL)
    assert list(found.columns) == COLUMNS
    assert found.empty


def test_features_of_another_table_follow_the_patients():
    rng = np.random.default_rng(0)
    table = patients(rng, 5)
    features = table.assign(TC_ml=np.arange(5.0)).sample(frac=1, random_state=1)
    joined = with_features(table, features)
    assert joined["TC_ml"].tolist() == [0, 1, 2, 3, 4]
    assert joined["days"].equals(table["days"])
