// The types that all sets of loops share. They have no functions: of a function that is
// compiled for several instruction sets under one name, the linker keeps any one.

#pragma once

#include <cstddef>
#include <cstdint>

using Size = std::ptrdiff_t;

// The rows that a call works on, from `begin` to before `end`.
struct Rows {
    Size begin, end;
};

// A picture in memory that somebody else holds; channels lie beside one another.
template <class T> struct View {
    T *data;
    Size height, width, channels;
    Size row, step; // from one row, and from one pixel, to the next [values]
};

// What blur_fusion.cpp looks at.
template <class P> struct Seen {
    View<const P> source;
    View<const uint16_t> shares;
    View<const P> hidden; // empty where the source has no alpha of its own
    Size side;            // of a block [pixels]
};

// The tables of tone.cpp: see `Conversion._tables` in tone.py.
struct Tables {
    View<const float> light, steps, numbers;
};
