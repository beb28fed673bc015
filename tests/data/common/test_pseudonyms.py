import re
import stat

import pytest
import yaml

from brain_tumor.data.common.pseudonyms import KEY, PSEUDONYM, SALT, Pseudonyms


def visit(name):
    match = re.fullmatch(r"(.+)-\d", name)
    return match[1] if match else name


def test_a_name_has_one_pseudonym_in_a_project_and_another_in_the_next(tmp_path):
    first, again, other = (Pseudonyms(tmp_path / folder) for folder in ("a", "a", "b"))
    assert first.replace("Jane Doe") == again.replace("Jane Doe")
    assert first.replace("Jane Doe") != first.replace("John Doe")
    assert first.replace("Jane Doe") != other.replace("Jane Doe")
    assert PSEUDONYM.fullmatch(first.replace("Jane Doe"))


def test_a_pseudonym_stays_as_it_is(tmp_path):
    names = Pseudonyms(tmp_path, visit)
    for name in ("Jane", "Jane-1"):
        assert names.replace(names.replace(name)) == names.replace(name)


def test_visits_of_one_person_are_told_apart_and_belong_together(tmp_path, brats):
    names = Pseudonyms(tmp_path, visit)
    first, second, other = map(names.replace, ("Jane-1", "Jane-2", "John-1"))
    assert len({first, second, other}) == 3
    assert brats.find_person(first) == brats.find_person(second) != brats.find_person(other)


def test_an_accent_written_in_two_ways_is_one_name(tmp_path):
    names = Pseudonyms(tmp_path)
    assert names.replace("M\u00fcller") == names.replace("Mu\u0308ller")


def test_the_key_says_who_is_who_and_only_its_owner_reads_it(tmp_path):
    for name in ("Jane", 'Äthel: "A."', "Jane", "007"):
        names = Pseudonyms(tmp_path / "privacy")
        names.replace(name)
        names.save()
    rows = yaml.safe_load((tmp_path / "privacy" / KEY).read_text(encoding="utf-8"))
    assert rows == {name: names.replace(name) for name in ("Jane", 'Äthel: "A."', "007")}
    for file in (KEY, SALT):
        assert stat.S_IMODE((tmp_path / "privacy" / file).stat().st_mode) == 0o600


def test_a_lost_salt_is_an_error_not_new_pseudonyms(tmp_path):
    names = Pseudonyms(tmp_path)
    names.replace("Jane")
    names.save()
    (tmp_path / SALT).unlink()
    with pytest.raises(ValueError, match=r"bring it back, or remove privacy_key\.yml too"):
        Pseudonyms(tmp_path)
