// What the loops share. All of it is local to the file that includes it, since each
// file is compiled for several instruction sets.

#pragma once

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <new>

#include "kernels.h"

namespace {

// Room for a row, set to zero.
template <class T> class Scratch {
    T *data;

public:
    explicit Scratch(Size count)
        : data(static_cast<T *>(std::calloc(count ? count : 1, sizeof(T)))) {
        if (!data) throw std::bad_alloc();
    }
    Scratch(const Scratch &) = delete;
    ~Scratch() { std::free(data); }
    operator T *() const { return data; }
};

// The second one if either is not a number, as processors do it.
template <class T> T least(T a, T b) { return a < b ? a : b; }
template <class T> T most(T a, T b) { return a > b ? a : b; }
template <class T> T limit(T value, T low, T high) {
    return least(most(value, low), high);
}

// Hide a number from the compiler: GCC makes two vector instructions of `limit` where
// it does not know the limits, and a dozen where it does.
[[maybe_unused]] float unknown(float value) {
    volatile float kept = value;
    return kept;
}

template <class T> T *row_of(const View<T> &view, Size y) {
    return view.data + y * view.row;
}
template <class T> T *pixel_of(const View<T> &view, Size y, Size x) {
    return view.data + y * view.row + x * view.step;
}
template <class T> T *nearest_row(const View<T> &view, Size y) {
    return row_of(view, limit<Size>(y, 0, view.height - 1));
}

// The code of white, and one over it.
template <class T> constexpr float white = sizeof(T) == 1 ? 255.0f : 65535.0f;
template <class T> constexpr float unit = 1 / white<T>;

// Round what is neither negative nor above white.
template <class T> T to_code(float value) {
    return static_cast<T>(static_cast<int32_t>(value + 0.5f));
}

// Split pixels into rows of red, green and blue, and join them again. Compilers make
// vector code of these two if every row is an argument and nothing else happens.
template <class T>
void split(const T *__restrict row, Size width, T *__restrict r, T *__restrict g,
           T *__restrict b) {
    for (Size x = 0; x < width; x++) {
        r[x] = row[3 * x];
        g[x] = row[3 * x + 1];
        b[x] = row[3 * x + 2];
    }
}

template <class T>
void join(const T *__restrict r, const T *__restrict g, const T *__restrict b,
          Size width, T *__restrict row) {
    for (Size x = 0; x < width; x++) {
        row[3 * x] = r[x];
        row[3 * x + 1] = g[x];
        row[3 * x + 2] = b[x];
    }
}

template <class T>
void join(const T *__restrict r, const T *__restrict g, const T *__restrict b,
          const T *__restrict a, Size width, T *__restrict row) {
    for (Size x = 0; x < width; x++) {
        row[4 * x] = r[x];
        row[4 * x + 1] = g[x];
        row[4 * x + 2] = b[x];
        row[4 * x + 3] = a[x];
    }
}

} // namespace
