import re

import numpy as np
import pandas as pd
import pytest

from brain_tumor.reporting.formatting import is_numeric, write_cell
from brain_tumor.reporting.interactive_plot import draw_scatter, draw_strip
from brain_tumor.reporting.markdown import render_card, write_table
from brain_tumor.reporting.page import LONG, Picture, Section, Words, render_report
from brain_tumor.reporting.settings_table import merge_settings

PNG = b"\x89PNG"


def dots(**columns):
    table = pd.DataFrame(
        {"column": ["WT", "WT", "TC"], "value": [0.2, 0.4, 0.9], "series": ["a", "b", "a"], "name": ["p1", "p1", "p2"]}
    ).assign(says=["x", "y", "<z>"])
    return table.assign(**columns)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.12345, "0.123"),
        (0.00004, "4.0e-05"),
        (0.0, "0.000"),
        (12345.6, "12,346"),
        (1234, "1,234"),
        (float("nan"), "–"),
        (True, "yes"),
        ("a", "a"),
    ],
)
def test_cells_read_well(value, words):
    assert write_cell(value) == words


def test_numbers_and_intervals_are_numeric_and_names_are_not():
    assert is_numeric(pd.Series(["0.907 (0.894 to 0.920)", "–", "+0.1", "-3"]))
    assert is_numeric(pd.Series([1, 2]))
    assert not is_numeric(pd.Series(["0.1.0", "2"]))
    assert not is_numeric(pd.Series(["3 patients", "2"]))


def test_page_has_answer_then_table_then_contents_then_sections():
    picture = Picture(PNG, Words("A caption.", "what is in it"), "a network")
    table = pd.DataFrame({"a_b": [0.5], "interval": ["0.5 (0.4 to 0.6)"]})
    page = render_report(
        "T", "The <answer>.", ("main table", table), [Section("One & two", "text", pictures=[picture])], simulated=False
    )
    places = [
        page.index(words)
        for words in ("The &lt;answer&gt;.", "main table", 'href="#one-two"', 'id="one-two"', "Not for clinical use")
    ]
    assert places == sorted(places)
    assert 'alt="a network: what is in it"' in page
    assert "a_<wbr>b" in page
    assert "0.5 (0.4&nbsp;to&nbsp;0.6)" in page
    assert "SIMULATED" not in page


def test_page_asks_for_nothing_from_elsewhere():
    page = render_report("T", "A.", None, [Section("S", plots=[draw_strip(dots(), "Dice", "c")])], simulated=True)
    assert "SIMULATED" in page
    assert not re.search(r"https?://|@import|url\(", page)
    assert {link[0] for link in re.findall(r'(?:href|src)="(.)', page)} == {"#"}


def test_only_long_tables_scroll():
    page = [
        render_report("T", "A.", ("c", pd.DataFrame({"a": range(n)})), [], simulated=False) for n in (LONG, LONG + 1)
    ]
    assert ['class="scroll long"' in text for text in page] == [False, True]


def test_strip_names_every_dot_and_tells_its_values():
    plot = draw_strip(dots(), "Dice", "caption")
    assert re.findall(r'data-name="(\w+)"', plot.svg) == ["p1", "p2", "p1"]  # series after series
    assert "<title>&lt;z&gt;</title>" in plot.svg
    assert "WT, a: 0.200" in plot.svg.split('aria-label="')[1].split('"')[0]
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', plot.svg)]
    assert heights[1] < heights[2] < heights[0]  # 0.9, 0.4, 0.2 from the top


def test_strip_draws_intervals_where_there_are_any():
    plot = draw_strip(dots(low=[0.1, np.nan, 0.8], high=[0.3, np.nan, 1.0]), "Dice", "caption")
    assert len(re.findall(r"<g class=\"dot\"[^>]*><line", plot.svg)) == 2


def test_legend_is_in_the_order_asked_for():
    plot = draw_strip(dots(), "Dice", "caption", ["b", "a"])
    assert re.findall(r'button" data-series="(\w)"', plot.svg) == ["b", "a"]


def test_scatter_puts_equal_values_on_the_diagonal():
    table = dots(x=[30.0, 300.0, 3000.0], value=[30.0, 300.0, 3000.0])
    plot = draw_scatter(table, ("true days", "expected days"), [300], "caption")
    where = sorted((float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', plot.svg))
    (x1, y1), (x2, y2), (x3, y3) = where
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)  # logarithmic
    assert y1 - y2 == pytest.approx(y2 - y3, abs=0.2)
    rules = re.findall(r'class="rule" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', plot.svg)
    assert float(rules[0][0]) == float(rules[0][2]) == pytest.approx(x2, abs=0.1)  # upright, through 300
    left, bottom, right, top = map(float, rules[-1])
    assert (bottom - y2) / (x2 - left) == pytest.approx((bottom - top) / (right - left), rel=0.01)


def test_markdown_tables():
    table = write_table(pd.DataFrame({"name": ["a|b", "c"], "value": [0.5, float("nan")]}))
    assert table.splitlines() == ["| name | value |", "| :-- | --: |", "| a\\|b | 0.500 |", "| c | – |"]


def test_card_says_simulated_and_not_for_clinical_use():
    card = render_card("T", "Summary.", [Section("H", "text", [("caption", pd.DataFrame({"a": [1]}))])], simulated=True)
    assert card.startswith("# T (SIMULATED)\n\n> **SIMULATED.**")
    assert "**Not for clinical use.** Summary." in card
    assert card.endswith("## H\n\ntext\n\ncaption:\n\n| a |\n| --: |\n| 1 |\n")


def test_settings_that_differ_are_told_for_each_network():
    merged = merge_settings(
        {"a": {"recipe": {"epochs": 5, "ema_decay": 0.0}}, "b": {"recipe": {"epochs": 9, "ema_decay": 0.0}}}
    )
    assert merged == {"recipe.epochs": "a: 5; b: 9", "recipe.ema_decay": "0.0"}


def test_names_of_files_in_a_text_are_set_as_code_and_nothing_else_is_markup():
    page = render_report(
        "Title", "Answer.", None, [Section("Data", "See `a<b>.csv` & `c.csv`, not <b>this</b>.")], simulated=False
    )
    assert "<p>See <code>a&lt;b&gt;.csv</code> &amp; <code>c.csv</code>, not &lt;b&gt;this&lt;/b&gt;.</p>" in page
