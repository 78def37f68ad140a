#include "loops.h"

namespace {

// As in blur_fusion.py.
constexpr Size WINDOW = 2, WIDE = 8;
constexpr uint16_t CLEAR = 128, OPAQUE_FROM = 65535 - 128;

constexpr int SUMS = 8; // the person's R, G, B and weight, then the room's

// The person's part in a pixel's colour, and weights of person and room.
struct Weights {
    float part, person, room;
};

template <class P> Weights weigh(const Seen<P> &seen, Size y, Size x) {
    const float person = *pixel_of(seen.shares, y, x) * unit<uint16_t>;
    if (!seen.hidden.height) return {person, person, 1 - person};
    const float own = *pixel_of(seen.hidden, y, x) * unit<P>;
    if (own == 0) return {0, 0, 0};
    return {least(person / own, 1.0f), person, most(own - person, 0.0f)};
}

// Call `work` with row, column and number of each block of these rows that has one.
template <class Work>
void each_block(Rows rows, const View<const int32_t> &blocks, Size count, Work work) {
    for (Size row = rows.begin; row < rows.end; row++)
        for (Size column = 0; column < blocks.width; column++) {
            const int32_t number = *pixel_of(blocks, row, column);
            if (number >= 0 && number < count) work(row, column, number);
        }
}

// Call `work` with y and x of each pixel of a block.
template <class Work>
void each_pixel(const View<const uint16_t> &shares, Size side, Size row, Size column,
                Work work) {
    for (Size y = row * side; y < least((row + 1) * side, shares.height); y++)
        for (Size x = column * side; x < least((column + 1) * side, shares.width); x++)
            work(y, x);
}

// The two cells whose middles a position lies between, and how far.
struct Between {
    Size before, after;
    float part;

    Between(float at, Size cells) {
        at = limit(at - 0.5f, 0.0f, float(cells - 1));
        before = Size(at);
        after = least(before + 1, cells - 1);
        part = at - float(before);
    }
};

// Interpolate between the sums of four cells; `cell` gives those of row and column.
template <class Cell>
void look(Between down, Between right, Cell cell, float *__restrict out) {
    const float *a = cell(down.before, right.before),
                *b = cell(down.before, right.after);
    const float *c = cell(down.after, right.before), *d = cell(down.after, right.after);
    for (int k = 0; k < SUMS; k++) {
        const float upper = a[k] + right.part * (b[k] - a[k]);
        const float lower = c[k] + right.part * (d[k] - c[k]);
        out[k] = upper + down.part * (lower - upper);
    }
}

// Interpolate between what the first pass has found; positions are in its cells.
void look_far(const View<const float> &far, float down, float right, float *out) {
    look(
        Between(down, far.height), Between(right, far.width),
        [&](Size y, Size x) { return pixel_of(far, y, x); }, out);
}

// Add to the person's average colour what it and the room's leave of a pixel.
float solve(float part, float value, float person, float room) {
    return person + part * (value - part * person - (1 - part) * room);
}

// Estimate a channel of the person's colour in a pixel.
uint16_t estimated(float part, float value, const float *average, int c) {
    const float person = average[c] / average[3];
    // Without a room there is nothing to take away.
    const float room = average[7] > 0 ? average[c + 4] / average[7] : value;
    return to_code<uint16_t>(limit(solve(part, value, person, room), 0.0f, 1.0f) *
                             65535);
}

void add(const float *__restrict values, float *__restrict to) {
    for (int k = 0; k < SUMS; k++) to[k] += values[k];
}

} // namespace

