#include "loops.h"

namespace {

// Between which two pixels of a line a pixel of another one lies, and how far.
struct Place {
    int32_t before;
    float part;
};

Place place(Size at, float step, Size size) {
    const float exact = limit((at + 0.5f) * step - 0.5f, 0.0f, float(size - 1));
    const int32_t before = static_cast<int32_t>(exact);
    return {before, exact - before};
}

struct Places {
    Scratch<int32_t> before;
    Scratch<float> part;

    Places(Size count, float step, Size size) : before(count), part(count) {
        for (Size i = 0; i < count; i++) {
            const Place found = place(i, step, size);
            before[i] = found.before;
            part[i] = found.part;
        }
    }
};

template <class P>
void scale(const P *__restrict codes, Size count, float *__restrict out) {
    for (Size x = 0; x < count; x++) out[x] = codes[x] * unit<P>;
}

void average(const float *__restrict r, const float *__restrict g,
             const float *__restrict b, Size width, float *__restrict mean) {
    for (Size x = 0; x < width; x++) mean[x] = (r[x] + g[x] + b[x]) * (1 / 3.0f);
}

// Read RGB in [0, 1] and its mean into one row per channel.
template <class P> void read_row(const P *row, Size width, P *codes, float *source) {
    split(row, width, codes, codes + width, codes + 2 * width);
    scale(codes, 3 * width, source);
    average(source, source + width, source + 2 * width, width, source + 3 * width);
}

// Interpolate between two rows of a map, and repeat the last pixel.
void mix(const float *__restrict upper, const float *__restrict lower, float part,
         Size small, float *__restrict line) {
    for (Size x = 0; x < small; x++) line[x] = upper[x] + part * (lower[x] - upper[x]);
    line[small] = line[small - 1];
}

// Stretch a row to `factor` times its width. Neighbours come in a fixed pattern then,
// which is vector code with the factor as a constant.
template <int factor>
void stretch_by(const float *__restrict line, Size small, float *__restrict out) {
    constexpr int half = factor / 2;
    float part[factor];
    for (int k = 0; k < factor; k++) part[k] = (half + k + 0.5f) / factor - 0.5f;
    for (int x = 0; x < half; x++) out[x] = line[0];
    for (Size i = 0; i < small - 1; i++)
        for (int k = 0; k < factor; k++)
            out[factor * i + half + k] = line[i] + part[k] * (line[i + 1] - line[i]);
    for (Size x = factor * (small - 1) + half; x < factor * small; x++)
        out[x] = line[small - 1];
}

// Stretch a row to the full width.
void stretch(const float *__restrict line, Size small, const Places &columns,
             Size width, float *__restrict out) {
    // One over the usual ratios.
    if (width == 4 * small) return stretch_by<4>(line, small, out);
    if (width == 8 * small) return stretch_by<8>(line, small, out);
    if (width == 2 * small) return stretch_by<2>(line, small, out);
    if (width == 3 * small) return stretch_by<3>(line, small, out);
    const int32_t *__restrict before = columns.before;
    const float *__restrict part = columns.part;
    for (Size x = 0; x < width; x++) {
        const float left = line[before[x]], right = line[before[x] + 1];
        out[x] = left + part[x] * (right - left);
    }
}

// Apply slope and offset to a channel; the network gives the foreground as what to add
// to the frame's own value.
void apply(const float *__restrict slope, const float *__restrict offset,
           const float *__restrict source, float own, Size width,
           float *__restrict result) {
    const float zero = unknown(0), one = unknown(1);
    for (Size x = 0; x < width; x++)
        result[x] = limit(offset[x] + (slope[x] + own) * source[x], zero, one);
}

void add(const float *__restrict offset, const float *__restrict source, float own,
         Size width, float *__restrict result) {
    const float zero = unknown(0), one = unknown(1);
    for (Size x = 0; x < width; x++)
        result[x] = limit(offset[x] + own * source[x], zero, one);
}

// Multiply alpha by the source's own; where that is 0, so is the foreground.
template <class P> void hide(const P *own, Size step, Size width, float *result) {
    float *r = result, *g = r + width, *b = g + width, *alpha = b + width;
    for (Size x = 0; x < width; x++) {
        const P value = own[x * step];
        alpha[x] *= value * unit<P>;
        if (value == 0) r[x] = g[x] = b[x] = 0;
    }
}

enum Kind { ALPHA, FOREGROUND, COMPOSITE, CUTOUT };

template <class O>
void round_row(const float *__restrict values, Size width, O *__restrict codes) {
    for (Size x = 0; x < width; x++) codes[x] = to_code<O>(values[x] * white<O>);
}

// Black where alpha is 0.
template <class O>
void round_seen(const float *__restrict values, const O *__restrict alpha, Size width,
                O *__restrict codes) {
    for (Size x = 0; x < width; x++)
        codes[x] = to_code<O>(values[x] * white<O>) & -(alpha[x] != 0);
}

// Lay a channel over one of a background.
template <class B, class O>
void round_over(const float *__restrict values, const float *__restrict alpha,
                const B *__restrict behind, Size width, O *__restrict codes) {
    for (Size x = 0; x < width; x++) {
        const float back = behind[x];
        codes[x] = to_code<O>(back + alpha[x] * (values[x] * white<O> - back));
    }
}

// Round one kind of output to codes, channels beside one another. `behind` has a row
// for each channel.
template <class B, class O>
void write_row(const float *result, Size width, Kind kind, const B *behind, O *codes,
               O *row) {
    const float *alpha = result + 3 * width;
    if (kind == ALPHA) return round_row(alpha, width, row);
    O *hidden = codes + 3 * width;
    if (kind == CUTOUT) round_row(alpha, width, hidden);
    for (int c = 0; c < 3; c++) {
        const float *values = result + c * width;
        O *to = codes + c * width;
        if (kind == FOREGROUND) round_row(values, width, to);
        if (kind == CUTOUT) round_seen(values, hidden, width, to);
        if (kind == COMPOSITE) round_over(values, alpha, behind + c * width, width, to);
    }
    O *green = codes + width, *blue = green + width;
    if (kind == CUTOUT) return join(codes, green, blue, hidden, width, row);
    join(codes, green, blue, width, row);
}

} // namespace

