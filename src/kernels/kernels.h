// The loops, declared in the namespace KERNEL_SET. Each set is compiled for other
// instructions; module.cpp includes this file once for each, so it has no guard.
//
// P and O are uint8_t or uint16_t: the types of a picture and of what is made from it.

#include "view.h"

namespace KERNEL_SET {

// guided_filter.cpp
template <class P> void sample(Rows, View<const P> pixels, View<float> out, float step);
template <class P, class O>
void render(Rows, View<const P> pixels, View<const float> maps, View<const O> behind,
            View<const P> own, View<O> out, int kind);

// blur_fusion.cpp
void find(Rows, View<const uint16_t> shares, Size side, View<uint8_t> blocks);
template <class P> void sum_far(Rows, Seen<P>, View<float> far);
template <class P>
void sum(Rows, Seen<P>, View<const int32_t> around, View<const float> far,
         View<float> sums);
void sum_near(Rows, View<const int32_t> around, View<const int32_t> blocks,
              View<const float> sums, View<float> near);
template <class P>
void separate(Rows, Seen<P>, View<const int32_t> blocks, View<const float> far,
              View<const float> near, View<uint16_t> colours);
template <class O>
void lay(Rows, View<const uint16_t> shares, Size side, View<const int32_t> blocks,
         View<const uint16_t> colours, View<const O> behind, View<O> out);

// alpha_shape.cpp
void grow(Rows, View<const float> alpha, View<const bool> uneven, float distance,
          View<float> out);
void feather(Rows, View<const float> alpha, View<const bool> uneven,
             View<const float> weights, View<float> out);
template <class P> void despill(Rows, View<P> colours, int channel);

// yuv420.cpp
void to_rgb(Rows, View<const uint8_t> luma, View<const uint8_t> blue,
            View<const uint8_t> red, View<uint8_t> out, View<const float> numbers);
void from_rgb(Rows, View<const uint8_t> pixels, View<uint8_t> luma, View<uint8_t> blue,
              View<uint8_t> red, View<const float> numbers);

// tone.cpp
template <class P> void convert(Rows, View<const P> pixels, View<uint16_t> out, Tables);
template <class P>
void restore(Rows, View<const P> original, View<const uint16_t> shown,
             View<const uint16_t> foreground, View<uint16_t> out, Tables);

// edge_colours.cpp; P is uint8_t for the picture itself, and float for smaller ones
template <class P> void shrink(Rows, View<const P> large, View<float> small);
template <class P>
void fill(Rows, View<const P> level, View<const float> coarse, View<P> out);

} // namespace KERNEL_SET
