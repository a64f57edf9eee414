"""The fusion mechanism: equal to torch's decoder, blind to padding, attention that sums to one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from biod2c_core.errors import ConfigError
from biod2c_core.model.beyond.assemble import build_fusion
from biod2c_core.model.beyond.extension import ExtendedFusion
from biod2c_core.model.beyond.positions import block_positions, cell_positions, encode_boxes
from biod2c_core.model.beyond.qk_norm import QKNormDecoder
from biod2c_core.model.configuration import BioD2CConfig
from biod2c_core.model.fusion import (
    FeatureFusion,
    FusionDecoder,
    VisualTokens,
)
from biod2c_core.ops.multi_scale_pool import block_boxes, count_blocks, multi_scale_pool

D, TEXT, V = 24, 20, 8


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_decoder(layers: int = 3, heads: int = 4, dropout: float = 0.1) -> FusionDecoder:
    torch.manual_seed(0)
    return FusionDecoder(D, layers, heads, 40, dropout)


def torch_twin(decoder: FusionDecoder, layers: int = 3, heads: int = 4) -> nn.TransformerDecoder:
    layer = nn.TransformerDecoderLayer(
        D, heads, 40, dropout=0.1, activation="relu", batch_first=True, norm_first=True
    )
    twin = nn.TransformerDecoder(layer, layers, norm=nn.LayerNorm(D))
    twin.load_state_dict(decoder.state_dict())  # strict: the names are the same
    return twin


@settings(max_examples=25)
@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 6), st.integers(1, 30))
def test_decoder_equals_torchs(seed: int, b: int, t: int, m: int) -> None:
    decoder = make_decoder().eval()
    twin = torch_twin(decoder).eval()
    queries, memory = random(seed, b, t, D), random(seed + 1, b, m, D)
    got, maps = decoder(queries, memory)
    assert maps is None
    torch.testing.assert_close(got, twin(queries, memory), atol=2e-5, rtol=1e-4)


def test_decoder_equals_torchs_with_padding_and_in_its_gradients() -> None:
    decoder = make_decoder(dropout=0.0).train()
    twin = torch_twin(decoder).train()
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    padding = torch.tensor([[False] * 5, [False, False, True, True, True]])
    gradients = []
    for run in (
        lambda q, m: decoder(q, m, padding=padding)[0],
        lambda q, m: twin(q, m, tgt_key_padding_mask=padding),
    ):
        queries, memory = random(1, 2, 5, D), random(2, 2, 9, D)
        leaves = [queries.requires_grad_(), memory.requires_grad_()]
        output = run(queries, memory)[~padding]
        gradients.append([output, *torch.autograd.grad(output.square().sum(), leaves)])
    for got, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 99))
def test_questions_about_one_image_fuse_as_if_each_had_its_own(rows: list[int], seed: int) -> None:
    decoder = make_decoder(layers=2).eval()
    queries, memory = random(seed, len(rows), 3, D), random(seed + 1, 4, 9, D)
    index = torch.tensor(rows)
    shared, maps = decoder(queries, memory, need_attention=True, rows=index)
    alone, wanted = decoder(queries, memory[index], need_attention=True)
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(maps, wanted, atol=1e-5, rtol=1e-4)


def test_asking_for_attention_changes_nothing_and_its_rows_sum_to_one() -> None:
    decoder = make_decoder(layers=3, heads=4).eval()
    queries, memory = random(0, 2, 5, D), random(1, 2, 9, D)
    padding = torch.tensor([[False] * 5, [False, True, True, True, True]])
    plain, nothing = decoder(queries, memory, padding=padding)
    shown, maps = decoder(queries, memory, padding=padding, need_attention=True)
    assert nothing is None
    assert torch.equal(plain, shown)
    assert maps.shape == (2, 3, 4, 5, 9)
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 3, 4, 5))


def test_attention_is_that_of_the_layer_it_names() -> None:
    decoder = make_decoder(layers=2).eval()
    queries, memory = random(0, 1, 4, D), random(1, 1, 6, D)
    _, maps = decoder(queries, memory, need_attention=True)
    first = decoder.layers[0]
    x = queries + first.self_attn(*[first.norm1(queries)] * 3)[0]
    _, wanted = first.multihead_attn(first.norm2(x), memory, memory, average_attn_weights=False)
    torch.testing.assert_close(maps[:, 0], wanted, atol=1e-5, rtol=1e-4)


def test_attention_while_training_is_before_dropout() -> None:
    decoder = make_decoder(dropout=0.5).train()
    _, maps = decoder(random(0, 1, 3, D), random(1, 1, 7, D), need_attention=True)
    torch.testing.assert_close(maps.sum(-1), torch.ones(1, 3, 4, 3))


def test_width_that_heads_do_not_divide_is_an_error() -> None:
    with pytest.raises(ConfigError, match="24 wide, which 5 fusion heads"):
        make_decoder(heads=5)


def make_fusion(**changes: Any) -> ExtendedFusion:
    torch.manual_seed(0)
    sizes = {"fusion_layers": 2, "fusion_heads": 4, "fusion_feed_forward": 32, "text_hidden": 16}
    config = BioD2CConfig(num_visual_tokens=V, **{**sizes, **changes})
    return build_fusion(config, (8, 8, D), TEXT).eval()


def fuse(
    fusion: FeatureFusion, grid: Tensor, text: Tensor, mask: Tensor, **how: bool
) -> VisualTokens:
    return fusion(fusion.encode_image(grid), text, mask, **how)


@pytest.mark.parametrize("positions", [False, True])
def test_padding_of_the_question_changes_nothing(positions: bool) -> None:
    """A question in a batch gives what it gives alone, whatever stands at its padded places."""
    fusion = make_fusion(encode_positions=positions)
    grid, text = random(0, 3, 8, 8, D), random(1, 3, V, TEXT)
    mask = torch.zeros(3, V)
    for row, length in enumerate((8, 3, 1)):
        mask[row, :length] = 1
    together = fuse(fusion, grid, text, mask)
    dirty = torch.where(mask.bool()[..., None], text, 50.0)
    torch.testing.assert_close(fuse(fusion, grid, dirty, mask).tokens, together.tokens)
    for row, length in enumerate((8, 3, 1)):
        alone = fuse(
            fusion, grid[row : row + 1], text[row : row + 1, :length], torch.ones(1, length)
        )
        torch.testing.assert_close(alone.tokens[0], together.tokens[row], atol=2e-6, rtol=1e-5)


def test_only_the_places_of_question_tokens_are_conditioned() -> None:
    fusion = make_fusion()
    image = fusion.encode_image(random(0, 1, 8, 8, D))
    result = fusion(image, random(1, 1, 3, TEXT), torch.tensor([[1, 1, 0]]))
    assert result.tokens.shape == (1, V, TEXT)
    assert torch.equal(result.tokens[:, 2:], image.tokens[:, 2:])
    assert not torch.isclose(result.tokens[:, :2], image.tokens[:, :2]).all(-1).any()


def projected(module: torch.nn.Sequential, x: Tensor) -> Tensor:
    """W x + b, or W' max(W x + b, 0) + b'."""
    first, last = module[0], module[-1]
    x = x @ first.weight.T + first.bias
    return x if last is first else x.clamp(min=0) @ last.weight.T + last.bias


@pytest.mark.parametrize("layers", [1, 2])
def test_equations_1_and_2_step_by_step(layers: int) -> None:
    fusion = make_fusion(beta_init=0.7, projection_layers=layers)
    grid, text = random(0, 2, 8, 8, D), random(1, 2, V, TEXT)
    blocks = multi_scale_pool(grid, 4)
    resampled, _ = fusion.decoder(fusion.queries.expand(2, -1, -1), grid.flatten(1, 2))
    fused, _ = fusion.decoder(projected(fusion.text_mlp, text), blocks)
    gate = torch.tanh(torch.tensor(0.7))
    wanted = projected(fusion.project, resampled) + projected(fusion.project_gated, fused) * gate
    for module in (fusion.text_mlp, fusion.project, fusion.project_gated):
        assert sum(isinstance(part, torch.nn.Linear) for part in module) == layers
    got = fuse(fusion, grid, text, torch.ones(2, V)).tokens
    torch.testing.assert_close(got, wanted)


def test_beta_zero_closes_the_gate() -> None:
    fusion = make_fusion(beta_init=0.0)
    image = fusion.encode_image(random(0, 1, 8, 8, D))
    result = fusion(image, random(1, 1, V, TEXT), torch.ones(1, V))
    assert torch.equal(result.tokens, image.tokens)


def test_dropout_can_be_changed_and_is_that_of_a_module_made_with_it() -> None:
    made, changed = (
        FeatureFusion((4, 4, D), TEXT, FusionDecoder(D, 2, 8, 1024, p), V) for p in (0.3, 0.0)
    )
    changed.load_state_dict(made.state_dict())
    changed.set_dropout(0.3)
    image, question, mask = random(0, 2, 4, 4, D), random(1, 2, 5, TEXT), torch.ones(2, 5)
    tokens = []
    for module, training in ((made, True), (changed, True), (made, False)):
        module.train(training)
        torch.manual_seed(0)
        tokens.append(module(module.encode_image(image), question, mask).tokens)
    torch.testing.assert_close(tokens[0], tokens[1])
    assert not torch.allclose(tokens[0], tokens[2])


def test_the_paper_starts_beta_at_one_fifth() -> None:
    assert float(make_fusion().beta.detach()) == pytest.approx(0.2)


def test_fusion_off_leaves_the_image_alone() -> None:
    fusion = make_fusion(fusion="off")
    names = {name.partition(".")[0] for name, _ in fusion.named_parameters()}
    assert names == {"decoder", "queries", "project"}
    image = fusion.encode_image(random(0, 1, 8, 8, D))
    result = fusion(image, random(1, 1, 3, TEXT), torch.ones(1, 3), need_attention=True)
    assert torch.equal(result.tokens, image.tokens)
    assert result.attention is None


def test_attention_of_the_fused_branch_covers_all_blocks() -> None:
    fusion = make_fusion()
    grid, text, mask = random(0, 2, 8, 8, D), random(1, 2, 5, TEXT), torch.ones(2, 5)
    plain = fuse(fusion, grid, text, mask)
    shown = fuse(fusion, grid, text, mask, need_attention=True)
    assert plain.attention is None
    assert shown.attention is not None
    assert shown.attention.shape == (2, 2, 4, 5, count_blocks(4))
    torch.testing.assert_close(shown.attention.sum(-1), torch.ones(2, 2, 4, 5))
    assert torch.equal(plain.tokens, shown.tokens)


def test_positions_tell_blocks_apart_and_do_not_depend_on_the_grid_size() -> None:
    codes = block_positions(8, 8, D, 4, torch.device("cpu"))
    assert codes.shape == (count_blocks(4), D)
    distances = torch.cdist(codes, codes) + 10 * torch.eye(len(codes))
    assert distances.min() > 1e-3
    assert codes.abs().max() <= 1
    finer = block_positions(16, 16, D, 4, torch.device("cpu"))
    torch.testing.assert_close(codes, finer)


def test_a_cell_has_the_position_of_its_finest_block() -> None:
    cells = cell_positions(8, 8, D, torch.device("cpu"))
    blocks = block_positions(8, 8, D, 4, torch.device("cpu"))
    torch.testing.assert_close(blocks[-64:], cells)


def test_channels_that_do_not_divide_by_six_are_filled_with_zeros() -> None:
    codes = encode_boxes(block_boxes(2, 4, 4), 4, 4, 16)
    assert codes.shape == (5, 16)
    assert (codes[:, 12:] == 0).all()
    assert (codes[:, :12] != 0).any()


def test_positions_let_the_decoder_tell_left_from_right() -> None:
    """Mirrored grids look alike to a decoder over a set, but not with positions."""
    grid = random(0, 1, 8, 8, D)
    mirrored = grid.flip(2)
    text, mask = random(1, 1, V, TEXT), torch.ones(1, V)
    blind, sighted = make_fusion(), make_fusion(encode_positions=True)
    torch.testing.assert_close(
        fuse(blind, grid, text, mask).tokens,
        fuse(blind, mirrored, text, mask).tokens,
        atol=1e-5,
        rtol=1e-4,
    )
    difference = fuse(sighted, grid, text, mask).tokens - fuse(sighted, mirrored, text, mask).tokens
    assert difference.abs().max() > 1e-2


def test_rectangular_grids_work() -> None:
    torch.manual_seed(0)
    fusion = ExtendedFusion((5, 7, D), TEXT, FusionDecoder(D, 1, 2, 40, 0.1), V).eval()
    fusion.extend("encode_positions")
    result = fuse(fusion, random(0, 2, 5, 7, D), random(1, 2, 4, TEXT), torch.ones(2, 4))
    assert result.tokens.shape == (2, V, TEXT)


def maps_by_hand(
    attention: nn.MultiheadAttention, sharpness: Tensor, asked: Tensor, memory: Tensor
) -> Tensor:
    """Attention of directions, head by head, in float64, (B, h, T, M)."""
    weight, bias = (each.detach() for each in (attention.in_proj_weight, attention.in_proj_bias))
    q = asked.double() @ weight[:D].double().T + bias[:D].double()
    k = memory.double() @ weight[D : 2 * D].double().T + bias[D : 2 * D].double()
    maps = []
    for head, sharp in enumerate(sharpness.detach().double().exp()):
        part = slice(head * D // 4, (head + 1) * D // 4)
        q_h, k_h = (
            each[..., part] / each[..., part].square().mean(-1, True).sqrt() for each in (q, k)
        )
        maps.append((sharp * (q_h @ k_h.transpose(1, 2)) / (D // 4) ** 0.5).softmax(-1))
    return torch.stack(maps, 1)


def attended_by_hand(attention: nn.MultiheadAttention, maps: Tensor, memory: Tensor) -> Tensor:
    """What heads with these maps give, in float64, (B, T, D)."""
    weight, bias = (
        each.detach()[2 * D :] for each in (attention.in_proj_weight, attention.in_proj_bias)
    )
    v = (memory.double() @ weight.double().T + bias.double()).unflatten(-1, (4, -1))
    mixed = torch.einsum("bhtm,bmhd->bthd", maps, v).flatten(2)
    out = attention.out_proj
    return mixed @ out.weight.detach().double().T + out.bias.detach().double()


def layer_normed(x: Tensor) -> Tensor:
    """Without weights, in float64."""
    x = x.double()
    return (x - x.mean(-1, True)) / x.var(-1, correction=0, keepdim=True).sqrt()


def test_normalized_attention_compares_directions() -> None:
    torch.manual_seed(0)
    decoder = QKNormDecoder(D, 1, 4, 40, 0.0).eval()
    (layer,) = decoder.layers
    layer.sharpness.data = torch.tensor([-1.0, 0.0, 0.5, 1.0])
    queries, memory = random(0, 2, 3, D), 5 + 40 * random(1, 2, 9, D)
    _, maps = decoder(queries, memory, need_attention=True)
    assert maps is not None
    x = layer.norm1(queries)
    asked = layer.norm2(queries + layer.self_attn(x, x, x)[0])
    wanted = maps_by_hand(layer.multihead_attn, layer.sharpness, asked, layer_normed(memory))
    torch.testing.assert_close(maps[:, 0].double(), wanted, atol=1e-4, rtol=1e-3)


def test_normalized_queries_are_layer_normed_and_compare_their_directions() -> None:
    torch.manual_seed(0)
    decoder = QKNormDecoder(D, 1, 4, 40, 0.0, among=True).eval()
    (layer,) = decoder.layers
    layer.self_sharpness.data = torch.tensor([-1.0, 0.0, 0.5, 1.0])
    queries, memory = 7 + 3 * random(0, 2, 3, D), 5 + 40 * random(1, 2, 9, D)
    _, maps = decoder(queries, memory, need_attention=True)
    assert maps is not None
    start = layer_normed(queries)
    x = layer_normed(start)  # norm1, new, has no weights to speak of
    own = maps_by_hand(layer.self_attn, layer.self_sharpness, x, x)
    asked = layer_normed(start + attended_by_hand(layer.self_attn, own, x))
    wanted = maps_by_hand(layer.multihead_attn, layer.sharpness, asked, layer_normed(memory))
    torch.testing.assert_close(maps[:, 0].double(), wanted, atol=1e-4, rtol=1e-3)


@given(st.integers(0, 99), st.floats(0.1, 1e3))
def test_the_length_of_words_does_not_decide_what_normalized_queries_give(
    seed: int, length: float
) -> None:
    torch.manual_seed(seed)
    decoder = QKNormDecoder(D, 2, 4, 40, 0.0, cross=False, among=True).eval()
    queries, memory = random(seed, 1, 3, D), random(seed + 1, 1, 9, D)
    wanted, _ = decoder(queries, memory)
    given_, _ = decoder(length * queries, memory)
    torch.testing.assert_close(given_, wanted, atol=5e-3, rtol=1e-2)  # layer_norm has an eps


@given(st.integers(0, 99), st.floats(1.0, 1e4), st.sampled_from([-1.0, 0.0, 0.7]))
def test_only_its_sharpness_makes_normalized_attention_sharp(
    seed: int, scale: float, sharpness: float
) -> None:
    """However large weights or features grow, logits stay within exp(sharpness) * sqrt(D / h)."""
    torch.manual_seed(seed)
    decoder = QKNormDecoder(D, 2, 4, 40, 0.0).eval()
    for layer in decoder.layers:
        layer.multihead_attn.in_proj_weight.data.mul_(scale)
        layer.sharpness.data.fill_(sharpness)
    _, maps = decoder(random(0, 1, 3, D), scale * random(1, 1, 9, D), need_attention=True)
    assert maps is not None
    bound = 2 * math.exp(sharpness) * (D / 4) ** 0.5  # from the least logit to the largest
    assert (maps.amax(-1) / maps.amin(-1)).log().max().item() <= bound + 1e-3


def test_mixing_changes_nothing_at_first_and_can_learn() -> None:
    torch.manual_seed(0)
    fusion = make_fusion(fusion_layers=1, encode_positions=True)
    grid = random(1, 2, 8, 8, D)
    before = fusion.encode_image(grid)
    fusion.extend("mix_neighbours")
    mixing = fusion.mixing
    fusion.extend("mix_neighbours")
    assert fusion.mixing is mixing  # it is put in once
    after = fusion.encode_image(grid)
    assert torch.equal(after.blocks, before.blocks)
    assert torch.equal(after.tokens, before.tokens)
    after.tokens.square().sum().backward()
    assert mixing.mix.weight.grad.abs().sum() > 0
    mixing.mix.reset_parameters()
    mixed = fusion.encode_image(grid)
    assert not torch.allclose(mixed.blocks, before.blocks)
    assert not torch.allclose(mixed.tokens, before.tokens)


def test_reading_changes_nothing_at_first_and_teaches_the_map() -> None:
    fusion = make_fusion(qk_norm=True, projection_layers=1)
    grid, text, mask = random(0, 2, 8, 8, D), random(1, 2, 3, TEXT), torch.ones(2, 3)
    before = fuse(fusion, grid, text, mask)
    assert before.attention is None
    fusion.extend("attention_readout")
    reading = fusion.reading
    fusion.extend("attention_readout")
    assert fusion.reading is reading  # it is put in once
    after = fuse(fusion, grid, text, mask)
    assert torch.equal(after.tokens, before.tokens)
    fusion.set_dropout(0.4)
    assert reading.dropout.p == 0.4
    reading.read.reset_parameters()
    read = fuse(fusion, grid, text, mask)
    moved = before.tokens - read.tokens
    # one vector for all tokens of a question, nothing where it has none
    torch.testing.assert_close(moved[:, :3], moved[:, :1].expand(-1, 3, -1))
    assert moved[:, 0].abs().sum() > 0
    assert not moved[:, 3:].any()
    fusion.decoder.zero_grad()
    image = fusion.encode_image(grid)
    shown = fusion(image, text, mask.bool(), need_attention=True)
    reading(image.blocks, shown.attention, mask.bool(), None).sum().backward()
    assert fusion.decoder.layers[0].multihead_attn.in_proj_weight.grad.abs().sum() > 0
