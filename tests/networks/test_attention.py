import pytest
import torch

from brain_tumor.networks import build
from brain_tumor.networks.attention import ablate_attention, attention_modules, capture_attention, capture_outputs
from brain_tumor.networks.residual_attention_unet import SelfAttention

SIZES = {
    "attention_unet": [8, 16, 32, 64],
    "residual_attention_unet": [32, 16, 8, 16, 32],
}  # of a slice of 64 x 64, in the order of definition


@pytest.fixture(params=SIZES)
def network(request):
    torch.manual_seed(0)
    return request.param, build(request.param, n_filters=8)


def test_every_map_is_seen_and_the_logits_stay(network):
    name, network = network
    x = torch.randn(2, 4, 64, 64)
    with torch.no_grad(), capture_attention(network) as maps:
        logits = network(x)
        assert list(maps) == list(attention_modules(network))
        assert [m.shape for m in maps.values()] == [(2, 1, s, s) for s in SIZES[name]]
    maps.clear()
    with torch.no_grad():
        assert torch.equal(network(x), logits)
    assert not maps  # nothing is kept once it is closed


def test_outputs_of_any_module_can_be_seen():
    network = build("attention_unet", n_filters=8).eval()
    x = torch.randn(1, 4, 32, 32)
    with torch.no_grad(), capture_outputs({"head": network.head, "score": network.gates[3].score}) as found:
        logits = network(x)
    assert torch.equal(found["head"], logits)
    assert found["score"].shape == (1, 1, 16, 16)


def test_a_level_map_changes_the_logits_while_open(network):
    _, network = network
    x = torch.randn(2, 4, 64, 64)
    with torch.no_grad():
        before = network(x)
        for name in attention_modules(network):
            with ablate_attention(network, name):
                assert not torch.equal(network(x), before), name
        assert torch.equal(network(x), before)


def test_a_gate_that_is_level_already_changes_nothing():
    network = build("attention_unet", n_filters=8)
    torch.nn.init.zeros_(network.gates[1].score.weight)
    x = torch.randn(2, 4, 32, 32)
    with torch.no_grad(), ablate_attention(network, "gates.1"):
        levelled_logits = network(x)
    torch.testing.assert_close(network(x), levelled_logits)


def test_received_attention_has_mean_one_and_uniform_queries_make_it_level():
    torch.manual_seed(0)
    block = SelfAttention(8).eval()
    x = torch.randn(2, 8, 16, 12)
    with torch.no_grad():
        received = block.attention_map((x,), block(x))
        torch.testing.assert_close(received.mean((1, 2, 3)), torch.ones(2), atol=1e-2, rtol=0)
        block.attention.in_proj_weight[:8] = 0  # every query is the same vector, zero: every place gets the same weight
        block.attention.in_proj_bias[:8] = 0
        torch.testing.assert_close(block.attention_map((x,), block(x)), torch.ones(2, 1, 16, 12))
        torch.testing.assert_close(block.ablated_output((x,), block(x)), block(x))


def test_cells_stay_in_their_places_where_a_side_is_no_multiple():
    """What three columns and a half of cells have lies where four have it, and is cut off."""
    small, block = torch.randn(1, 2, 3, 4), SelfAttention(8)
    whole, cut = (block._upsample(small, torch.zeros(1, 2, 12, width)) for width in (16, 14))
    assert torch.equal(cut, whole[..., :14])
    assert torch.equal(
        whole, torch.nn.functional.interpolate(small, size=(12, 16), mode="bilinear", align_corners=False)
    )


def test_cells_at_the_edge_of_sides_that_are_no_multiple():
    block = SelfAttention(8).eval()
    assert block(torch.randn(1, 8, 30, 30)).shape == (1, 8, 30, 30)
