"""A patient's viewer, in a headless Chromium."""

import base64
import io
import re

import numpy as np
import pytest
from browser import open_browser
from PIL import Image

from brain_tumor.reporting.viewer import ViewedPatient, ViewerSettings, compose_viewer

SIZE = 48
ET = (230, 159, 0)
"""Orange, the colour of ET in every figure."""

TARGETS = {"NCR": [1], "ED": [2], "ET": [3], "WT": [1, 2, 3]}


def draw_patient(**changes):
    """A grey ball with ET in the patient's left half, ED in the right; the network found only ET."""
    places = np.indices((SIZE, SIZE, SIZE)) - SIZE / 2
    ball = (places**2).sum(0) < 20**2
    image = np.stack([np.where(ball, 500 + 100 * k + places[2] * 5, 0) for k in range(2)]).astype(np.float32)
    reference = np.zeros((SIZE, SIZE, SIZE), np.uint8)
    reference[28:38, 20:30, 20:30], reference[10:18, 20:30, 20:30] = 3, 2
    predicted = np.where(reference == 3, reference, 0).astype(np.uint8)
    given = {
        "patient": "</script><b>x",
        "network": "ClassicUNet",
        "image": image,
        "modalities": ["FLAIR", "T1"],
        "predicted": predicted,
        "reference": reference,
        # Axes run to the patient's left, back and head; voxels have 8 mm³.
        "affine": np.diag([-2.0, -2, 2, 1]),
        "targets": TARGETS,
        "tissues": 3,
        "dice": {"WT": 0.6154, "ET": 1.0, "NCR": np.nan},
        "simulated": True,
    }
    return ViewedPatient(**(given | changes))


@pytest.fixture(scope="module")
def html():
    return compose_viewer(draw_patient())


def test_page_says_what_it_shows_and_fetches_nothing(html):
    page = re.sub(r'<script type="text/plain".*?</script>', "", html, flags=re.DOTALL)
    assert "<b>x" not in page
    assert "SIMULATED" in page.split("</title>")[0]
    assert '"ml": [8.0, 8.0]' in page  # ET: 1,000 voxels of 8 mm³ in both masks
    assert '"ml": [0.0, 6.4]' in page
    assert '"dice": 0.615' in page
    assert "NaN" not in page
    assert "default-src 'none'" in page
    assert "BSD 2-Clause License" in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_numbers_of_slices_are_those_of_the_scan():
    thick = compose_viewer(draw_patient(first_slice=20, slice_step=6))
    # Axial slices: the ball starts at 5, less a margin of 4.
    assert f'"name": "Axial", "first": {20 + 6 * 1}, "step": 6, "last": {20 + 6 * 47}' in thick


def read_preview(html):
    encoded = re.search(r'<img src="data:image/webp;base64,([^"]+)" alt="Axial, coronal and sagittal', html)[1]
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_the_page_has_a_picture_before_anything_is_unpacked():
    """ET at the patient's left, in front, towards the head."""
    predicted = np.zeros((SIZE, SIZE, SIZE), np.uint8)
    predicted[28:38, 12:20, 30:38] = 3
    pixels = read_preview(compose_viewer(draw_patient(predicted=predicted, reference=None)))
    height, width = pixels.shape[:2]
    assert width == 3 * height
    # Red without blue, as nothing else: at the top of all planes; of the sagittal one the front is at the left.
    orange = pixels[..., 0] - pixels[..., 2] > 60
    for tile, is_right in enumerate([True, True, False]):
        rows, columns = np.nonzero(orange[:, tile * height : (tile + 1) * height])
        assert len(rows) > 20
        assert (columns.mean() > height / 2) == is_right
        assert rows.mean() < height / 2
    grey = (np.ptp(pixels, axis=2) < 12) & (pixels.max(axis=2) > 60)
    assert grey.mean() > 0.2


def test_thick_slices_have_their_height_in_the_picture():
    pixels = read_preview(compose_viewer(draw_patient(affine=np.diag([-2.0, -2, 6, 1]))))
    shown = pixels.max(axis=2) > 15
    columns = np.flatnonzero(shown.any(0))
    gap = np.flatnonzero(np.diff(columns) > 1)
    axial = columns[: gap[0] + 1]
    rows = np.flatnonzero(shown[:, axial].any(1))
    # A ball of voxels is as wide as it is deep, and three times as high.
    assert len(rows) == pytest.approx(len(axial), abs=3)
    coronal = columns[gap[0] + 1 : gap[1] + 1]
    rows = np.flatnonzero(shown[:, coronal].any(1))
    assert len(rows) == pytest.approx(3 * len(coronal), rel=0.15)


def test_settings_refuse_a_negative_number():
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        ViewerSettings(patients=-1)


