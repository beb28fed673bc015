"""A folder of images once more, with pseudonyms in place of names: links to the files, and the table of patients."""

from collections.abc import Collection
from pathlib import Path, PurePath, PurePosixPath

from brain_tumor.data.common.files import SIMULATED_MARK, is_simulated, list_files
from brain_tumor.data.common.links import write_links
from brain_tumor.data.common.pseudonyms import Pseudonyms, find_kind
from brain_tumor.data.common.tables import read_table
from brain_tumor.data.images.class_folders import ImageSet
from brain_tumor.data.images.patients import PatientSettings

TABLE = "patients.csv"
"""In the folder of the images: their patients."""


def list_kept(image_set: ImageSet) -> tuple[str, ...]:
    """Folders that keep their names, in lower case: they say what lies in them."""
    return tuple(sorted({name.lower() for name in (image_set.training, image_set.testing, *image_set.classes)}))


def make_pseudonymous_images(source: Path, target: Path, names: Pseudonyms, kept: Collection[str]) -> Path:
    """Links to all files of a folder, or to one file; gives the folder of the links, or the link.

    Args:
        target: where such folders are; what lies in this one's and isn't in `source` any more is removed.
        kept: of `list_kept`.
    """
    if not source.exists():
        return source
    root = names.name_folder(source, target)
    links, texts = {}, {}
    if source.is_dir():
        for file in list_files(source):
            if file.name not in (SIMULATED_MARK, TABLE):
                links[root / replace_path(file.relative_to(source), names, kept)] = file
        shown = root
    else:
        shown = root / replace_path(PurePath(source.name), names, kept)
        links[shown] = source
    if is_simulated(source):
        texts[root / SIMULATED_MARK] = ""
    write_links(root, links, texts)
    names.save()
    return shown


def replace_path(path: PurePath, names: Pseudonyms, kept: Collection[str]) -> PurePath:
    """A path below the folder of the images, with pseudonyms for its folders and the name of the file."""
    above = [part if part.lower() in kept else names.replace(part) for part in path.parent.parts]
    kind = find_kind(path)
    return type(path)(*above, names.replace(path.name.removesuffix(kind)) + kind)


def make_pseudonymous_table(
    table: Path, target: Path, names: Pseudonyms, settings: PatientSettings, kept: Collection[str]
) -> Path:
    """The table of patients about the same images and patients under their pseudonyms; gives its path.

    A table that isn't there, or lacks a column, is given as it is, for the words of what reads it.
    """
    if not table.is_file():
        return table
    rows = read_table(table)
    if not {settings.file, settings.patient} <= {*rows}:
        return table
    paths = [PurePosixPath(path.strip().replace("\\", "/")) for path in rows[settings.file]]
    rows[settings.file] = [str(replace_path(path, names, kept)) if path.name else "" for path in paths]
    patients = rows[settings.patient].str.strip()
    rows[settings.patient] = [names.replace(patient) if patient else "" for patient in patients]
    root = names.name_folder(table, target)
    write_links(root, {}, {root / TABLE: rows.to_csv(index=False)})
    names.save()
    return root / TABLE
