import gzip
import re
import shutil
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from brain_tumor.data.images.class_folders import ImageFile, ImageSet, find_images, read_image
from brain_tumor.data.images.image_index import inspect_images

CLASSES = ImageSet(name="toys", classes=("cat", "dog"))


@pytest.fixture
def grey(rng):
    image = np.zeros((60, 50), np.uint8)
    image[10:50, 8:40] = rng.integers(60, 220, (40, 32))
    return image


@pytest.fixture
def source(tmp_path, grey):
    for folder in ("Training", "Testing"):
        for kind in CLASSES.classes:
            (tmp_path / folder / kind).mkdir(parents=True)
            Image.fromarray(grey).save(tmp_path / folder / kind / "a.jpg")
    return tmp_path


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "1", "LA"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_every_mode_gives_the_same_grey(tmp_path, grey, mode, suffix):
    if (mode, suffix) in (("CMYK", "png"), ("LA", "tif")):
        pytest.skip(f"{suffix} holds no {mode}")
    image = Image.fromarray(grey).convert(mode)
    image.save(tmp_path / f"a.{suffix}")
    read = read_image(tmp_path / f"a.{suffix}")
    assert read.mode == mode
    expected = np.asarray(image.convert("RGB").convert("L")) if mode == "1" else grey
    assert np.abs(read.grey.astype(int) - expected).max() <= 1


def test_cmyk_jpeg_and_colours(tmp_path, grey):
    Image.fromarray(grey).convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert np.abs(read_image(tmp_path / "a.jpg").grey.astype(int) - grey).mean() < 3
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "red.jpg", quality=100)
    assert abs(int(read_image(tmp_path / "red.jpg").grey[4, 4]) - 76) <= 1


def test_transparent_is_black_and_sixteen_bits_are_stretched(tmp_path, grey):
    clear = np.dstack([grey] * 3 + [np.where(np.arange(50) < 25, 0, 255)[None].repeat(60, 0)]).astype(np.uint8)
    Image.fromarray(clear).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png").grey
    assert (read[:, :25] == 0).all()
    assert np.array_equal(read[:, 25:], grey[:, 25:])
    Image.fromarray(grey.astype(np.uint16) * 16 + 100).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png").mode.startswith("I;16")
    assert np.corrcoef(read_image(tmp_path / "deep.png").grey.ravel(), grey.ravel())[0, 1] > 0.9999


def test_a_transparent_colour_is_black(tmp_path, grey):
    Image.fromarray(np.where(grey < 30, 9, np.maximum(grey, 30)).astype(np.uint8)).save(
        tmp_path / "a.png", transparency=9
    )
    read = read_image(tmp_path / "a.png").grey
    assert (read[grey < 30] == 0).all()
    assert np.array_equal(read[grey >= 30], grey[grey >= 30])


def test_image_is_turned_as_it_should_be_shown(tmp_path, grey):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png").grey, np.rot90(grey, -1))


def test_of_several_frames_the_first_is_read_and_noted(source, grey):
    Image.fromarray(grey).save(
        source / "Training/cat/pages.tif", save_all=True, append_images=[Image.fromarray(255 - grey)] * 4
    )
    rows, _ = inspect_images(find_images(source, CLASSES), source)
    (row,) = rows[rows["file"] == "Training/cat/pages.tif"].to_dict("records")
    assert row["note"] == "the first of 5 frames"
    assert np.array_equal(read_image(source / "Training/cat/pages.tif").grey, grey)


def test_a_png_named_jpg_is_read_and_noted(source, grey):
    Image.fromarray(grey).save(source / "Training/cat/b.jpg", format="png")
    rows, _ = inspect_images(find_images(source, CLASSES), source)
    (row,) = rows[rows["file"] == "Training/cat/b.jpg"].to_dict("records")
    assert (row["format"], row["note"], row["excluded"]) == ("PNG", "PNG named .jpg", "")


def _truncate(path, grey):
    Image.fromarray(grey).save(path, format="jpeg")
    path.write_bytes(path.read_bytes()[:700])


