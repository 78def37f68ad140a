#include "loops.h"

namespace {

// Interpolate a row of chroma, minus 128, at twice its width from two rows.
void upsample(const uint8_t *__restrict near, const uint8_t *__restrict far, Size half,
              float *__restrict middle, float *__restrict out) {
    for (Size i = 0; i < half; i++)
        middle[i + 1] = 0.75f * near[i] + 0.25f * far[i] - 128.0f;
    middle[0] = middle[1], middle[half + 1] = middle[half];
    for (Size i = 0; i < half; i++) {
        out[2 * i] = 0.75f * middle[i + 1] + 0.25f * middle[i];
        out[2 * i + 1] = 0.75f * middle[i + 1] + 0.25f * middle[i + 2];
    }
}

// Scale luma, and add a half, with which the rest is rounded.
void lighten(const uint8_t *__restrict luma, float black, float scale, Size width,
             float *__restrict gray) {
    for (Size x = 0; x < width; x++) gray[x] = (luma[x] - black) * scale + 0.5f;
}

// Add one or two weighted rows of chroma to gray, and clip.
void colour(const float *__restrict gray, const float *__restrict one, float weight,
            Size width, uint8_t *__restrict out) {
    const float low = unknown(0), high = unknown(255);
    for (Size x = 0; x < width; x++)
        out[x] = uint8_t(int32_t(limit(gray[x] + weight * one[x], low, high)));
}

void colour(const float *__restrict gray, const float *__restrict one, float weight,
            const float *__restrict other, float more, Size width,
            uint8_t *__restrict out) {
    const float low = unknown(0), high = unknown(255);
    for (Size x = 0; x < width; x++) {
        const float value = gray[x] + weight * one[x] + more * other[x];
        out[x] = uint8_t(int32_t(limit(value, low, high)));
    }
}

// Round a weighted sum of channels. It is not negative, and a bit above 255 at most.
template <class T>
void combine(const T *__restrict r, const T *__restrict g, const T *__restrict b,
             float zero, const float *weights, Size width, uint8_t *__restrict out) {
    const float red = weights[0], green = weights[1], blue = weights[2];
    const float start = zero + 0.5f, high = unknown(255);
    for (Size x = 0; x < width; x++) {
        const float value = start + red * r[x] + green * g[x] + blue * b[x];
        out[x] = uint8_t(int32_t(least(value, high)));
    }
}

// Average squares of 2x2 pixels, or of two where the width is odd. One step at a time
// is shorter vector code.
void average(const uint8_t *__restrict upper, const uint8_t *__restrict lower,
             Size width, uint16_t *__restrict sums, float *__restrict means) {
    const Size pairs = width / 2;
    for (Size i = 0; i < pairs; i++)
        sums[i] =
            uint16_t(upper[2 * i] + upper[2 * i + 1] + lower[2 * i] + lower[2 * i + 1]);
    for (Size i = 0; i < pairs; i++) means[i] = sums[i] * 0.25f;
    if (width % 2) means[pairs] = (upper[width - 1] + lower[width - 1]) * 0.5f;
}

} // namespace

namespace KERNEL_SET {

void to_rgb(Rows rows, View<const uint8_t> luma, View<const uint8_t> blue,
            View<const uint8_t> red, View<uint8_t> out, View<const float> numbers) {
    const Size width = luma.width, half = blue.width;
    const float *gain = numbers.data + 2;
    const Scratch<float> middle(half + 2), cb(2 * half), cr(2 * half), gray(width);
    const Scratch<uint8_t> r(width), g(width), b(width);
    for (Size y = rows.begin; y < rows.end; y++) {
        const Size near = y / 2, far = near + (y % 2 ? 1 : -1);
        upsample(row_of(blue, near), nearest_row(blue, far), half, middle, cb);
        upsample(row_of(red, near), nearest_row(red, far), half, middle, cr);
        lighten(row_of(luma, y), numbers.data[0], numbers.data[1], width, gray);
        colour(gray, cr, gain[0], width, r);
        colour(gray, cb, -gain[1], cr, -gain[2], width, g);
        colour(gray, cb, gain[3], width, b);
        join<uint8_t>(r, g, b, width, row_of(out, y));
    }
}

// Each of the rows is one of chroma and two of luma.
void from_rgb(Rows rows, View<const uint8_t> pixels, View<uint8_t> luma,
              View<uint8_t> blue, View<uint8_t> red, View<const float> numbers) {
    const Size width = luma.width, half = blue.width;
    const float *matrix = numbers.data + 1;
    const Scratch<uint8_t> codes(6 * width);
    const Scratch<uint16_t> sums(half);
    const Scratch<float> means(3 * half);
    const float *r = means, *g = r + half, *b = g + half;
    for (Size j = rows.begin; j < rows.end; j++) {
        for (Size k = 0; k < 2; k++) {
            const Size y = least(2 * j + k, luma.height - 1);
            uint8_t *first = codes + 3 * k * width;
            uint8_t *green = first + width, *last = green + width;
            if (pixels.channels == 3)
                split(row_of(pixels, y), width, first, green, last);
            else
                for (uint8_t *to : {first, green, last})
                    std::memcpy(to, row_of(pixels, y), width);
            combine(first, green, last, numbers.data[0], matrix, width,
                    row_of(luma, y));
        }
        for (int c = 0; c < 3; c++)
            average(codes + c * width, codes + (c + 3) * width, width, sums,
                    means + c * half);
        combine(r, g, b, 128.0f, matrix + 3, half, row_of(blue, j));
        combine(r, g, b, 128.0f, matrix + 6, half, row_of(red, j));
    }
}

} // namespace KERNEL_SET
