"""Multi-scale pooling on a GPU: each cell is read once, forward and back, whatever the strides.

A program takes a tile of 2^L x 2^L of the finest blocks and a run of channels, keeps it in registers,
and works through the L + 1 scales that fit the tile as a tree: `_gather` goes up (maximum, sum and how
many cells reach the maximum), `_emit` or `_scatter` goes down (results or gradients). The roots of the
tiles, a small array, are the leaves of the next pass, until scale 1 is reached.

Two layouts. With channels contiguous (NHWC) a node is a vector of channels and has 2 x 2 children. With
columns contiguous (NCHW, PLANES below) a node is a row of blocks: its children are the two rows below,
and neighbouring columns are merged inside a thread.

Vectors are (channels, columns). ``row`` and ``column`` count from the tile's corner, in blocks of the
node's own level; level 0 is the leaves. All loads of a tile come before its first store, so that they
are in flight together.
"""

# Kernel parameters carry Triton's annotations only; a branch chosen at compile time needs its else.
# mypy: allow-untyped-defs, allow-incomplete-defs
# ruff: noqa: RET505

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl


class Plan(NamedTuple):
    """What a kernel is compiled for."""

    FINEST: int  # scale of the leaves
    LEVELS: int  # levels above them in a tile
    SCALES: int  # scales of the result; finer ones are only passed through
    MAP: bool  # the leaves are blocks of the map, not roots of an earlier pass
    PLANES: bool  # columns are contiguous, not channels
    TILE_W: int  # columns of leaves in a tile
    BIN_H: int  # most rows and columns of cells in a leaf
    BIN_W: int
    CELLS: int  # cells of each leaf; 0 if they differ, or if a leaf is the root
    BLOCK_D: int  # channels of a tile


class Tile(NamedTuple):
    """Which part of which map a program works on."""

    row: Any  # among the tiles of an image
    column: Any
    height: Any  # cells of the map
    width: Any
    live: Any  # (channels, 1): which channels exist


class Grid(NamedTuple):
    """Blocks or cells from a tile's corner on: pointers (channels, 1), and the steps between."""

    corner: Any
    down: Any
    right: Any
    part: Any  # from a tensor of maxima to those of sums and counts


@triton.jit
def _across(WIDTH: tl.constexpr):
    """0 .. WIDTH - 1 as (1, WIDTH); a plain 0 for one column, which compiles several times faster."""
    if WIDTH == 1:
        return 0
    else:
        return tl.arange(0, WIDTH)[None, :]


