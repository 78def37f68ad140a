#include "loops.h"

namespace {

template <class P> constexpr bool is_picture = sizeof(P) == 1;

} // namespace

namespace KERNEL_SET {

// Sum squares of 2x2 pixels: colours times alpha, and alpha.
template <class P> void shrink(Rows rows, View<const P> large, View<float> small) {
    for (Size y = rows.begin; y < rows.end; y++)
        for (Size x = 0; x < small.width; x++) {
            float sum[4] = {};
            for (Size j = 2 * y; j < least(2 * y + 2, large.height); j++)
                for (Size i = 2 * x; i < least(2 * x + 2, large.width); i++) {
                    const P *pixel = pixel_of(large, j, i);
                    const float alpha = pixel[3];
                    const float weight = is_picture<P> ? alpha : 1.0f;
                    for (int c = 0; c < 3; c++) sum[c] += weight * pixel[c];
                    sum[3] += alpha;
                }
            for (int c = 0; c < 4; c++) pixel_of(small, y, x)[c] = sum[c];
        }
}

// Take colours where there are some, and else the coarser ones, bilinearly.
template <class P>
void fill(Rows rows, View<const P> level, View<const float> coarse, View<P> out) {
    constexpr float half = is_picture<P> ? 0.5f : 0.0f;
    for (Size y = rows.begin; y < rows.end; y++) {
        const float *near = row_of(coarse, y / 2);
        const float *far = nearest_row(coarse, y / 2 + (y % 2 ? 1 : -1));
        for (Size x = 0; x < level.width; x++) {
            const P *pixel = pixel_of(level, y, x);
            P *to = pixel_of(out, y, x);
            if (pixel[3] > 0) {
                const float scale = is_picture<P> ? 1.0f : 1.0f / pixel[3];
                for (int c = 0; c < 3; c++) to[c] = P(pixel[c] * scale + half);
                continue;
            }
            const Size beside = x / 2 + (x % 2 ? 1 : -1);
            const Size away = coarse.step * limit<Size>(beside, 0, coarse.width - 1);
            const Size close = coarse.step * (x / 2);
            for (int c = 0; c < 3; c++) {
                const float upper = 0.75f * near[close + c] + 0.25f * near[away + c];
                const float lower = 0.75f * far[close + c] + 0.25f * far[away + c];
                to[c] = P(0.75f * upper + 0.25f * lower + half);
            }
        }
    }
}

template void shrink(Rows, View<const uint8_t>, View<float>);
template void shrink(Rows, View<const float>, View<float>);
template void fill(Rows, View<const uint8_t>, View<const float>, View<uint8_t>);
template void fill(Rows, View<const float>, View<const float>, View<float>);

} // namespace KERNEL_SET
