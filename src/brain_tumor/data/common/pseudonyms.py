"""Pseudonyms in place of patients' names: salted hashes, the same in every run of a project."""

import json
import logging
import os
import re
import secrets
import unicodedata
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path, PurePath

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel

from brain_tumor.data.common.atomic import replacing

logger = logging.getLogger(__name__)

PSEUDONYM = re.compile(r"(anon_[0-9a-f]{12})(?:_v[0-9a-f]{6})?")
"""The group is the person; what follows is one visit of several."""

KINDS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".webp",
    ".pgm",
    ".dcm",
    ".ima",
    ".dicom",
    ".csv",
    ".txt",
)
"""Endings that files keep. Others may be a part of a name: `j.doe`."""

SALT, KEY = "privacy_salt.yml", "privacy_key.yml"
"""Files of a project: what no hash can be made again without, and who is who.

In conf/local, `kedro package` leaves out what ends in `.yml`, and nothing else.
"""


class PrivacySettings(BaseModel, frozen=True, extra="forbid"):
    """What becomes of the names of patients.

    Attributes:
        pseudonymise: pseudonyms take their place in tables, reports, logs and names of files.
    """

    pseudonymise: bool = False


def find_kind(file: PurePath) -> str:
    """The ending of a file's name, if it says of what kind the file is; else nothing.

    >>> find_kind(PurePath("scan.JPG")), find_kind(PurePath("j.doe"))
    ('.JPG', '')
    """
    return file.suffix if file.suffix.lower() in KINDS else ""


def is_pseudonym(name: str) -> bool:
    """Whether this project made up the name.

    >>> is_pseudonym("anon_0123456789ab"), is_pseudonym("anon_0123456789ab_v012345"), is_pseudonym("anonymous")
    (True, True, False)
    """
    return PSEUDONYM.fullmatch(name) is not None


class Pseudonyms:
    """Names and their pseudonyms.

    Args:
        folder: where the salt and the key are, or are written to; git must ignore it.
        find_person: the person whose visit a name stands for.

    Raises:
        ValueError: if there is a key, and its salt is gone.
    """

    def __init__(self, folder: Path, find_person: Callable[[str], str] = str) -> None:
        self._folder, self._find_person = folder, find_person
        self._known = self._read_key()
        self._salt = self._read_salt()
        self._new: dict[str, str] = {}

    def replace(self, name: str) -> str:
        """The pseudonym of a name, for the key; a pseudonym stays as it is."""
        if is_pseudonym(name):
            return name
        # macOS writes an accent as a character of its own.
        own = unicodedata.normalize("NFC", name)
        person = self._find_person(own)
        pseudonym = f"anon_{self.digest(person, 6)}"
        if person != own:
            pseudonym += f"_v{self.digest(own, 3)}"
        if own not in self._known:
            self._new[own] = pseudonym
        return pseudonym

    def digest(self, text: str, size: int = 6) -> str:
        """A salted hash of a text, of this many bytes, as hexadecimal digits."""
        return blake2b(text.encode(), key=self._salt, digest_size=size).hexdigest()

    def name_folder(self, folder: Path, target: Path) -> Path:
        """Where a folder's files lie under pseudonyms, below `target`: another place for each folder."""
        return target / self.digest(str(folder.absolute())) / self.replace(folder.absolute().name)

    def save(self) -> None:
        """Add the names that were replaced to the key."""
        # Another process may have written since.
        known = self._read_key()
        added = {name: pseudonym for name, pseudonym in self._new.items() if name not in known}
        if not added:
            return
        with replacing(self._folder / KEY) as draft:
            draft.touch(mode=0o600)
            with draft.open("w", encoding="utf-8") as file:
                for name, pseudonym in sorted((known | added).items()):
                    file.write(f"{json.dumps(name, ensure_ascii=False)}: {pseudonym}\n")
        logger.info("%d new pseudonyms; who is who: %s", len(added), self._folder / KEY)
        self._known = known | added

    def _read_key(self) -> dict[str, str]:
        file = self._folder / KEY
        return yaml.safe_load(file.read_text(encoding="utf-8")) or {} if file.is_file() else {}

    def _read_salt(self) -> bytes:
        file = self._folder / SALT
        if not file.is_file():
            if self._known:
                raise ValueError(
                    f"{file} is gone, without which nobody gets the pseudonym in {KEY} again; bring it back, or "
                    f"remove {KEY} too, for new pseudonyms"
                )
            self._folder.mkdir(parents=True, exist_ok=True)
            draft = self._folder / f".{SALT}.{os.getpid()}"
            draft.touch(mode=0o600)
            draft.write_text(f'salt: "{secrets.token_hex(32)}"\n', encoding="utf-8")
            try:
                # Of two processes that begin together, the salt of the first counts.
                os.link(draft, file)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return bytes.fromhex(yaml.safe_load(file.read_text(encoding="utf-8"))["salt"])
