from brain_tumor.data.common.provenance import PHANTOMS, Origin, find_origin

DECLARED = Origin(data_set="BraTS 2020", text="from hospitals", terms="cite", sources=("Menze",))


def test_declared_data_set_has_its_origin():
    assert find_origin("BraTS 2020", DECLARED, simulated=False, parameter="p") is DECLARED


def test_simulated_data_are_never_said_to_be_from_people():
    assert find_origin("BraTS 2020", DECLARED, simulated=True, parameter="p") is PHANTOMS


def test_nothing_is_claimed_of_another_data_set():
    origin = find_origin("Stroke", DECLARED, simulated=False, parameter="data_segmentation.origin")
    assert origin.sources == ()
    assert "`data_segmentation.origin` is about BraTS 2020" in origin.text
