import io
import re

import numpy as np
import pandas as pd
import pytest
from browser import open_browser
from PIL import Image

from brain_tumor.reporting.formatting import is_numeric, read_number, write_cell
from brain_tumor.reporting.interactive_plot import draw_scatter, draw_strip
from brain_tumor.reporting.markdown import render_card, write_table
from brain_tumor.reporting.page import FILTERED, LONG, Fold, HeatMap, Picture, Section, Words, render_report
from brain_tumor.reporting.pictures import TALLEST, lay_strip
from brain_tumor.reporting.settings_table import merge_settings

PNG = b"\x89PNG"


def save(frames, kind):
    buffer, images = io.BytesIO(), [Image.fromarray(frame) for frame in frames]
    images[0].save(buffer, format=kind, **({"save_all": True, "append_images": images[1:]} if kind == "gif" else {}))
    return buffer.getvalue()


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
    assert "0.5 <small>(0.4 to 0.6)</small>" in page
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


def test_numbers_are_read_with_their_intervals_and_separators():
    cells = ["0.907 (0.894 to 0.920)", "1,375,043", "-0.1", "–", "", float("nan"), 3]
    assert [read_number(cell) for cell in cells] == [0.907, 1375043, -0.1, None, None, None, 3]


def test_heat_map_shades_the_columns_compared_and_tells_what_a_cell_is():
    table = pd.DataFrame({"network": ["a", "b"], "WT": ["0.9 (0.8 to 1.0)", "0.5"], "TC": ["0.7", "–"], "size": [7, 9]})
    heat = HeatMap("caption", table, ["WT", "TC"])
    assert [heat.shade("WT", cell) for cell in table["WT"]] == [100, 0]
    assert [heat.shade("TC", cell) for cell in table["TC"]] == [50, None]
    assert heat.shade("size", 7) is None
    page = render_report("T", "A.", heat, [], simulated=False)
    assert re.findall(r"--shade: (\d+)%", page) == ["100", "50", "0"]
    assert 'title="WT of a: 0.9 (0.8 to 1.0)"' in page


def test_pictures_come_before_the_table_and_details_are_folded():
    fold = Fold("How measured", "By `b.py`.", [("t", pd.DataFrame({"a": [1]}))])
    sections = [
        Section("S", folds=[fold]),
        Section("Settings", tables=[("inside", pd.DataFrame({"a": [1]}))], folded=True),
    ]
    first, table = Picture(PNG, Words("first", "x")), ("main", pd.DataFrame({"a": [1]}))
    page = render_report("T", "Answer.", table, sections, simulated=False, pictures=[first])
    marks = ["Answer.", "<figcaption>first", ">main<", "<details><summary>How measured", "<code>b.py</code>"]
    places = [page.index(words) for words in [*marks, "<details><summary>inside"]]
    assert places == sorted(places)


def test_only_photographs_are_embedded_as_webp(rng):
    content = save([rng.integers(0, 255, (8, 8, 3), np.uint8)], "png")
    kinds = [Picture(content, Words("c", "a"), photo=photo).data[:22] for photo in (False, True)]
    assert kinds == ["data:image/png;base64,", "data:image/webp;base64"]


def test_an_animation_becomes_a_slider_over_its_frames():
    frames = [np.full((6, 10, 3), 40 * k, np.uint8) for k in range(5)]
    content, count, width, height = lay_strip(save(frames, "gif"))
    assert (count, width, height) == (5, 10, 6)
    with Image.open(io.BytesIO(content)) as strip:
        assert strip.size == (10, 30)
        seen = [int(np.asarray(strip)[6 * k + 3, 5, 0]) for k in range(5)]
    assert seen == pytest.approx([0, 40, 80, 120, 160], abs=6)
    picture = Picture(save(frames, "gif"), Words("c", "a"))
    page = render_report("T", "A.", None, [Section("S", pictures=[picture])], simulated=False)
    assert '<input type="range" min="1" max="5" value="3">' in page
    assert "image/gif" not in page


def test_a_strip_is_never_higher_than_webp_allows():
    frames = [np.full((TALLEST // 4, 2, 3), k, np.uint8) for k in range(0, 250, 25)]
    content, count, _, height = lay_strip(save(frames, "gif"))
    assert (count, height) == (4, TALLEST // 4)
    with Image.open(io.BytesIO(content)) as strip:
        assert strip.height <= TALLEST


def test_page_in_a_browser(tmp_path):
    """Tables don't run out of their window, headings sort by keyboard, filters filter, sliders slide."""
    table = pd.DataFrame({"network": ["ResidualAttentionUNet", "b"], "size": [1375043, 2]})
    targets = {name: ["0.917 (0.901 to 0.930)", "0.517 (0.401 to 0.630)"] for name in ("WT", "NCR", "ED", "ET", "TC")}
    heat = HeatMap("caption " * 12, table.assign(**targets)[["network", *targets, "size"]], list(targets))
    rows = pd.DataFrame({"name": [f"n{k}" for k in range(FILTERED + 1)], "value": range(FILTERED + 1)})
    film = save([np.full((6, 10, 3), 40 * k, np.uint8) for k in range(5)], "gif")
    section = Section("S", tables=[("rows", rows)], pictures=[Picture(film, Words("c", "a"))])
    file = tmp_path / "page.html"
    file.write_text(render_report("T", "A.", heat, [section], simulated=False), encoding="utf-8")
    with open_browser(tmp_path / "profile") as page:
        page.open(file.as_uri())
        page.wait_for("document.querySelectorAll('.tools').length == 1")
        for width in (1440, 1280, 390):
            page.resize(width)
            assert page.evaluate("innerWidth") == width
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            scroll = "document.querySelector('.map').closest('.scroll')"
            assert page.evaluate(f"{scroll}.scrollWidth <= {scroll}.clientWidth"), width
        long = "document.querySelector('table.filtered')"
        page.evaluate(f"{long}.querySelectorAll('thead button')[1].click()")
        assert page.evaluate(f"{long}.tBodies[0].rows[0].cells[1].textContent") == str(FILTERED)
        assert page.evaluate(f"{long}.querySelector('[aria-sort]').getAttribute('aria-sort')") == "descending"
        page.evaluate("{const f = document.querySelector('.tools input'); f.value = 'n12'; f.oninput()}")
        assert page.evaluate(f"[...{long}.tBodies[0].rows].filter(row => !row.hidden).length") == 1
        page.evaluate("{const s = document.querySelector('.film input'); s.value = 5; s.oninput()}")
        assert page.evaluate("document.querySelector('.film output').textContent") == "5 of 5"
        assert not page.errors("")


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


def test_the_ink_of_a_plot_is_that_of_the_page_so_that_it_shows_in_the_dark():
    plot = draw_strip(dots(), "Dice", "caption", colours={"a": "#333333", "b": "#0072B2"})
    assert re.findall(r'<g class="series" data-series="(\w)" style="color: ([^"]+)"', plot.svg) == [
        ("a", "var(--ink)"),
        ("b", "#0072B2"),
    ]
