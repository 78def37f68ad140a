#include "loops.h"

namespace {

constexpr Size TILE = 32; // as in alpha_shape.py

// Call `work` with y, the first pixel and the number of pixels of each tile's row in
// which alpha is not the same everywhere.
template <class Work>
void each_tile(Rows rows, const View<const bool> &uneven, Size width, Work work) {
    for (Size y = rows.begin; y < rows.end; y++)
        for (Size tile = 0; tile < uneven.width; tile++)
            if (*pixel_of(uneven, y / TILE, tile))
                work(y, tile * TILE, least(TILE, width - tile * TILE));
}

// What lies around a tile of a row, or a copy in which the row's ends are repeated.
const float *around(const float *row, Size width, Size at, Size count, float *room) {
    if (at >= 0 && at + count <= width) return row + at;
    for (Size x = 0; x < count; x++) room[x] = row[limit<Size>(at + x, 0, width - 1)];
    return room;
}

// Add a weighted row.
void add(const float *__restrict row, float weight, float *__restrict sums,
         Size count) {
    for (Size x = 0; x < count; x++) sums[x] += weight * row[x];
}

// Take what lies between two pixels where it is larger.
void raise_to(const float *near, const float *far, float part, float *__restrict out,
              Size count) {
    for (Size x = 0; x < count; x++)
        out[x] = most(near[x] + part * (far[x] - near[x]), out[x]);
}

void raise_to(const float *row, float *__restrict out, Size count) {
    for (Size x = 0; x < count; x++) out[x] = most(row[x], out[x]);
}

// Limit a channel to the larger one of the other two.
template <class P, int step> void despill_row(P *row, Size width, int channel) {
    P *to = row + channel;
    const P *one = row + (channel + 1) % 3, *other = row + (channel + 2) % 3;
    for (Size x = 0; x < step * width; x += step)
        to[x] = least(to[x], most(one[x], other[x]));
}

} // namespace

namespace KERNEL_SET {

void grow(Rows rows, View<const float> alpha, View<const bool> uneven, float distance,
          View<float> out) {
    const Size whole = Size(distance), middle = whole + 1;
    const Scratch<float> scratch(TILE + 2 * middle);
    each_tile(rows, uneven, alpha.width, [&](Size y, Size first, Size count) {
        float *to = row_of(out, y) + first;
        for (Size down = -whole; down <= whole; down++) {
            const float *room = around(nearest_row(alpha, y + down), alpha.width,
                                       first - middle, TILE + 2 * middle, scratch);
            const float side = std::sqrt(distance * distance - float(down * down));
            const Size full = Size(side);
            const float part = side - float(full);
            for (Size shift = middle - full; shift <= middle + full; shift++)
                raise_to(room + shift, to, count);
            raise_to(room + middle - full, room + middle - full - 1, part, to, count);
            raise_to(room + middle + full, room + middle + full + 1, part, to, count);
        }
        for (Size sign = -1; sign <= 1; sign += 2)
            raise_to(nearest_row(alpha, y + sign * whole) + first,
                     nearest_row(alpha, y + sign * middle) + first,
                     distance - float(whole), to, count);
    });
}

void feather(Rows rows, View<const float> alpha, View<const bool> uneven,
             View<const float> weights, View<float> out) {
    const Size reach = weights.width / 2, wide = TILE + 2 * reach;
    const Scratch<float> scratch(wide), line(wide);
    each_tile(rows, uneven, alpha.width, [&](Size y, Size first, Size count) {
        float *to = row_of(out, y) + first;
        std::memset(line, 0, wide * sizeof(float));
        for (Size k = 0; k < weights.width; k++)
            add(around(nearest_row(alpha, y + k - reach), alpha.width, first - reach,
                       wide, scratch),
                weights.data[k], line, wide);
        std::memset(to, 0, count * sizeof(float));
        for (Size k = 0; k < weights.width; k++)
            add(line + k, weights.data[k], to, count);
    });
}

template <class P> void despill(Rows rows, View<P> colours, int channel) {
    for (Size y = rows.begin; y < rows.end; y++) {
        if (colours.step == 3)
            despill_row<P, 3>(row_of(colours, y), colours.width, channel);
        else
            for (Size x = 0; x < colours.width; x++)
                despill_row<P, 3>(pixel_of(colours, y, x), 1, channel);
    }
}

template void despill(Rows, View<uint8_t>, int);
template void despill(Rows, View<uint16_t>, int);

} // namespace KERNEL_SET
