import numpy as np
import pandas as pd
import pytest

from brain_tumor.survival.models import MODELS


@pytest.fixture
def patients(rng):
    """Days that fall with `x`, and nothing else to know; a tenth of the values missing, one column constant."""
    table = pd.DataFrame(rng.normal(50, 10, (150, 3)), columns=["x", "noise", "more"]).assign(same=1.0)
    days = np.exp(6 - 0.05 * (table["x"].to_numpy() - 50) + rng.normal(0, 0.3, 150))
    table = table.mask(rng.random(table.shape) < 0.1)
    return table, days, rng.random(150) < 0.85


@pytest.mark.parametrize("name", MODELS)
def test_every_model_keeps_the_contract(name, patients):
    table, days, observed = patients
    model = MODELS[name]().fit(table[:100], days[:100], observed[:100])
    expected, risk = model.days(table[100:]), model.risk(table[100:])
    assert expected.shape == risk.shape == (50,)
    assert np.isfinite(expected).all()
    assert (expected > 0).all()
    if name != "median":
        known = table["x"][100:].notna()
        assert np.corrcoef(risk[known], table["x"][100:][known])[0, 1] > 0.6
        assert np.corrcoef(risk, np.log(expected))[0, 1] < -0.9
    assert np.array_equal(MODELS[name]().fit(table[:100], days[:100], observed[:100]).risk(table[100:]), risk)
    one_by_one = np.concatenate([model.risk(table[k : k + 1]) for k in range(100, 110)])
    assert one_by_one == pytest.approx(risk[:10])


def test_values_that_are_missing_are_the_median(patients):
    table, days, observed = patients
    model = MODELS["linear"]().fit(table, days, observed)
    assert np.array_equal(model.days(table), model.days(table.fillna(table[observed].median())))


@pytest.mark.parametrize("name", ["Cox", "log-normal AFT"])
def test_curves_fall_from_one(name, patients):
    table, days, observed = patients
    model = MODELS[name]().fit(table, days, observed)
    assert model.curves
    curves = model.survival(table[:7], np.array([0.0, 100, 300, 1000]))
    assert curves.shape == (7, 4)
    assert curves[:, 0] == pytest.approx(1, abs=0.02)  # lifelines joins the steps by lines, from the first death on
    assert (np.diff(curves, axis=1) <= 0).all()
    assert np.corrcoef(curves[:, 2], model.risk(table[:7]))[0, 1] < -0.8


@pytest.mark.parametrize("name", ["Cox", "log-normal AFT"])
def test_those_known_to_be_alive_are_used(name, rng):
    """Everybody with a large x was alive when last seen: without them x would say nothing."""
    x = rng.normal(size=200)
    days = rng.exponential(300, 200)
    observed = x < 0
    table = pd.DataFrame({"x": x, "noise": rng.normal(size=200)})
    with_them = MODELS[name]().fit(table, days, observed).risk(table)
    without = MODELS[name]().fit(table[observed], days[observed], observed[observed]).risk(table)
    assert np.corrcoef(with_them, x)[0, 1] < -0.9
    assert np.ptp(with_them) > 3 * np.ptp(without)


@pytest.mark.parametrize("name", ["linear", "forest"])
def test_regression_has_no_use_for_them(name, patients):
    table, days, observed = patients
    other = np.where(observed, days, 9999.0)
    assert np.array_equal(
        MODELS[name]().fit(table, days, observed).days(table), MODELS[name]().fit(table, other, observed).days(table)
    )


def test_a_curve_that_stays_high_means_the_longest_seen(rng):
    table = pd.DataFrame({"x": rng.normal(size=60)})
    days, observed = rng.uniform(1, 500, 60), rng.random(60) < 0.2
    expected = MODELS["Cox"]().fit(table, days, observed).days(table)
    assert expected.max() == pytest.approx(days.max())


def test_regression_alone_gives_no_curves(patients):
    model = MODELS["linear"]().fit(*patients)
    assert not model.curves
    with pytest.raises(NotImplementedError, match="gives no survival curves"):
        model.survival(patients[0], np.array([1.0]))
