// The Python module: checks every argument, picks the loops that this processor can
// run, and releases Python's global lock around them.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdlib>
#include <initializer_list>
#include <string>
#include <type_traits>

// Headers of Windows define these.
#undef far
#undef near
#undef small

#define KERNEL_SET baseline
#include "kernels.h"
#ifdef KERNELS_X86
#undef KERNEL_SET
#define KERNEL_SET avx2
#include "kernels.h"
#undef KERNEL_SET
#define KERNEL_SET avx512
#include "kernels.h"
#ifdef _MSC_VER
#include <intrin.h>
#endif
#endif

namespace nb = nanobind;

namespace {

enum Level { BASELINE, AVX2, AVX512 };
constexpr const char *NAMES[] = {"baseline", "avx2", "avx512"};
constexpr const char *VARIABLE = "REMATTE_INSTRUCTIONS";
Level chosen = BASELINE;

// Call a loop on rows of a picture of that height.
#ifdef KERNELS_X86
#define RUN(height, call)                                                              \
    {                                                                                  \
        const Rows some = rows(begin, end, height);                                    \
        nb::gil_scoped_release released;                                               \
        if (chosen == AVX512)                                                          \
            avx512::call;                                                              \
        else if (chosen == AVX2)                                                       \
            avx2::call;                                                                \
        else                                                                           \
            baseline::call;                                                            \
    }
#ifdef _MSC_VER
Level supported() {
    const auto has = [](unsigned value, unsigned bits) {
        return (value & bits) == bits;
    };
    int first[4], more[4];
    __cpuid(first, 0);
    if (first[0] < 7) return BASELINE;
    __cpuid(first, 1);
    __cpuidex(more, 7, 0);
    // FMA, OSXSAVE and AVX; then registers that the system saves.
    if (!has(first[2], 1u << 12 | 1u << 27 | 1u << 28)) return BASELINE;
    const unsigned saved = unsigned(_xgetbv(0));
    // BMI1, AVX2 and BMI2; then AVX-512 F, DQ, CD, BW and VL.
    if (!has(saved, 0x06) || !has(more[1], 1u << 3 | 1u << 5 | 1u << 8))
        return BASELINE;
    const unsigned all = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
    return has(saved, 0xE6) && has(more[1], all) ? AVX512 : AVX2;
}
#else
Level supported() {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2")) return BASELINE;
    const bool all =
        __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl");
    return all ? AVX512 : AVX2;
}
#endif
#else
#define RUN(height, call)                                                              \
    {                                                                                  \
        const Rows some = rows(begin, end, height);                                    \
        nb::gil_scoped_release released;                                               \
        baseline::call;                                                                \
    }
Level supported() { return BASELINE; }
#endif

// The best that there is, and no better than the environment allows.
Level choose() {
    const Level best = supported();
    const char *asked = std::getenv(VARIABLE);
    if (!asked || !*asked) return best;
    for (const Level most : {BASELINE, AVX2, AVX512})
        if (std::string(asked) == NAMES[most]) return most < best ? most : best;
    throw nb::import_error((std::string(VARIABLE) + " is \"" + asked +
                            "\"; it can be baseline, avx2 or avx512, or unset")
                               .c_str());
}

using In = nb::ndarray<nb::ro, nb::device::cpu>;
using Out = nb::ndarray<nb::device::cpu>;
using Shape = std::initializer_list<Size>;

// What an axis may have, where it is not one number.
constexpr Size at_least(Size count) { return -1 - count; }
constexpr Size ANY = at_least(0), SOME = at_least(1);

void require(bool holds, const std::string &what) {
    if (!holds) throw nb::value_error(("_rematte_kernels: " + what).c_str());
}

template <class T> std::string in_words(const T *shape, Size axes) {
    std::string text = "(";
    for (Size axis = 0; axis < axes; axis++) {
        const Size size = Size(shape[axis]);
        text += axis ? ", " : "";
        text +=
            size < 0 ? std::to_string(-1 - size) + " or more" : std::to_string(size);
    }
    return text + ")";
}

// Look at an array of one to three axes. Its pixels, if they are `packed`, and always
// its channels, must lie beside one another.
template <class T, class A>
View<T> view(const char *name, const A &array, Shape wanted, bool packed = false) {
    using Value = std::remove_const_t<T>;
    const Size axes = Size(wanted.size());
    const auto fits = [&](Size axis) {
        const Size size = wanted.begin()[axis], found = Size(array.shape(axis));
        return size < 0 ? found >= -1 - size : found == size;
    };
    bool right = array.dtype() == nb::dtype<Value>() && Size(array.ndim()) == axes;
    for (Size axis = 0; right && axis < axes; axis++) right = fits(axis);
    require(right, std::string(name) + " has axes " +
                       in_words(array.shape_ptr(), Size(array.ndim())) +
                       ", and needs " + in_words(wanted.begin(), axes) + " of " +
                       std::to_string(8 * sizeof(T)) +
                       (std::is_floating_point_v<Value> ? " bits, floats" : " bits"));
    const Size height = axes > 1 ? array.shape(0) : 1;
    const Size width = axes > 1 ? array.shape(1) : array.shape(0);
    const Size channels = axes > 2 ? array.shape(2) : 1;
    const Size row = axes > 1 ? array.stride(0) : 0;
    const Size step = axes > 1 ? array.stride(1) : array.stride(0);
    const bool empty = !height || !width || !channels;
    const bool side_by_side = channels == 1 || array.stride(2) == 1;
    const bool packs = width == 1 || step == channels || !(packed || axes == 1);
    require(empty || (side_by_side && packs),
            std::string(name) + " has gaps between its values; copy it first");
    return {static_cast<T *>(array.data()), height, width, channels, row, step};
}

Rows rows(Size begin, Size end, Size height) {
    require(0 <= begin && begin <= end && end <= height,
            "rows " + std::to_string(begin) + " to " + std::to_string(end) + " of " +
                std::to_string(height));
    return {begin, end};
}

// Call `work` with a value of the array's type.
template <class A, class Work>
void by_depth(const char *name, const A &array, Work work) {
    if (array.dtype() == nb::dtype<uint8_t>()) return work(uint8_t());
    require(array.dtype() == nb::dtype<uint16_t>(),
            std::string(name) + " must have unsigned integers of 8 or 16 bits");
    work(uint16_t());
}

// Something that is as large as a picture, or has neither rows nor columns.
template <class T>
View<const T> optional(const char *name, const In &array, Size height, Size width) {
    if (array.ndim() == 2 && !array.shape(0)) return view<const T>(name, array, {0, 0});
    return view<const T>(name, array, {height, width});
}

// A background: of one colour, or as large as a picture, or none.
template <class T>
View<const T> plate(const In &array, Size height, Size width, bool packed) {
    const auto found = view<const T>("behind", array, {ANY, ANY, 3}, packed);
    require(!found.height || (found.height == 1 && found.width == 1) ||
                (found.height == height && found.width == width),
            "behind must be of one pixel or as large as the picture");
    return found;
}

// --- guided_filter.cpp

void sample(Size begin, Size end, const In &pixels, const Out &out, float step) {
    by_depth("pixels", pixels, [&](auto p) {
        const auto in =
            view<const decltype(p)>("pixels", pixels, {SOME, SOME, 3}, true);
        const auto to = view<float>("out", out, {ANY, ANY, 3}, true);
        require(step >= 0.5, "step must be 0.5 or more");
        require(step != 1 || (to.height == in.height && to.width == in.width),
                "out must be as large as pixels where step is 1");
        RUN(to.height, sample(some, in, to, step))
    });
}

void render(Size begin, Size end, const In &pixels, const In &maps, const In &behind,
            const In &own, const Out &out, int kind) {
    constexpr Size CHANNELS[] = {1, 3, 3, 4};
    require(0 <= kind && kind < 4, "kind must be 0 to 3");
    by_depth("pixels", pixels, [&](auto p) {
        by_depth("out", out, [&](auto o) {
            using P = decltype(p);
            using O = decltype(o);
            const auto in = view<const P>("pixels", pixels, {SOME, SOME, 3}, true);
            const Size height = in.height, width = in.width;
            const auto to = view<O>("out", out, {height, width, CHANNELS[kind]}, true);
            auto small = view<const float>("maps", maps, {SOME, SOME, SOME});
            require(small.height == 8 || (small.height == 4 && small.width == height &&
                                          small.channels == width),
                    "maps must be 8, or 4 as large as the picture");
            const auto back = plate<O>(behind, height, width, true);
            require(back.height, "behind must not be empty");
            const auto hidden = optional<P>("own", own, height, width);
            RUN(height, render(some, in, small, back, hidden, to, kind))
        });
    });
}

// --- blur_fusion.cpp

struct Blocks {
    Size rows, columns;
};

template <class P>
Seen<P> look(const In &source, const In &shares, const In &hidden, Size side) {
    require(side > 0, "side must be 1 or more");
    const auto picture = view<const P>("source", source, {SOME, SOME, at_least(3)});
    const Size height = picture.height, width = picture.width;
    return {picture, view<const uint16_t>("shares", shares, {height, width}),
            optional<P>("hidden", hidden, height, width), side};
}

Blocks blocks_of(Size height, Size width, Size side) {
    require(side > 0, "side must be 1 or more");
    return {(height + side - 1) / side, (width + side - 1) / side};
}

template <class P> View<const float> far_of(const In &far, const Seen<P> &seen) {
    const auto [rows, columns] =
        blocks_of(seen.shares.height, seen.shares.width, 8 * seen.side);
    return view<const float>("far", far, {rows, columns, 8});
}

View<const int32_t> numbers_of(const char *name, const In &blocks, Blocks size) {
    return view<const int32_t>(name, blocks, {size.rows, size.columns});
}

void find(Size begin, Size end, const In &shares, Size side, const Out &blocks) {
    const auto in = view<const uint16_t>("shares", shares, {SOME, SOME}, true);
    const Blocks size = blocks_of(in.height, in.width, side);
    const auto to = view<uint8_t>("blocks", blocks, {size.rows, size.columns});
    RUN(to.height, find(some, in, side, to))
}

void sum_far(Size begin, Size end, const In &source, const In &shares, const In &hidden,
             Size side, const Out &far) {
    by_depth("source", source, [&](auto p) {
        const auto seen = look<decltype(p)>(source, shares, hidden, side);
        const Blocks size = blocks_of(seen.shares.height, seen.shares.width, 8 * side);
        const auto to = view<float>("far", far, {size.rows, size.columns, 8});
        RUN(to.height, sum_far(some, seen, to))
    });
}

void sum(Size begin, Size end, const In &source, const In &shares, const In &hidden,
         Size side, const In &around, const In &far, const Out &sums) {
    by_depth("source", source, [&](auto p) {
        const auto seen = look<decltype(p)>(source, shares, hidden, side);
        const Blocks size = blocks_of(seen.shares.height, seen.shares.width, side);
        const auto places = numbers_of("around", around, size);
        const auto wide = far_of(far, seen);
        const auto to = view<float>("sums", sums, {ANY, 8}, true);
        RUN(size.rows, sum(some, seen, places, wide, to))
    });
}

void sum_near(Size begin, Size end, const In &around, const In &blocks, const In &sums,
              const Out &near) {
    const auto places = view<const int32_t>("around", around, {ANY, ANY});
    const auto asked = numbers_of("blocks", blocks, {places.height, places.width});
    const auto from = view<const float>("sums", sums, {ANY, 8}, true);
    const auto to = view<float>("near", near, {SOME, 8}, true);
    RUN(places.height, sum_near(some, places, asked, from, to))
}

void separate(Size begin, Size end, const In &source, const In &shares,
              const In &hidden, Size side, const In &blocks, const In &far,
              const In &near, const Out &colours) {
    by_depth("source", source, [&](auto p) {
        const auto seen = look<decltype(p)>(source, shares, hidden, side);
        const Blocks size = blocks_of(seen.shares.height, seen.shares.width, side);
        const auto asked = numbers_of("blocks", blocks, size);
        const auto wide = far_of(far, seen);
        const auto close = view<const float>("near", near, {SOME, 8}, true);
        const auto to = view<uint16_t>("colours", colours, {ANY, side * side, 4});
        RUN(size.rows, separate(some, seen, asked, wide, close, to))
    });
}

void lay(Size begin, Size end, const In &shares, Size side, const In &blocks,
         const In &colours, const In &behind, const Out &out) {
    by_depth("out", out, [&](auto o) {
        using O = decltype(o);
        const auto in = view<const uint16_t>("shares", shares, {ANY, ANY});
        const Blocks size = blocks_of(in.height, in.width, side);
        const auto asked = numbers_of("blocks", blocks, size);
        const auto from =
            view<const uint16_t>("colours", colours, {ANY, side * side, 4});
        const auto back = plate<O>(behind, in.height, in.width, false);
        const auto to = view<O>("out", out, {in.height, in.width, at_least(3)});
        RUN(size.rows, lay(some, in, side, asked, from, back, to))
    });
}

// --- alpha_shape.cpp

constexpr Size TILE = 32;

void grow(Size begin, Size end, const In &alpha, const In &uneven, float distance,
          const Out &out) {
    const auto in = view<const float>("alpha", alpha, {SOME, SOME}, true);
    const Blocks size = blocks_of(in.height, in.width, TILE);
    const auto tiles = view<const bool>("uneven", uneven, {size.rows, size.columns});
    const auto to = view<float>("out", out, {in.height, in.width}, true);
    require(0 <= distance && distance <= TILE, "distance must be from 0 to 32");
    RUN(in.height, grow(some, in, tiles, distance, to))
}

void feather(Size begin, Size end, const In &alpha, const In &uneven, const In &weights,
             const Out &out) {
    const auto in = view<const float>("alpha", alpha, {SOME, SOME}, true);
    const Blocks size = blocks_of(in.height, in.width, TILE);
    const auto tiles = view<const bool>("uneven", uneven, {size.rows, size.columns});
    const auto roof = view<const float>("weights", weights, {SOME});
    const auto to = view<float>("out", out, {in.height, in.width}, true);
    require(roof.width % 2, "weights must be an odd number");
    RUN(in.height, feather(some, in, tiles, roof, to))
}

void despill(Size begin, Size end, const Out &colours, int channel) {
    by_depth("colours", colours, [&](auto p) {
        const auto to = view<decltype(p)>("colours", colours, {ANY, ANY, at_least(3)});
        require(0 <= channel && channel < 3, "channel must be 0 to 2");
        RUN(to.height, despill(some, to, channel))
    });
}

// --- yuv420.cpp

void to_rgb(Size begin, Size end, const In &luma, const In &blue, const In &red,
            const Out &out, const In &numbers) {
    const auto y = view<const uint8_t>("luma", luma, {SOME, SOME}, true);
    const Size height = y.height, width = y.width;
    const Shape half = {(height + 1) / 2, (width + 1) / 2};
    const auto cb = view<const uint8_t>("blue", blue, half, true);
    const auto cr = view<const uint8_t>("red", red, half, true);
    const auto to = view<uint8_t>("out", out, {height, width, 3}, true);
    const auto six = view<const float>("numbers", numbers, {6});
    RUN(height, to_rgb(some, y, cb, cr, to, six))
}

void from_rgb(Size begin, Size end, const In &pixels, const Out &luma, const Out &blue,
              const Out &red, const In &numbers) {
    const auto y = view<uint8_t>("luma", luma, {SOME, SOME}, true);
    const Size height = y.height, width = y.width;
    const Shape half = {(height + 1) / 2, (width + 1) / 2};
    const auto cb = view<uint8_t>("blue", blue, half, true);
    const auto cr = view<uint8_t>("red", red, half, true);
    const auto in = view<const uint8_t>("pixels", pixels, {height, width, SOME}, true);
    require(in.channels == 1 || in.channels == 3, "pixels must have 1 or 3 channels");
    const auto ten = view<const float>("numbers", numbers, {10});
    RUN(cb.height, from_rgb(some, in, y, cb, cr, ten))
}

// --- tone.cpp

Tables tables_of(const In &light, const In &steps, const In &numbers, Size codes) {
    return {view<const float>("light", light, {codes}),
            view<const float>("steps", steps, {5, 4098}, true),
            view<const float>("numbers", numbers, {21})};
}

void convert(Size begin, Size end, const In &pixels, const Out &out, const In &light,
             const In &steps, const In &numbers) {
    by_depth("pixels", pixels, [&](auto p) {
        using P = decltype(p);
        const auto in = view<const P>("pixels", pixels, {ANY, ANY, at_least(3)});
        const auto to = view<uint16_t>("out", out, {in.height, in.width, at_least(3)});
        const Tables tables = tables_of(light, steps, numbers, P(-1) + 1);
        RUN(in.height, convert(some, in, to, tables))
    });
}

void restore(Size begin, Size end, const In &original, const In &shown,
             const In &foreground, const Out &out, const In &light, const In &steps,
             const In &numbers) {
    by_depth("original", original, [&](auto p) {
        const auto own =
            view<const decltype(p)>("original", original, {ANY, ANY, at_least(3)});
        const Shape size = {own.height, own.width, at_least(3)};
        const auto before = view<const uint16_t>("shown", shown, size);
        const auto after = view<const uint16_t>("foreground", foreground, size);
        const auto to = view<uint16_t>("out", out, size);
        const Tables tables = tables_of(light, steps, numbers, 65536);
        RUN(own.height, restore(some, own, before, after, to, tables))
    });
}

// --- edge_colours.cpp

void shrink(Size begin, Size end, const In &large, const Out &small) {
    const auto work = [&](auto p) {
        const auto in = view<const decltype(p)>("large", large, {ANY, ANY, 4});
        const auto to =
            view<float>("small", small, {(in.height + 1) / 2, (in.width + 1) / 2, 4});
        RUN(to.height, shrink(some, in, to))
    };
    large.dtype() == nb::dtype<uint8_t>() ? work(uint8_t()) : work(float());
}

void fill(Size begin, Size end, const In &level, const In &coarse, const Out &out) {
    const auto work = [&](auto p) {
        using P = decltype(p);
        const auto in = view<const P>("level", level, {ANY, ANY, 4});
        const auto from = view<const float>(
            "coarse", coarse, {(in.height + 1) / 2, (in.width + 1) / 2, 3});
        const auto to = view<P>("out", out, {in.height, in.width, 3});
        RUN(in.height, fill(some, in, from, to))
    };
    level.dtype() == nb::dtype<uint8_t>() ? work(uint8_t()) : work(float());
}

} // namespace

NB_MODULE(_rematte_kernels, module) {
    chosen = choose();
    module.attr("instruction_set") = NAMES[chosen];
    module.def("sample", sample);
    module.def("render", render);
    module.def("find", find);
    module.def("sum_far", sum_far);
    module.def("sum", sum);
    module.def("sum_near", sum_near);
    module.def("separate", separate);
    module.def("lay", lay);
    module.def("grow", grow);
    module.def("feather", feather);
    module.def("despill", despill);
    module.def("to_rgb", to_rgb);
    module.def("from_rgb", from_rgb);
    module.def("convert", convert);
    module.def("restore", restore);
    module.def("shrink", shrink);
    module.def("fill", fill);
}
