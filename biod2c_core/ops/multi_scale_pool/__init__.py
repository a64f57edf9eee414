"""Multi-scale pooling (MFE, section 3.1): (B, H, W, D) -> (B, M, D), one operator, three paths."""

from biod2c_core.ops.multi_scale_pool.dispatch import multi_scale_pool
from biod2c_core.ops.multi_scale_pool.geometry import (
    block_boxes,
    block_edges,
    count_blocks,
    resolve_scales,
)

__all__ = ["block_boxes", "block_edges", "count_blocks", "multi_scale_pool", "resolve_scales"]
