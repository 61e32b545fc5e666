"""Levels that a checkpoint stores already: copied into a package's arrays, where nothing is rounded a second time."""

from __future__ import annotations

import numpy as np

from zoo.contracts import BlockTile, Checkpoint, Parameter, StoresBlocks, block_scheme
from zoo.declarations.scheme import BlockScheme
from zoo.errors import ZooError
from zoo.package.slabs import SlabJob, SlabPiece, slab_pieces
from zoo.quantizers.tiles import ArrayWriter
from zoo.sources.rows import row_reads, scattered


def stored_scheme(checkpoint: Checkpoint, parameter: Parameter) -> BlockScheme | None:
    """Say how a checkpoint stores all rows of a parameter; None where a row is not blocks, or is not as it is stored.

    Rows may be gathered, and heads widened by whole rows. Columns that move would tear blocks apart; values that are
    scaled, shifted or divided by lengths are other values.
    """
    schemes = set()
    for each in parameter.slices:
        info = checkpoint.tensors.get(each.tensor)
        if info is None or info.shape != each.tensor_shape:
            return None  # the accounting says it
        if each.transposed or each.pad_columns is not None or not each.same_values:
            return None
        schemes.add(block_scheme(checkpoint, each.tensor))
    return schemes.pop() if len(schemes) == 1 else None


def take_over(checkpoint: Checkpoint, job: SlabJob, writer: ArrayWriter) -> None:
    """Fill a slab's rows of the stored arrays with the checkpoint's own levels, scales and zero points.

    Raises:
        ZooError: the checkpoint's blocks are not those that it stated, or hold numbers that no block has.
    """
    scheme = writer.scheme
    assert isinstance(scheme, BlockScheme)
    assert isinstance(checkpoint, StoresBlocks)
    for tile in writer.tiles(job.stop - job.start):
        assert isinstance(tile, BlockTile)
        pieces = list(slab_pieces(job))
        if sum(len(piece.places) for piece in pieces) < len(tile.levels):
            tile.levels[...] = 2 ** (scheme.bits - 1)
            tile.scales[...] = 0
            if tile.zero_points is not None:
                tile.zero_points[...] = 2 ** (scheme.bits - 1)
        for piece in pieces:
            _copy(checkpoint, scheme, piece, tile)


def _copy(checkpoint: StoresBlocks, scheme: BlockScheme, piece: SlabPiece, tile: BlockTile) -> None:
    """Copy the rows of one slice, in as few reads as their places allow."""
    row_slice, tensor = piece.row_slice, piece.row_slice.tensor
    taken = range(row_slice.count) if row_slice.rows is None else row_slice.rows
    rows = np.asarray(taken[piece.first : piece.last])
    row = max(1, row_slice.columns * scheme.bits // 8)
    for begin, end in row_reads(rows, row) if scattered(row_slice) else [(0, len(rows))]:
        low, high = int(rows[begin:end].min()), int(rows[begin:end].max()) + 1
        blocks = checkpoint.read_blocks(tensor, low, high)
        _check(tensor, scheme, blocks, high - low, row_slice.columns)
        into, of = piece.places[begin:end], rows[begin:end] - low
        tile.levels[into] = blocks.levels[of]
        tile.scales[into] = blocks.scales[of]
        if tile.zero_points is not None and blocks.zero_points is not None:
            tile.zero_points[into] = blocks.zero_points[of]


def _check(tensor: str, scheme: BlockScheme, blocks: BlockTile, rows: int, columns: int) -> None:
    """Refuse blocks that are not of the scheme, before any of them is stored."""
    shape, points = (rows, scheme.blocks(columns)), blocks.zero_points
    if (
        blocks.levels.shape != (*shape, scheme.block_size)
        or blocks.scales.shape != shape
        or (points is None) != scheme.symmetric
        or (points is not None and points.shape != shape)
    ):
        raise ZooError(f"tensor {tensor!r} comes in blocks other than its source states; the source is defective")
    if not np.isfinite(blocks.scales).all():
        raise ZooError(f"tensor {tensor!r} has scales that are NaN or infinite; the checkpoint is damaged")
    for name, array in (("levels", blocks.levels), ("zero points", points)):
        if array is not None and scheme.bits < 8 and int(array.max(initial=0)) >= 2**scheme.bits:
            raise ZooError(
                f"tensor {tensor!r} has {name} up to {int(array.max())}, but {scheme.bits} bits end at "
                f"{2**scheme.bits - 1}; the checkpoint is damaged"
            )