@pytest.fixture(scope="module")
def opened(html, tmp_path_factory):
    """The page in a browser, opened from disk."""
    folder = tmp_path_factory.mktemp("viewer")
    (folder / "viewer.html").write_text(html, encoding="utf-8")
    with open_browser(folder / "profile") as page:
        page.resize(1000)
        page.open((folder / "viewer.html").as_uri())
        page.wait_for("document.documentElement?.dataset.ready", 120)
        yield page


def choose(page, group, number):
    page.evaluate(f"document.querySelectorAll('#{group} input')[{number}].click()")
    settle(page)


def settle(page):
    page.evaluate("painting.then(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50))))")


def take_picture(page, pane=0):
    """What the canvas of a pane shows: (row, column, RGB)."""
    box = page.evaluate(f"document.querySelectorAll('canvas')[{pane}].getBoundingClientRect().toJSON()")
    clip = {"x": box["x"], "y": box["y"], "width": box["width"], "height": box["height"], "scale": 1}
    png = page.screenshot(clip)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")).astype(int)


def coloured(picture):
    """Where a colour is, not a grey; without the cross lines, which are blue."""
    red, green, blue = np.moveaxis(picture, -1, 0)
    return (np.maximum(red, green) - blue) > 60


def test_mask_is_seen_where_it_is_on_the_patients_left(opened):
    choose(opened, "mask", 1)
    choose(opened, "view", 1)
    opened.evaluate("find('opacity').value = 100, find('opacity').dispatchEvent(new Event('input'))")
    settle(opened)
    picture = take_picture(opened)
    rows, columns = np.nonzero(coloured(picture))
    brain = np.nonzero((picture.min(-1) > 40).any(0))[0]
    middle = (brain[0] + brain[-1]) / 2
    # The patient's left is on the right of the picture.
    assert columns.min() > middle
    assert np.abs(picture[rows, columns] - ET).mean(0).max() < 25
    # 20 mm of a ball of 80 mm in both directions.
    width = brain[-1] - brain[0]
    assert np.ptp(columns) / width == pytest.approx(10 / 40, abs=0.06)
    assert np.ptp(rows) / width == pytest.approx(10 / 40, abs=0.06)
    assert opened.errors("") == []


def test_a_tissue_that_is_switched_off_is_gone_and_comes_back(opened):
    choose(opened, "mask", 1)
    choose(opened, "view", 1)
    assert coloured(take_picture(opened)).any()
    opened.evaluate("document.querySelector('input[name=ET]').click()")
    settle(opened)
    assert not coloured(take_picture(opened)).any()
    opened.evaluate("document.querySelector('input[name=ET]').click()")
    settle(opened)
    assert coloured(take_picture(opened)).any()


def test_network_and_reference_stand_side_by_side_and_move_together(opened):
    choose(opened, "mask", 0)
    choose(opened, "view", 1)
    pictures = [take_picture(opened, pane) for pane in (0, 1)]
    assert all(coloured(picture).any() for picture in pictures)
    # ED is in the reference mask only: green without red.
    assert [(picture[..., 1] - picture[..., 0] > 60).sum() > 1000 for picture in pictures] == [False, True]
    opened.evaluate("find('slice-2').value = 0, find('slice-2').dispatchEvent(new Event('input'))")
    settle(opened)
    assert not any(coloured(take_picture(opened, pane)).any() for pane in (0, 1))
    assert opened.evaluate("find('cross').value") == "At the cross: network no tumour, reference mask no tumour."
    opened.evaluate("find('tumour').click()")
    settle(opened)
    assert all(coloured(take_picture(opened, pane)).any() for pane in (0, 1))


def test_every_modality_and_view_is_drawn_without_an_error(opened):
    choose(opened, "mask", 1)
    choose(opened, "view", 1)
    before = take_picture(opened)
    for number in range(5):
        choose(opened, "view", number)
        assert (take_picture(opened).max(-1) > 40).mean() > 0.02
    choose(opened, "view", 1)
    opened.evaluate("find('brightness').value = 90, find('brightness').dispatchEvent(new Event('input'))")
    settle(opened)
    brain = (before.min(-1) > 40) & ~coloured(before)
    assert take_picture(opened)[brain].mean() > before[brain].mean() + 20
    opened.evaluate("find('reset').click()")
    settle(opened)
    choose(opened, "modality", 1)
    assert opened.errors("") == []


@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_nothing_is_wider_than_the_window(opened, width):
    opened.resize(width)
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    inside = (
        "document.querySelector('aside').getBoundingClientRect().left + document.querySelector('aside').clientWidth"
    )
    wide = f"[...document.querySelectorAll('aside *')].filter((e) => e.getBoundingClientRect().right > {inside} + 1)"
    assert opened.evaluate(f"{wide}.map((e) => e.outerHTML.slice(0, 80))") == []
