"""The photometric chain as Triton kernels: grey means, all pointwise operations, and a blur of rows and of columns.

Per image one line of a table says what happens to it (`fused.table`). Pixels are uint8 (N, H, W, C), C 1 or 3, and are
read once, or twice where contrast is changed; what is blurred waits in float32 (slots, C, H, W) in between. Values and
order are `batched`'s. A program works on BLOCK pixels of one image.
"""

import triton
import triton.language as tl

BRIGHTNESS = tl.constexpr(0)  # jitter's operations, as in `photometric.ORDERS`
CONTRAST = tl.constexpr(1)
SATURATION = tl.constexpr(2)
HUE = tl.constexpr(3)

# Columns of the table, float32.
STEPS = tl.constexpr(0)  # four: jitter's operation at this step, or -1
FACTORS = tl.constexpr(4)  # four: the operation's factor; a hue's shift in turns
SHIFT = tl.constexpr(8)  # brightness that is added
GRAY = tl.constexpr(9)  # 1 after jitter, 2 before it
SLOT = tl.constexpr(10)  # where it waits for its blur, or -1
SOLARIZE = tl.constexpr(11)
GAMMA = tl.constexpr(12)
ERASED = tl.constexpr(13)  # four: top, left, height, width
LEVELS = tl.constexpr(17)  # three: the colour of what is erased
WIDTH = tl.constexpr(20)


@triton.jit
def _clamp(x):
    return tl.minimum(tl.maximum(x, 0.0), 255.0)


@triton.jit
def _luma(r, g, b, CHANNELS: tl.constexpr):
    """ITU-R 601 as in `batched`; one channel is its own grey image."""
    return 0.2989 * r + 0.587 * g + 0.114 * b if CHANNELS == 3 else r


@triton.jit
def _load(pixels, image, place, inside, size, CHANNELS: tl.constexpr):
    """Three channels, float32; of one channel thrice the same."""
    start = pixels + (image * size + place) * CHANNELS
    r = tl.load(start, mask=inside, other=0).to(tl.float32)
    if CHANNELS == 3:
        g = tl.load(start + 1, mask=inside, other=0).to(tl.float32)
        b = tl.load(start + 2, mask=inside, other=0).to(tl.float32)
    else:
        g = r
        b = r
    return r, g, b


@triton.jit
def _channel(sixths, value, chroma):
    """A channel of HSV's inverse: value - chroma clamp(min(k, 4 - k), 0, 1), k = sixths mod 6."""
    k = sixths - 6.0 * tl.floor(sixths / 6.0)
    return value - chroma * tl.minimum(tl.maximum(tl.minimum(k, 4.0 - k), 0.0), 1.0)


@triton.jit
def _turn(r, g, b, shift):
    """Turn the hue by `shift` turns."""
    value = tl.maximum(tl.maximum(r, g), b)
    chroma = value - tl.minimum(tl.minimum(r, g), b)
    inverse = 1.0 / tl.where(chroma > 0.0, chroma, 1.0)
    hue = tl.where(g == value, 2.0 + (b - r) * inverse, 4.0 + (r - g) * inverse)
    hue = tl.where(r == value, (g - b) * inverse, hue) + 6.0 * shift
    return _channel(hue + 5.0, value, chroma), _channel(hue + 3.0, value, chroma), _channel(hue + 1.0, value, chroma)


@triton.jit
def _jitter(r, g, b, line, mean, FIRST: tl.constexpr, CHANNELS: tl.constexpr):
    """Jitter's operations in the image's order; with FIRST those before contrast alone, which needs `mean`."""
    before = True
    for step in range(4):
        operation = tl.load(line + STEPS + step).to(tl.int32)
        factor = tl.load(line + FACTORS + step)
        if FIRST:
            before = before & (operation != CONTRAST)
        if before:
            if operation == BRIGHTNESS:
                shift = tl.load(line + SHIFT)
                r = _clamp(_clamp(factor * r) + shift)
                g = _clamp(_clamp(factor * g) + shift)
                b = _clamp(_clamp(factor * b) + shift)
            elif operation == CONTRAST:
                base = (1.0 - factor) * mean
                r = _clamp(factor * r + base)
                g = _clamp(factor * g + base)
                b = _clamp(factor * b + base)
            elif operation == SATURATION:
                if CHANNELS == 3:
                    gray = (1.0 - factor) * _luma(r, g, b, CHANNELS)
                    r = _clamp(factor * r + gray)
                    g = _clamp(factor * g + gray)
                    b = _clamp(factor * b + gray)
            elif operation == HUE:
                if CHANNELS == 3:
                    r, g, b = _turn(r, g, b, factor)
    return r, g, b


@triton.jit
def _start(pixels, line, image, place, inside, size, CHANNELS: tl.constexpr):
    """The pixels, grey where grey comes first."""
    r, g, b = _load(pixels, image, place, inside, size, CHANNELS)
    if CHANNELS == 3:
        if tl.load(line + GRAY) == 2.0:
            r = _luma(r, g, b, CHANNELS)
            g = r
            b = r
    return r, g, b


