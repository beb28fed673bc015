import io

import numpy as np
import pandas as pd
import pytest
from overlaps import find_overlaps

from brain_tumor.figures.survival import (
    Calibration,
    Curve,
    Scatter,
    draw_calibration,
    draw_chance,
    draw_changes,
    draw_curves,
    draw_expected,
    draw_importances,
    draw_models,
)

LABELS = {"concordance": "concordance", "spearman": "SpearmanR"}


def png(figure):
    assert not find_overlaps(figure)
    figure.savefig(io.BytesIO(), format="png", dpi=30)
    return figure


def curve(label, days, alive):
    steps = pd.DataFrame(
        {"day": [0.0, *days], "alive": [1.0, *alive], "low": [1.0, *(0.8 * np.array(alive))], "high": 1.0}
    )
    return Curve(label, steps, np.array(days), np.array([True] * (len(days) - 1) + [False]))


def test_curves_count_who_is_at_risk_and_say_the_median():
    low, middle, high = (
        curve("low", [200.0, 400.0], [0.9, 0.8]),
        curve("middle", [100.0, 300.0], [0.6, 0.5]),
        curve("high", [50.0, 90.0], [0.4, 0.0]),
    )
    figure = png(
        draw_curves(
            {
                "all": {"age": [low, middle, high], "shape": [low, middle, high]},
                "GTR": {"age": [low, middle, high], "shape": [low] * 3},
            },
            "t",
        )
    )
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["low: median not reached", "middle: median 300 days", "high: median 50 days"]
    years = figure.axes[2].get_xticks()
    assert 3 <= len(years) <= 8
    at_risk = [int(text.get_text()) for text in figure.axes[2].texts]
    days = [np.array([200, 400]), np.array([100, 300]), np.array([50, 90])]
    assert at_risk == [(group >= 365.25 * tick).sum() for group in days for tick in years]
    assert figure.axes[0].get_xlim()[1] == pytest.approx(400 / 365.25)  # three are at risk in the last panel


def test_curves_of_twenty_years_have_ticks_that_can_be_read():
    days = [30.0 * k for k in range(1, 240)]
    curves = [curve(label, days, np.linspace(0.99, 0.1, len(days)).tolist()) for label in ("low", "middle", "high")]
    figure = png(draw_curves({"all": {"age": curves, "shape": curves}}, "t"))
    assert len(figure.axes[-1].get_xticks()) <= 8


def test_expected_days_of_the_dead_and_the_living(rng):
    days, expected = rng.uniform(20, 900, 12), rng.uniform(100, 500, 12)
    all_dead, some = (
        Scatter(expected, days, np.ones(12, bool), "Cox"),
        Scatter(expected, days, np.arange(12) > 3, "linear"),
    )
    figure = png(draw_expected({"all": {"a": all_dead, "b": some}}, (300, 450), "t"))
    assert [len(axes.collections) for axes in figure.axes] == [1, 2]
    assert [len(c.get_offsets()) for c in figure.axes[1].collections] == [8, 4]


def test_models_chance_and_importances():
    rows = [
        {
            "cohort": c,
            "model": m,
            "features": f,
            "metric": metric,
            "value": 0.6,
            "low": 0.5,
            "high": 0.7,
            "patients": 40,
        }
        for c in ("all", "GTR")
        for m, f in (("median", "nothing"), ("linear", "age"), ("Cox", "age + shape"))
        for metric in LABELS
    ]
    figure = png(draw_models(pd.DataFrame(rows), LABELS, ("linear", "age"), "t"))
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["Cox, age + shape", "linear, age"]
    chance = pd.DataFrame(
        {"cohort": "all", "metric": ["concordance", "spearman"] * 5, "gain": np.linspace(-0.1, 0.02, 10)}
    )
    gains = pd.DataFrame({"cohort": "all", "metric": list(LABELS), "gain": [0.03, -0.01], "p": [0.01, 0.4]})
    figure = png(draw_chance(chance, gains, LABELS, "t"))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "5 permutations",
        "true shapes: +0.030, p = 0.010",
    ]
    importances = pd.DataFrame(
        {
            "cohort": "all",
            "feature": list("abcdefghijklmn"),
            "loss": np.linspace(0.1, -0.01, 14),
            "low": -0.02,
            "high": 0.2,
        }
    )
    assert len(png(draw_importances(importances, "t")).axes[0].get_yticklabels()) == 12


def test_calibration():
    groups = pd.DataFrame({"expected": [0.2, 0.5], "alive": [0.0, 0.6], "low": [0.0, 0.4], "high": [0.1, 0.8]})
    figure = png(draw_calibration({"all": {"Cox": Calibration(groups, np.full(10, 3.0), 0.4)}}, 365, "t"))
    assert figure.axes[0].get_xlabel() == "expected to be alive on day 365"


@pytest.mark.parametrize("count", [0, 3])
def test_changes_have_a_panel_for_each_feature(count):
    pairs = pd.DataFrame(
        {"feature": ["a"] * count, "expert": np.arange(count, dtype=float), "predicted": np.arange(count) + 1.0}
    )
    figure = png(draw_changes(pairs, {"a": "ml", "b": "cm²"}, "t"))
    assert [axes.get_title() for axes in figure.axes[:2]] == ["a", "b, cm²"]