namespace KERNEL_SET {

// Find blocks with a pixel whose alpha is neither 0 nor 1.
void find(Rows rows, View<const uint16_t> shares, Size side, View<uint8_t> blocks) {
    const Scratch<uint8_t> scratch(shares.width);
    uint8_t *__restrict mixed = scratch;
    for (Size row = rows.begin; row < rows.end; row++) {
        for (Size x = 0; x < shares.width; x++) mixed[x] = 0;
        for (Size y = row * side; y < least((row + 1) * side, shares.height); y++) {
            const uint16_t *__restrict line = row_of(shares, y);
            for (Size x = 0; x < shares.width; x++)
                mixed[x] |= (line[x] > CLEAR) & (line[x] < OPAQUE_FROM);
        }
        for (Size x = 0; x < shares.width; x++)
            *pixel_of(blocks, row, x / side) |= mixed[x];
    }
}

// Sum weighted colours and weights, of one pixel in each block, far around.
template <class P> void sum_far(Rows rows, Seen<P> seen, View<float> far) {
    const Size side = seen.side, step = side * WIDE;
    for (Size row = rows.begin; row < rows.end; row++) {
        const Size bottom = least((row + 1) * step, seen.shares.height);
        for (Size y = row * step + side / 2; y < bottom; y += side)
            for (Size x = side / 2; x < seen.shares.width; x += side) {
                const Weights weights = weigh(seen, y, x);
                const P *pixel = pixel_of(seen.source, y, x);
                float *to = pixel_of(far, row, x / step);
                for (int c = 0; c < 3; c++) {
                    const float value = pixel[c] * unit<P>;
                    to[c] += weights.person * value;
                    to[c + 4] += weights.room * value;
                }
                to[3] += weights.person;
                to[7] += weights.room;
            }
    }
}

// Sum weighted colours and weights in blocks, the person's after the first pass.
template <class P>
void sum(Rows rows, Seen<P> seen, View<const int32_t> around, View<const float> far,
         View<float> sums) {
    each_block(rows, around, sums.height, [&](Size row, Size column, Size number) {
        float average[SUMS], to[SUMS] = {};
        look_far(far, (row + 0.5f) / WIDE, (column + 0.5f) / WIDE, average);
        const bool known = average[3] > 0 && average[7] > 0;
        for (int c = 0; c < 3 && known; c++) {
            average[c] /= average[3];
            average[c + 4] /= average[7];
        }
        each_pixel(seen.shares, seen.side, row, column, [&](Size y, Size x) {
            const Weights weights = weigh(seen, y, x);
            const P *pixel = pixel_of(seen.source, y, x);
            for (int c = 0; c < 3; c++) {
                float value = pixel[c] * unit<P>;
                to[c + 4] += weights.room * value;
                if (known)
                    value = solve(weights.part, value, average[c], average[c + 4]);
                to[c] += weights.person * value;
            }
            to[3] += weights.person;
            to[7] += weights.room;
        });
        add(to, row_of(sums, number));
    });
}

// Add up the sums of five by five blocks around each that is asked for.
void sum_near(Rows rows, View<const int32_t> around, View<const int32_t> blocks,
              View<const float> sums, View<float> near) {
    const Scratch<float> line(SUMS * (around.width + 2 * WINDOW));
    for (Size row = rows.begin; row < rows.end; row++) {
        for (Size k = 0; k < SUMS * (around.width + 2 * WINDOW); k++) line[k] = 0;
        const Rows window = {most<Size>(row - WINDOW, 0),
                             least(row + WINDOW + 1, around.height)};
        const auto beside = [&](Size column) { return line + SUMS * column; };
        each_block(window, around, sums.height, [&](Size, Size column, Size number) {
            if (*pixel_of(around, row, column) >= 0)
                add(row_of(sums, number), beside(column + WINDOW));
        });
        each_block({row, row + 1}, blocks, near.height,
                   [&](Size, Size column, Size number) {
                       for (Size k = 0; k <= 2 * WINDOW; k++)
                           add(beside(column + k), row_of(near, number));
                   });
    }
}

// Estimate the person's colours in the blocks that are asked for. Where alpha is 0 they
// are the average alone, which is none where the person is hardly seen.
template <class P>
void separate(Rows rows, Seen<P> seen, View<const int32_t> blocks,
              View<const float> far, View<const float> near, View<uint16_t> colours) {
    const Size side = seen.side;
    constexpr float cells = (2 * WINDOW + 1) * (2 * WINDOW + 1);
    const float close = cells * side * side / 255, wide = cells * WIDE * WIDE / 255;
    // The last of the sums stands for blocks without any.
    const auto cell = [&](Size y, Size x) {
        const Size number = *pixel_of(blocks, y, x), last = near.height - 1;
        return row_of(near, number < 0 ? last : least(number, last));
    };
    each_block(rows, blocks, colours.height, [&](Size row, Size column, Size number) {
        each_pixel(seen.shares, side, row, column, [&](Size y, Size x) {
            uint16_t *to =
                pixel_of(colours, number, (y - row * side) * side + x - column * side);
            to[3] = 0;
            Weights weights = weigh(seen, y, x);
            const uint16_t share = *pixel_of(seen.shares, y, x);
            if (share >= OPAQUE_FROM || weights.person + weights.room == 0) return;
            const float down = (y + 0.5f) / side, right = (x + 0.5f) / side;
            float average[SUMS];
            look(Between(down, blocks.height), Between(right, blocks.width), cell,
                 average);
            if (share <= CLEAR) {
                weights.part = 0;
                if (average[3] < close) {
                    look_far(far, down / WIDE, right / WIDE, average);
                    if (average[3] < wide) return;
                }
            }
            if (average[3] == 0) return;
            to[3] = 1;
            const P *pixel = pixel_of(seen.source, y, x);
            for (int c = 0; c < 3; c++)
                to[c] = estimated(weights.part, pixel[c] * unit<P>, average, c);
        });
    });
}

// Write colours into `out`, over `behind` if that has any rows.
template <class O>
void lay(Rows rows, View<const uint16_t> shares, Size side, View<const int32_t> blocks,
         View<const uint16_t> colours, View<const O> behind, View<O> out) {
    constexpr float scale = white<O> / 65535;
    each_block(rows, blocks, colours.height, [&](Size row, Size column, Size number) {
        each_pixel(shares, side, row, column, [&](Size y, Size x) {
            const uint16_t *from =
                pixel_of(colours, number, (y - row * side) * side + x - column * side);
            if (!from[3]) return;
            const float share = *pixel_of(shares, y, x) * unit<uint16_t>;
            O *to = pixel_of(out, y, x);
            for (int c = 0; c < 3; c++) {
                float value = from[c] * scale;
                if (behind.height) {
                    const float back = pixel_of(behind, least(y, behind.height - 1),
                                                least(x, behind.width - 1))[c];
                    value = back + share * (value - back);
                }
                to[c] = to_code<O>(value);
            }
        });
    });
}

using u8 = uint8_t;
using u16 = uint16_t;
#define FOR_PICTURE(P)                                                                 \
    template void sum_far(Rows, Seen<P>, View<float>);                                 \
    template void sum(Rows, Seen<P>, View<const int32_t>, View<const float>,           \
                      View<float>);                                                    \
    template void separate(Rows, Seen<P>, View<const int32_t>, View<const float>,      \
                           View<const float>, View<u16>);                              \
    template void lay(Rows, View<const u16>, Size, View<const int32_t>,                \
                      View<const u16>, View<const P>, View<P>);
FOR_PICTURE(u8)
FOR_PICTURE(u16)

} // namespace KERNEL_SET
