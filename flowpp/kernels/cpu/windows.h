// Passes of a Winograd convolution: the tiles that are in working memory at a time.

#pragma once

#include <algorithm>

#include "lanes.h"

namespace {

constexpr long TILES = 512;  // at most, per pass

inline long quotient_up(long n, long size) { return (n + size - 1) / size; }

inline long blocks_of(long channels) { return quotient_up(channels, LANES); }

// The tiles of one pass: those of whole images, or a rectangle of one image with more than TILES.
struct Window {
    long image, images;  // the first image, and the number of images
    long row, rows, column, columns;
    long tiles() const { return rows * columns; }  // of each image
    long pixels() const { return 2 * columns; }    // of each row
    bool is_first() const { return row == 0 && column == 0; }
};

struct Images {
    long channels, height, width;
    long rows() const { return height / 2; }
    long columns() const { return width / 2; }
    long tiles() const { return rows() * columns(); }
    long positions() const { return height * width; }
    long blocks() const { return blocks_of(channels); }
    // Position of the window's first pixel.
    long corner(const Window &w) const { return 2 * (w.row * width + w.column); }
};

// Division of a batch into windows of nearly equal size. So the working memory depends on the number
// of channels, but not on the size of the images.
class Passes {
    const long batch, height, width;  // of an image, in tiles
    const long at_once;               // images
    const long strips, bands;         // parts of an image, across and down

public:
    Passes(const Images &images, long count)
        : batch(count), height(images.rows()), width(images.columns()),
          at_once(std::min(count, std::max(1l, TILES / images.tiles()))),
          strips(quotient_up(width, TILES)),
          bands(quotient_up(height, TILES / quotient_up(width, strips))) {}

    long count() const { return quotient_up(batch, at_once) * bands * strips; }

    // Largest size of a window, in tiles.
    long rows() const { return quotient_up(height, bands); }
    long columns() const { return quotient_up(width, strips); }
    long tiles() const { return at_once * rows() * columns(); }

    Window operator[](long n) const {
        const long strip = n % strips, band = n / strips % bands;
        const long image = n / (strips * bands) * at_once;
        const long row = height * band / bands, column = width * strip / strips;
        return {
            image, std::min(at_once, batch - image),
            row, height * (band + 1) / bands - row,
            column, width * (strip + 1) / strips - column
        };
    }
};

}  // namespace
