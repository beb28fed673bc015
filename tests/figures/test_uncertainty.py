import pandas as pd

from brain_tumor.figures.palette import NETWORKS
from brain_tumor.figures.uncertainty import draw_risk_coverage


def test_each_network_has_its_curve_and_its_risk_without_an_order():
    curve = pd.DataFrame({"coverage": [0.5, 1.0], "risk": [0.1, 0.3]})
    figure = draw_risk_coverage({"cnn": curve, "vit": curve}, "error rate", "test images", "title")
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["CNN"].get_ydata().tolist() == [0.1, 0.3]
    assert lines["ViT"].get_color() == NETWORKS["vit"][1]
    assert [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"] == [0.3, 0.3]