def _break(path, grey):
    """Damage within the picture, whose end is there.

    Decoders that go on regardless give grey levels that nobody took.
    """
    Image.fromarray(grey).save(path, format="jpeg")
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + b"\xff\xc0" + content[half + 2 :])


BAD = {
    "broken": (_break, "damaged image .*broken data stream.*; fetch the file again"),
    "truncated": (_truncate, "damaged image .*truncated.*; fetch the file again"),
    "empty": (lambda path, _: path.write_bytes(b""), "0 bytes"),
    "text": (lambda path, _: path.write_text("not an image"), "not an image: it is text: remove it"),
    "huge": (
        lambda path, _: Image.new("1", (10_000, 10_000)).save(path, "PNG"),
        r"it has more than 89,\d+,\d+ pixels; make it smaller",
    ),
    "constant": (lambda path, _: Image.new("L", (40, 40), 7).save(path), "every pixel has the same value"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_set_aside_with_rule_and_remedy(source, grey, what):
    write, words = BAD[what]
    write(source / "Training/cat/bad.jpg", grey)
    rows, views = inspect_images(find_images(source, CLASSES), source)
    (row,) = rows[rows["excluded"] != ""].to_dict("records")
    assert row["file"] == "Training/cat/bad.jpg"
    assert re.search(words, row["excluded"])
    assert views[rows["excluded"] != ""].max() == 0
    assert len(rows) == 5


def test_nearly_dark_image_is_kept_whole_and_noted(source, grey):
    Image.fromarray((grey / 30).astype(np.uint8)).save(source / "Training/cat/dark.png")
    rows, _ = inspect_images(find_images(source, CLASSES), source)
    (row,) = rows[rows["file"] == "Training/cat/dark.png"].to_dict("records")
    assert row["note"] == "too dark to find borders: kept whole"
    assert (row["top"], row["bottom"], row["left"], row["right"], row["excluded"]) == (0, 60, 0, 50, "")


def test_unknown_folders_are_set_aside_with_a_hint(source, grey):
    (source / "Training/dogs").mkdir()
    Image.fromarray(grey).save(source / "Training/dogs/a.jpg")
    Image.fromarray(grey).save(source / "Training/stray.jpg")
    problems = {
        str(image.path.relative_to(source)): image.problem for image in find_images(source, CLASSES) if image.problem
    }
    assert "did you mean 'dog'?" in problems["Training/dogs/a.jpg"]
    assert problems["Training/stray.jpg"].startswith("lies in no class folder; move it into one of cat, dog")


def test_absent_folders_and_classes_stop_the_run(source):
    for file in (source / "Testing/dog").iterdir():
        file.unlink()
    with pytest.raises(
        ValueError,
        match=r"no image of dog in Testing, where the folders are cat; every class needs images .*data_set\.classes",
    ):
        find_images(source, CLASSES)
    (source / "Testing/dog").rmdir()
    with pytest.raises(ValueError, match="no image of dog in Testing"):
        find_images(source, CLASSES)
    with pytest.raises(
        FileNotFoundError,
        match=r"no folder Training and no folder Testing; give the folder .* `--params classification_source=PATH`",
    ):
        find_images(source / "Testing", CLASSES)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        find_images(source / "nowhere", CLASSES)


def test_one_more_folder_around_everything_is_fine(source, tmp_path):
    (tmp_path / "more/archive").mkdir(parents=True)
    for folder in ("Training", "Testing"):
        (source / folder).rename(tmp_path / "more/archive" / folder)
    assert len(find_images(tmp_path / "more", CLASSES)) == 4


def test_state_changes_with_the_file(source, grey):
    file = source / "Training/cat/a.jpg"
    before = ImageFile(file, "Training", "cat").state
    Image.fromarray(255 - grey).save(file)
    assert ImageFile(file, "Training", "cat").state != before


def photograph(path):
    levels = np.indices((60, 80)).sum(0).astype(np.uint8)
    Image.fromarray(np.stack([levels, 255 - levels, levels // 2], -1)).save(path)


def test_a_colour_photograph_is_left_out_and_coloured_marks_are_noted(source, grey):
    photograph(source / "Training/cat/photo.png")
    marked = np.stack([grey] * 3, -1)
    marked[: grey.shape[0] // 5, : grey.shape[1] // 5] = (250, 30, 30)
    Image.fromarray(marked).save(source / "Training/cat/marked.png")
    rows, _ = inspect_images(find_images(source, CLASSES), source)
    table = rows.set_index("file")
    assert "of its pixels have colour: no MRI slice; remove it" in table.loc["Training/cat/photo.png", "excluded"]
    assert table.loc["Training/cat/marked.png", "excluded"] == ""
    assert table.loc["Training/cat/marked.png", "note"] == "4% of its pixels have colour"


def test_a_png_with_damaged_pixels_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8)
    file = tmp_path / "damaged.png"
    Image.fromarray(noise).save(file)
    read_image(file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(ValueError, match="damaged image"):
        read_image(file)


def test_exif_that_pillow_cannot_write_again_costs_no_image(tmp_path, grey):
    """Pillow's exif_transpose raises struct.error on a signed rational of (-1, 0)."""
    upright, odd = tmp_path / "upright.jpg", tmp_path / "odd.jpg"
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, TiffImagePlugin.IFDRational(72, 1)
    Image.fromarray(grey).save(upright, exif=exif, quality=95)
    content = bytearray(upright.read_bytes())
    value, tag = content.find(struct.pack(">II", 72, 1)), content.find(struct.pack(">HHI", 0x011A, 5, 1))
    content[value : value + 8], content[tag : tag + 8] = struct.pack(">iI", -1, 0), struct.pack(">HHI", 0x011A, 10, 1)
    odd.write_bytes(content)
    assert read_image(odd).grey.shape == grey.shape[::-1]
    assert np.array_equal(read_image(odd).grey, read_image(upright).grey)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_as_pillow_does(tmp_path, grey, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(grey).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(read_image(tmp_path / "a.png").grey, np.asarray(ImageOps.exif_transpose(image)))


def test_training_and_testing_lie_side_by_side(source, tmp_path_factory, caplog):
    data = tmp_path_factory.mktemp("data")
    shutil.copytree(source, data / "set")
    shutil.copytree(source / "Training", data / "augmented/Training")
    found = find_images(data, CLASSES)
    assert {image.path.relative_to(data).parts[0] for image in found} == {"set"}
    assert "augmented, which holds folders of the same names, is not used" in caplog.text
    shutil.rmtree(data / "set/Training")
    with pytest.raises(FileNotFoundError, match=r"Training in .*augmented and Testing in .*set don't lie side by side"):
        find_images(data, CLASSES)
    shutil.copytree(source, data / "one")
    shutil.copytree(source, data / "two")
    with pytest.raises(ValueError, match=r"holds two data sets, .*one and .*two; give the folder"):
        find_images(data, CLASSES)


def test_files_of_the_operating_system_are_no_images(source):
    before = find_images(source, CLASSES)
    for name in ("._a.png", "Thumbs.db", ".DS_Store", "desktop.ini"):
        (source / "Training/cat" / name).write_bytes(b"x")
    for folder in ("__MACOSX", "@eaDir", ".ipynb_checkpoints"):
        shutil.copytree(source / "Training", source / folder / "Training")
        (source / "Training/cat" / folder).mkdir()
        (source / "Training/cat" / folder / "a.png").write_bytes(b"x")
    assert find_images(source, CLASSES) == before


def test_an_image_of_numbers_some_of_which_are_none_is_not_called_damaged(tmp_path, grey):
    values = grey.astype(np.float32)
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"^it holds NaN or infinity; replace them by 0 and export the image again$"):
        read_image(tmp_path / "a.tif")


def test_a_compressed_image_is_to_be_decompressed(tmp_path, grey):
    Image.fromarray(grey).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(gzip.compress((tmp_path / "a.png").read_bytes()))
    with pytest.raises(ValueError, match="is a PNG image compressed with gzip: decompress it with `gunzip`"):
        read_image(tmp_path / "a.png")
