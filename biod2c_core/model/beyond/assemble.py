"""From a model's configuration to its fusion module, with what goes beyond the paper."""

from __future__ import annotations

from typing import Any

from biod2c_core.model.beyond.attention_readout import AttentionReadout
from biod2c_core.model.beyond.extension import EXTENSIONS, ExtendedFusion, register_extension
from biod2c_core.model.beyond.neighbours import NeighbourMixing
from biod2c_core.model.beyond.positions import PositionCodes
from biod2c_core.model.beyond.qk_norm import QKNormDecoder
from biod2c_core.model.beyond.without_fusion import WithoutFusion
from biod2c_core.model.fusion import FusionDecoder

register_extension("mix_neighbours", NeighbourMixing)
register_extension("encode_positions", PositionCodes)
register_extension("attention_readout", AttentionReadout)


def build_fusion(config: Any, grid: tuple[int, int, int], text_width: int) -> ExtendedFusion:
    """The fusion module that a configuration describes, with random weights.

    Args:
        config: A :class:`~biod2c_core.model.configuration.BioD2CConfig`.
        grid: Height, width and channels (D) of X_v.
        text_width: d, the width of the language model.
    """
    sizes = (
        grid[2],
        config.fusion_layers,
        config.fusion_heads,
        config.fusion_feed_forward,
        config.fusion_dropout,
    )
    if config.qk_norm or config.qk_norm_queries:
        decoder: FusionDecoder = QKNormDecoder(
            *sizes, cross=config.qk_norm, among=config.qk_norm_queries
        )
    else:
        decoder = FusionDecoder(*sizes)
    kind = ExtendedFusion if config.fusion == "on" else WithoutFusion
    fusion = kind(
        grid,
        text_width,
        decoder,
        num_visual_tokens=config.num_visual_tokens,
        scales=config.scales,
        projection_layers=config.projection_layers,
        text_hidden=config.text_hidden,
        beta_init=config.beta_init,
    )
    for switch in EXTENSIONS:
        if getattr(config, switch, False) or switch in config.extensions:
            fusion.extend(switch)
    for name in config.extensions:
        fusion.extend(name)  # says which names there are, if this is not one
    return fusion