namespace KERNEL_SET {

template <class P>
void sample(Rows rows, View<const P> pixels, View<float> out, float step) {
    const Size values = 3 * pixels.width;
    const Places columns(out.width, step, pixels.width);
    Scratch<float> scratch(values + 3); // the last pixel is repeated
    float *__restrict line = scratch;
    for (Size y = rows.begin; y < rows.end; y++) {
        float *__restrict to = row_of(out, y);
        if (step == 1) {
            scale(row_of(pixels, y), values, to);
            continue;
        }
        const Place at = place(y, step, pixels.height);
        const P *__restrict upper = row_of(pixels, at.before);
        const P *__restrict lower = nearest_row(pixels, at.before + 1);
        // Between two rows first, for all pixels, since that is vector code.
        for (Size x = 0; x < values; x++) {
            const float a = upper[x], b = lower[x];
            line[x] = (a + at.part * (b - a)) * unit<P>;
        }
        for (int c = 0; c < 3; c++) line[values + c] = line[values - 3 + c];
        for (Size x = 0; x < out.width; x++) {
            const float *left = line + 3 * columns.before[x];
            for (int c = 0; c < 3; c++)
                to[3 * x + c] = left[c] + columns.part[x] * (left[c + 3] - left[c]);
        }
    }
}

template <class P, class O>
void render(Rows rows, View<const P> pixels, View<const float> maps,
            View<const O> behind, View<const P> own, View<O> out, int kind) {
    const Size width = pixels.width, small = maps.channels;
    const float down = float(maps.width) / float(pixels.height);
    const Places columns(width, float(small) / float(width), small);
    const Scratch<float> source(4 * width), result(4 * width);
    const Scratch<float> slope(width), offset(width), lines(maps.height * (small + 1));
    const Scratch<P> given(3 * width);
    const Scratch<O> codes(4 * width), plate(3 * width);
    const Scratch<float> colour(3 * width);
    for (Size x = 0; x < 3 * width; x++) colour[x] = behind.data[x / width];
    for (Size y = rows.begin; y < rows.end; y++) {
        read_row<P>(row_of(pixels, y), width, given, source);
        const Place at = place(y, down, maps.width);
        const Size below = least<Size>(at.before + 1, maps.width - 1);
        for (Size c = 0; c < maps.height; c++)
            mix(pixel_of(maps, c, at.before), pixel_of(maps, c, below), at.part, small,
                lines + c * (small + 1));
        // Alpha alone needs no colours, the foreground no alpha.
        for (int c = kind == ALPHA ? 3 : 0; c < (kind == FOREGROUND ? 3 : 4); c++) {
            const float shown = c < 3 ? 1.0f : 0.0f;
            float *to = result + c * width, *line = lines + c * (small + 1);
            if (maps.height == 8) {
                stretch(line, small, columns, width, slope);
                stretch(line + 4 * (small + 1), small, columns, width, offset);
                apply(slope, offset, source + c * width, shown, width, to);
            } else {
                add(line, source + c * width, shown, width, to);
            }
        }
        if (own.height) hide(row_of(own, y), own.step, width, result);
        if (kind == COMPOSITE && behind.height > 1) {
            split<O>(row_of(behind, y), width, plate, plate + width, plate + 2 * width);
            write_row<O, O>(result, width, COMPOSITE, plate, codes, row_of(out, y));
        } else {
            write_row<float, O>(result, width, Kind(kind), colour, codes,
                                row_of(out, y));
        }
    }
}

using u8 = uint8_t;
using u16 = uint16_t;
template void sample(Rows, View<const u8>, View<float>, float);
template void sample(Rows, View<const u16>, View<float>, float);
#define RENDER(P, O)                                                                   \
    template void render(Rows, View<const P>, View<const float>, View<const O>,        \
                         View<const P>, View<O>, int);
RENDER(u8, u8)
RENDER(u8, u16)
RENDER(u16, u8)
RENDER(u16, u16)

} // namespace KERNEL_SET