@triton.jit
def _finished(x, line, y, column, threshold, channel):
    """What follows the blur: solarisation, gamma, erasing; rounded to uint8."""
    if tl.load(line + SOLARIZE) > 0.0:
        x = tl.where(x >= threshold, 255.0 - x, x)
    gamma = tl.load(line + GAMMA)
    if gamma != 1.0:
        share = x / 255.0
        power = tl.exp2(gamma * tl.log2(tl.maximum(share, 1e-30)))
        x = tl.where(share > 0.0, power, 0.0) * 255.0
    height = tl.load(line + ERASED + 2)
    if height > 0.0:
        top = tl.load(line + ERASED)
        left = tl.load(line + ERASED + 1)
        width = tl.load(line + ERASED + 3)
        hidden = (y >= top) & (y < top + height) & (column >= left) & (column < left + width)
        x = tl.where(hidden, tl.load(line + LEVELS + channel), x)
    return (x + 0.5).to(tl.int32).to(tl.uint8)


@triton.jit
def sum_gray(pixels, table, sums, size, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """sums (N, blocks): of the grey pixels of a block, as they are when contrast's turn comes.

    Grid (blocks, N).
    """
    block, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    line = table + image * WIDTH
    contrast = False
    for step in range(4):
        contrast = contrast | (tl.load(line + STEPS + step).to(tl.int32) == CONTRAST)
    if contrast:
        place = block * BLOCK + tl.arange(0, BLOCK)
        inside = place < size
        r, g, b = _start(pixels, line, image, place, inside, size, CHANNELS)
        r, g, b = _jitter(r, g, b, line, 0.0, True, CHANNELS)
        gray = tl.where(inside, _luma(r, g, b, CHANNELS), 0.0)
        tl.store(sums + image * tl.num_programs(0) + block, tl.sum(gray, axis=0))


@triton.jit
def distort(
    pixels, table, sums, done, waiting, size, width, threshold,
    CHANNELS: tl.constexpr, BLOCKS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Everything before the blur; for images that are not blurred everything, into `done`. Others go to `waiting`.

    Grid (blocks, N); BLOCKS: a power of two of at least as many.
    """
    block, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    line = table + image * WIDTH
    place = block * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    blocks = tl.arange(0, BLOCKS)
    parts = tl.load(sums + image * tl.num_programs(0) + blocks, mask=blocks < tl.num_programs(0), other=0.0)
    r, g, b = _start(pixels, line, image, place, inside, size, CHANNELS)
    r, g, b = _jitter(r, g, b, line, tl.sum(parts, axis=0) / size, False, CHANNELS)
    if CHANNELS == 3:
        if tl.load(line + GRAY) == 1.0:
            r = _luma(r, g, b, CHANNELS)
            g = r
            b = r
    slot = tl.load(line + SLOT).to(tl.int64)
    if slot >= 0:
        planes = waiting + slot * CHANNELS * size + place
        tl.store(planes, r, mask=inside)
        if CHANNELS == 3:
            tl.store(planes + size, g, mask=inside)
            tl.store(planes + 2 * size, b, mask=inside)
    else:
        y, column = place // width, place % width
        start = done + (image * size + place) * CHANNELS
        tl.store(start, _finished(r, line, y, column, threshold, 0), mask=inside)
        if CHANNELS == 3:
            tl.store(start + 1, _finished(g, line, y, column, threshold, 1), mask=inside)
            tl.store(start + 2, _finished(b, line, y, column, threshold, 2), mask=inside)


@triton.jit
def blur_rows(waiting, half, weights, size, width, taps, BLOCK: tl.constexpr):
    """half: each row of `waiting` by its image's symmetric kernel, weights (slots, taps) from its middle on.

    Grid (blocks, channels, slots). Borders are mirrored.
    """
    block, plane, slot = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    place = block * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    column = place % width
    first = (slot * tl.num_programs(1) + plane) * size
    row = waiting + first + (place - column)
    x = tl.load(row + column, mask=inside, other=0.0) * tl.load(weights + slot * taps)
    for k in range(1, taps):
        right = column + k
        pair = tl.load(row + tl.abs(column - k), mask=inside, other=0.0)
        pair += tl.load(row + tl.minimum(right, 2 * (width - 1) - right), mask=inside, other=0.0)
        x += pair * tl.load(weights + slot * taps + k)
    tl.store(half + first + place, x, mask=inside)


@triton.jit
def blur_columns(
    half, done, table, images, weights, size, height, width, taps, threshold,
    CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Each column of `half` likewise, and what follows the blur, into `done`; images (slots,): whose slot it is.

    Grid (blocks, slots).
    """
    block, slot = tl.program_id(0), tl.program_id(1).to(tl.int64)
    image = tl.load(images + slot).to(tl.int64)
    line = table + image * WIDTH
    place = block * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    y, column = place // width, place % width
    for channel in range(CHANNELS):
        plane = half + (slot * CHANNELS + channel) * size + column
        x = tl.load(plane + y * width, mask=inside, other=0.0) * tl.load(weights + slot * taps)
        for k in range(1, taps):
            below = y + k
            pair = tl.load(plane + tl.abs(y - k) * width, mask=inside, other=0.0)
            pair += tl.load(plane + tl.minimum(below, 2 * (height - 1) - below) * width, mask=inside, other=0.0)
            x += pair * tl.load(weights + slot * taps + k)
        finished = _finished(x, line, y, column, threshold, channel)
        tl.store(done + (image * size + place) * CHANNELS + channel, finished, mask=inside)
