import pytest
from pydantic import ValidationError

from brain_tumor.data.scans.data_set import DataSet


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tissues": [{"name": "brain", "labels": [1]}]}, "brain can't be the name of a tissue"),
        (
            {"tissues": [{"name": "a", "labels": [1]}, {"name": "b", "labels": [1, 2]}]},
            "must be different numbers from 1 to 255",
        ),
        ({"tissues": [{"name": "a", "labels": [0]}]}, "must be different numbers from 1 to 255"),
        ({"tissues": [{"name": "a", "labels": [1000]}]}, "must be different numbers from 1 to 255"),
        ({"slice_patient": "{vol}"}, "slice_patient must be a format of {volume}"),
        ({"slice_patient": "somebody"}, "all patients would have one name"),
        ({"slice_file": "{volume}.h5"}, "slice_file must hold {slice}"),
        ({"person": "("}, "person must be a regular expression"),
        ({"person": r"p\d+"}, "person must have one group"),
    ],
)
def test_what_would_give_wrong_numbers_is_refused(brats, changed, message):
    with pytest.raises(ValidationError) as error:
        DataSet.model_validate(brats.model_dump() | {"regions": []} | changed)
    assert message in str(error.value)


def test_visits_are_of_one_person(brats):
    assert brats.find_person("BraTS-GLI-00009-001") == brats.find_person("BraTS-GLI-00009-000") == "BraTS-GLI-00009"
    assert brats.find_person("BraTS20_Training_009") == "BraTS20_Training_009"