@triton.jit
def _cells(tile, row, column, LEVEL: tl.constexpr, WIDTH: tl.constexpr, plan: tl.constexpr):
    """Top, bottom, left and right cell of a node's blocks: floor(i N / k), floor((i + 1) N / k)."""
    parts: tl.constexpr = 2 ** (plan.FINEST - LEVEL - 1)
    rows = tile.row * 2 ** (plan.LEVELS - LEVEL) + row
    first = tile.column * (plan.TILE_W // 2**LEVEL) + column
    columns = first + _across(WIDTH)
    return (
        rows * tile.height // parts,
        (rows + 1) * tile.height // parts,
        columns * tile.width // parts,
        (columns + 1) * tile.width // parts,
    )


@triton.jit
def _share(tile, row, column, LEVEL: tl.constexpr, WIDTH: tl.constexpr, plan: tl.constexpr):
    """1 / (cells of the block), for each block of a node."""
    if plan.CELLS > 0:
        return 1.0 / (plan.CELLS * 4**LEVEL)
    else:
        top, bottom, left, right = _cells(tile, row, column, LEVEL, WIDTH, plan)
        return 1.0 / ((bottom - top) * (right - left)).to(tl.float32)


@triton.jit
def _blocks(
    pooled, tile, row, column, LEVEL: tl.constexpr, WIDTH: tl.constexpr, plan: tl.constexpr
):
    """Pointers to a node's blocks in (B, M, D): `pooled` is the first of the image, and the step."""
    parts: tl.constexpr = 2 ** (plan.FINEST - LEVEL - 1)
    corner_row = tile.row * 2 ** (plan.LEVELS - LEVEL)
    corner_column = tile.column * (plan.TILE_W // 2**LEVEL)
    corner = (parts * parts - 1) // 3 + corner_row * parts + corner_column
    from_corner = row * parts + column + _across(WIDTH)
    return pooled[0] + corner * pooled[1] + from_corner * pooled[1]


@triton.jit
def _merge(a, b):
    """(maximum, sum, count) of two groups of cells put together; NaN wins and is never counted."""
    maximum = tl.maximum(a[0], b[0], propagate_nan=tl.PropagateNan.ALL)
    count = tl.where(a[0] == maximum, a[2], 0.0) + tl.where(b[0] == maximum, b[2], 0.0)
    return maximum, a[1] + b[1], count


@triton.jit
def _pairs(vector):
    """(channels, 2 w) -> its even and odd columns, (channels, w) each."""
    return tl.split(tl.reshape(vector, [vector.shape[0], vector.shape[1] // 2, 2]))


@triton.jit
def _cell(source, tile, edges, n, m):
    """Pointers to cell (n, m) of each leaf, and whether there is one."""
    top, bottom, left, right = edges
    here = tile.live & (top + n < bottom) & (left + m < right)
    return source.corner + (top + n) * source.down + (left + m) * source.right, here


@triton.jit
def _leaf(source, tile, row, column, WIDTH: tl.constexpr, plan: tl.constexpr):
    """(maximum, sum, count) of the finest blocks."""
    if plan.CELLS == 1 or not plan.MAP:
        columns = column + _across(WIDTH)
        at = source.corner + row * source.down + columns * source.right
        first = tl.load(at, mask=tile.live, other=0.0).to(tl.float32)
        if plan.MAP:
            return first, first, tl.full([plan.BLOCK_D, WIDTH], 1.0, tl.float32)
        else:
            total = tl.load(at + source.part, mask=tile.live, other=0.0)
            return first, total, tl.load(at + 2 * source.part, mask=tile.live, other=0.0)
    else:
        edges = _cells(tile, row, column, 0, WIDTH, plan)
        total = tl.full([plan.BLOCK_D, WIDTH], 0.0, tl.float32)
        maximum, count = total - float("inf"), total
        for n in range(plan.BIN_H):
            for m in range(plan.BIN_W):
                at, here = _cell(source, tile, edges, n, m)
                cell = tl.load(at, mask=here, other=0.0).to(tl.float32)
                one = (here & (cell == cell)).to(tl.float32)
                seen = tl.where(here, cell, -float("inf"))
                maximum, total, count = _merge((maximum, total, count), (seen, cell, one))
        return maximum, total, count


@triton.jit
def _gather(
    source, tile, row, column, LEVEL: tl.constexpr, WIDTH: tl.constexpr, plan: tl.constexpr
):
    """(maximum, sum, count, children) of a node, from the leaves below it."""
    if LEVEL == 0:
        maximum, total, count = _leaf(source, tile, row, column, WIDTH, plan)
        return maximum, total, count, ()
    elif plan.PLANES:
        top = _gather(source, tile, 2 * row, 2 * column, LEVEL - 1, 2 * WIDTH, plan)
        low = _gather(source, tile, 2 * row + 1, 2 * column, LEVEL - 1, 2 * WIDTH, plan)
        maximum, total, count = _merge(top, low)
        a, b = _pairs(maximum)
        c, d = _pairs(total)
        e, f = _pairs(count)
        maximum, total, count = _merge((a, c, e), (b, d, f))
        return maximum, total, count, (top, low)
    else:
        a = _gather(source, tile, 2 * row, 2 * column, LEVEL - 1, 1, plan)
        b = _gather(source, tile, 2 * row, 2 * column + 1, LEVEL - 1, 1, plan)
        c = _gather(source, tile, 2 * row + 1, 2 * column, LEVEL - 1, 1, plan)
        d = _gather(source, tile, 2 * row + 1, 2 * column + 1, LEVEL - 1, 1, plan)
        maximum, total, count = _merge(_merge(a, b), _merge(c, d))
        return maximum, total, count, (a, b, c, d)


@triton.jit
def _emit(
    node, pooled, tile, row, column, LEVEL: tl.constexpr, WIDTH: tl.constexpr, plan: tl.constexpr
):
    """Store maximum + mean of a node and of all below it."""
    if plan.FINEST - LEVEL <= plan.SCALES and (plan.MAP or LEVEL > 0):
        value = node[0] + node[1] * _share(tile, row, column, LEVEL, WIDTH, plan)
        tl.store(_blocks(pooled, tile, row, column, LEVEL, WIDTH, plan), value, mask=tile.live)
    if LEVEL > 0:
        across: tl.constexpr = 1 if plan.PLANES else 2
        for i in tl.static_range(2 * across):
            below = (2 * row + i // across, 2 * column + i % across)
            _emit(
                node[3][i], pooled, tile, below[0], below[1], LEVEL - 1, 2 * WIDTH // across, plan
            )


@triton.jit
def _gradients(
    pooled, tile, row, column, LEVEL: tl.constexpr, WIDTH: tl.constexpr, plan: tl.constexpr
):
    """(gradient, children) of a node's results."""
    own = 0.0
    if plan.FINEST - LEVEL <= plan.SCALES and (plan.MAP or LEVEL > 0):
        at = _blocks(pooled, tile, row, column, LEVEL, WIDTH, plan)
        own = tl.load(at, mask=tile.live, other=0.0).to(tl.float32)
    children = ()
    if LEVEL > 0:
        across: tl.constexpr = 1 if plan.PLANES else 2
        for i in tl.static_range(2 * across):
            r, c = 2 * row + i // across, 2 * column + i % across
            below = _gradients(pooled, tile, r, c, LEVEL - 1, 2 * WIDTH // across, plan)
            children += (below,)  # type: ignore[assignment]
    return own, children


@triton.jit
def _scatter(
    node,
    gradient,
    mean_part,
    max_part,
    grids,
    tile,
    row,
    column,
    LEVEL: tl.constexpr,
    WIDTH: tl.constexpr,
    plan: tl.constexpr,
):
    """Hand gradients down to the leaves: a mean's to all cells, a maximum's to those that reach it.

    A block with a NaN has a count of 0; its share of the maximum is then not finite, and times 0
    makes NaN of every cell, as in the reference.
    """
    if plan.FINEST - LEVEL <= plan.SCALES and (plan.MAP or LEVEL > 0):
        mean_part += gradient[0] * _share(tile, row, column, LEVEL, WIDTH, plan)
        max_part += gradient[0] / node[2]
    if LEVEL > 0:
        across: tl.constexpr = 1 if plan.PLANES else 2
        width: tl.constexpr = 2 * WIDTH // across
        maximum = node[0]
        if plan.PLANES:
            maximum = tl.interleave(maximum, maximum)
            mean_part = tl.interleave(mean_part, mean_part)
            max_part = tl.interleave(max_part, max_part)
        for i in tl.static_range(2 * across):
            child, own = node[3][i], gradient[1][i]
            r, c = 2 * row + i // across, 2 * column + i % across
            peak = max_part * (child[0] == maximum).to(tl.float32)
            _scatter(child, own, mean_part, peak, grids, tile, r, c, LEVEL - 1, width, plan)
    elif plan.CELLS == 1 or not plan.MAP:
        target = grids[1]
        at = target.corner + row * target.down + (column + _across(WIDTH)) * target.right
        if plan.MAP:
            tl.store(at, mean_part + max_part, mask=tile.live)
        else:
            tl.store(at, mean_part, mask=tile.live)
            tl.store(at + target.part, max_part, mask=tile.live)
    else:
        edges = _cells(tile, row, column, 0, WIDTH, plan)
        for n in range(plan.BIN_H):
            for m in range(plan.BIN_W):
                at, here = _cell(grids[0], tile, edges, n, m)
                cell = tl.load(at, mask=here, other=0.0).to(tl.float32)
                reaches = (cell == node[0]).to(tl.float32)
                to, _ = _cell(grids[1], tile, edges, n, m)
                tl.store(to, mean_part + max_part * reaches, mask=here)


@triton.jit
def _tile(size, plan: tl.constexpr):
    """The program's image, its channels (BLOCK_D, 1), and its tile."""
    program = tl.program_id(0)
    runs = tl.cdiv(size[0], plan.BLOCK_D)
    channel = program % runs * plan.BLOCK_D + tl.arange(0, plan.BLOCK_D)[:, None]
    program //= runs
    parts: tl.constexpr = 2 ** (plan.FINEST - 1)
    across: tl.constexpr = parts // plan.TILE_W
    down: tl.constexpr = parts // 2**plan.LEVELS
    row, column = program // across % down, program % across
    tile = Tile(row, column, size[1], size[2], channel < size[0])
    return (program // (across * down)).to(tl.int64), channel, tile


@triton.jit
def _grid(pointer, image, channel, steps, tile, plan: tl.constexpr):
    """The leaves from the tile's corner on; from the map's corner on if they are several cells."""
    down, right = tl.cast(steps[1], tl.int64), tl.cast(steps[2], tl.int64)
    corner = pointer + image * steps[0]
    if plan.CELLS == 1 or not plan.MAP:
        corner += tile.row * 2**plan.LEVELS * down + tile.column * plan.TILE_W * right
    return Grid(corner + channel.to(tl.int64) * steps[3], down, right, tl.cast(steps[4], tl.int64))


@triton.jit
def _root(pointer, image, channel, steps, tile, plan: tl.constexpr):
    """Pointers to the roots of a tile, (channels, columns)."""
    width: tl.constexpr = plan.TILE_W // 2**plan.LEVELS
    columns = tile.column * width + _across(width)
    blocks = tile.row.to(tl.int64) * steps[1] + columns.to(tl.int64) * steps[2]
    return pointer + image * steps[0] + blocks + channel


@triton.jit
def pool_kernel(
    leaves,
    leaf_steps,
    pooled,
    pooled_steps,
    roots,
    root_steps,
    size,
    plan: tl.constexpr,
    KEEP: tl.constexpr,
):
    """Pool one tile: results of its scales, and its roots for the next pass and the gradient.

    Args:
        leaves: (B, H, W, D), the map, or float32 (3, B, k, k, D), roots of the pass before.
        leaf_steps: Strides by image, row, column, channel and part.
        pooled: (B, M, D), written.
        pooled_steps: Strides by image, block and channel.
        roots: float32 (3, B, k, k, D), maximum, sum and count, written; unless scale 1 is reached.
        root_steps: Strides by image, row, column and part.
        size: D, H, W of the map.
        plan: What the kernel is compiled for.
        KEEP: Whether the count is wanted.
    """
    image, channel, tile = _tile(size, plan)
    root_width: tl.constexpr = plan.TILE_W // 2**plan.LEVELS
    source = _grid(leaves, image, channel, leaf_steps, tile, plan)
    node = _gather(source, tile, 0, 0, plan.LEVELS, root_width, plan)
    first = pooled + image * pooled_steps[0] + channel.to(tl.int64) * pooled_steps[2]
    step = tl.cast(pooled_steps[1], tl.int64)
    _emit(node, (first, step), tile, 0, 0, plan.LEVELS, root_width, plan)
    if plan.FINEST - plan.LEVELS > 1:
        at = _root(roots, image, channel, root_steps, tile, plan)
        tl.store(at, node[0], mask=tile.live)
        tl.store(at + root_steps[3], node[1], mask=tile.live)
        if KEEP:
            tl.store(at + root_steps[3] + root_steps[3], node[2], mask=tile.live)


@triton.jit
def pool_backward_kernel(
    leaves,
    leaf_steps,
    grad,
    grad_steps,
    roots,
    root_steps,
    target,
    target_steps,
    size,
    plan: tl.constexpr,
):
    """Gradients of one tile's leaves.

    Args:
        leaves: As in `pool_kernel`.
        leaf_steps: As in `pool_kernel`.
        grad: (B, M, D), gradient of the result.
        grad_steps: Strides by image, block and channel.
        roots: float32 (2, B, k, k, D), what scales coarser than the roots hand down: for every cell,
            and for those that reach the maximum; unless the root is scale 1.
        root_steps: Strides by image, row, column and part.
        target: (B, H, W, D), gradient of the map, or float32 (2, B, k, k, D) for the pass before.
        target_steps: Strides by image, row, column, channel and part.
        size: D, H, W of the map.
        plan: What the kernel is compiled for.
    """
    image, channel, tile = _tile(size, plan)
    root_width: tl.constexpr = plan.TILE_W // 2**plan.LEVELS
    source = _grid(leaves, image, channel, leaf_steps, tile, plan)
    node = _gather(source, tile, 0, 0, plan.LEVELS, root_width, plan)
    first = grad + image * grad_steps[0] + channel.to(tl.int64) * grad_steps[2]
    step = tl.cast(grad_steps[1], tl.int64)
    gradients = _gradients((first, step), tile, 0, 0, plan.LEVELS, root_width, plan)
    mean_part = tl.full([plan.BLOCK_D, root_width], 0.0, tl.float32)
    max_part = mean_part
    if plan.FINEST - plan.LEVELS > 1:
        at = _root(roots, image, channel, root_steps, tile, plan)
        mean_part = tl.load(at, mask=tile.live, other=0.0)
        max_part = tl.load(at + root_steps[3], mask=tile.live, other=0.0)
    grids = (source, _grid(target, image, channel, target_steps, tile, plan))
    levels: tl.constexpr = plan.LEVELS
    _scatter(node, gradients, mean_part, max_part, grids, tile, 0, 0, levels, root_width, plan)
