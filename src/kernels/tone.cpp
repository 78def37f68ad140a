#include "loops.h"

namespace {

constexpr int STEPS = 4096; // as in tone.py

struct Light {
    float r, g, b;
};

// The parts of `Tables`; see `Conversion._tables` in tone.py.
struct Parts {
    const float *light, *steps, *most, *luma_in, *matrix, *luma_out;
    Size row;
    float top;

    explicit Parts(const Tables &tables)
        : light(tables.light.data), steps(tables.steps.data), most(tables.numbers.data),
          luma_in(most + 5), matrix(most + 8), luma_out(most + 17),
          row(tables.steps.row), top(most[20]) {}

    // Look up a step's function, interpolated between two entries of its table.
    float at(int step, float value) const {
        const float part = limit(value / most[step], 0.0f, 1.0f);
        const float exact = std::sqrt(std::sqrt(part)) * STEPS;
        const int32_t index = int32_t(exact);
        const float *entry = steps + step * row + index;
        return entry[0] + (exact - index) * (entry[1] - entry[0]);
    }
};

float dot(const float *weights, Light light) {
    return weights[0] * light.r + weights[1] * light.g + weights[2] * light.b;
}

Light times(Light light, float gain) {
    return {light.r * gain, light.g * gain, light.b * gain};
}

// Turn light of the source into code values of the target, in [0, 1].
Light converted(Light in, const Parts &parts) {
    const float tiny = 1e-9f;
    if (parts.most[0] > 0) // light of the scene to light of a display (HLG)
        in = times(in, parts.at(0, dot(parts.luma_in, in)));
    if (parts.most[1] > 0) { // less range
        const float peak = most(most(in.r, in.g), in.b);
        in = times(in, least(parts.at(1, peak), 1 / most(peak, tiny)));
    }
    Light out = {dot(parts.matrix, in), dot(parts.matrix + 3, in),
                 dot(parts.matrix + 6, in)};
    float light = dot(parts.luma_out, out);
    const float low = least(least(out.r, out.g), out.b);
    const float high = most(most(out.r, out.g), out.b);
    // Colours outside of the gamut lose saturation, not brightness.
    float keep = 1;
    if (low < 0) keep = light / most(light - low, tiny);
    if (high > parts.top) {
        light = least(light, parts.top);
        keep = least(keep, (parts.top - light) / (high - light));
    }
    if (keep < 1)
        out = {light + keep * (out.r - light), light + keep * (out.g - light),
               light + keep * (out.b - light)};
    if (parts.most[2] > 0) { // more range
        const float gain = parts.at(2, most(most(out.r, out.g), out.b));
        out = times(out, gain), light *= gain;
    }
    if (parts.most[3] > 0) // light of a display to light of the scene (HLG)
        out = times(out, parts.at(3, light));
    return {parts.at(4, out.r), parts.at(4, out.g), parts.at(4, out.b)};
}

template <class P> Light looked_up(const P *pixel, const Parts &parts) {
    return {parts.light[pixel[0]], parts.light[pixel[1]], parts.light[pixel[2]]};
}

} // namespace

namespace KERNEL_SET {

template <class P>
void convert(Rows rows, View<const P> pixels, View<uint16_t> out, Tables tables) {
    const Parts parts(tables);
    for (Size y = rows.begin; y < rows.end; y++)
        for (Size x = 0; x < pixels.width; x++) {
            const Light codes =
                converted(looked_up(pixel_of(pixels, y, x), parts), parts);
            uint16_t *to = pixel_of(out, y, x);
            to[0] = to_code<uint16_t>(codes.r * 65535);
            to[1] = to_code<uint16_t>(codes.g * 65535);
            to[2] = to_code<uint16_t>(codes.b * 65535);
        }
}

template <class P>
void restore(Rows rows, View<const P> original, View<const uint16_t> shown,
             View<const uint16_t> foreground, View<uint16_t> out, Tables tables) {
    const Parts parts(tables);
    const auto changed = [](P own, float change) {
        const float value = own * (65535 / white<P>)+change * 65535;
        return to_code<uint16_t>(limit(value, 0.0f, 65535.0f));
    };
    for (Size y = rows.begin; y < rows.end; y++)
        for (Size x = 0; x < shown.width; x++) {
            const Light after =
                converted(looked_up(pixel_of(foreground, y, x), parts), parts);
            const Light before =
                converted(looked_up(pixel_of(shown, y, x), parts), parts);
            const P *own = pixel_of(original, y, x);
            uint16_t *to = pixel_of(out, y, x);
            to[0] = changed(own[0], after.r - before.r);
            to[1] = changed(own[1], after.g - before.g);
            to[2] = changed(own[2], after.b - before.b);
        }
}

template void convert(Rows, View<const uint8_t>, View<uint16_t>, Tables);
template void convert(Rows, View<const uint16_t>, View<uint16_t>, Tables);
template void restore(Rows, View<const uint8_t>, View<const uint16_t>,
                      View<const uint16_t>, View<uint16_t>, Tables);
template void restore(Rows, View<const uint16_t>, View<const uint16_t>,
                      View<const uint16_t>, View<uint16_t>, Tables);

} // namespace KERNEL_SET
