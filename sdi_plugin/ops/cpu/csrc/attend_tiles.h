// Tiles: some pixels of an image with all channels, as (C, pixels), whatever the tensor's layout. A tile is read where it
// is, or copied once into memory of its own: always if its pixels are not adjacent, and if its rows are a power of 2
// apart, where a cache holds few of them.

constexpr int64_t kTileBytes = 1 << 17; // a tile stays in the second-level cache
constexpr int64_t kMostPixels = 1024;
constexpr int64_t kUnits = 32; // of a level with few images: enough for the threads, and for each a place of its sums

template <typename T> int64_t pixels_of(const AttentionLevel &level) { return level.d * level.h * level.w; }

// Use a level's pixels in units, each some tiles of one image; by shapes only.
template <typename T> struct Split {
  int64_t pixels, tile, tiles, per_image, count;

  Split() = default;
  Split(const AttentionLevel &level, int64_t batch) : pixels(pixels_of<T>(level)) {
    const int64_t fitting = kTileBytes / static_cast<int64_t>(sizeof(T)) / level.channels / 64 * 64;
    tile = std::clamp<int64_t>(fitting, 64, kMostPixels);
    tiles = (pixels + tile - 1) / tile;
    per_image = std::clamp<int64_t>(batch ? (kUnits + batch - 1) / batch : 1, 1, tiles);
    count = batch * per_image;
  }
  // Between the rows of a tile: not a power of 2.
  int64_t pitch() const { return tile + Lanes<T>::count; }
  int64_t image(int64_t unit) const { return unit / per_image; }

  // use(first pixel, pixels) for the tiles of a unit.
  template <typename F> void each_tile_of(int64_t unit, F use) const {
    const int64_t part = unit % per_image;
    for (int64_t t = tiles * part / per_image; t < tiles * (part + 1) / per_image; t++)
      use(t * tile, std::min(tile, pixels - t * tile));
  }
};

// Rows (channels, whole vectors of pixels), `pitch` apart.
template <typename T> struct Tile {
  const T *data;
  int64_t pitch;
  const T *row(int64_t c) const { return data + c * pitch; }
};

// A tensor of a level, whose pixels are equally spaced if `flat`.
template <typename T> struct Map4 {
  View view;
  int64_t d, h, w, step;
  bool flat;

  Map4(const View &view, const AttentionLevel &level) : view(view), d(level.d), h(level.h), w(level.w) {
    const int64_t *s = view.stride;
    step = w > 1 ? s[4] : h > 1 ? s[3] : s[2];
    flat = (h == 1 || w == 1 || s[3] == w * step) && (d == 1 || h * w == 1 || s[2] == h * w * step);
  }
  bool is_planar() const { return flat && (step == 1 || d * h * w == 1); }
  bool is_last() const { return flat && view.stride[1] == 1; } // channels last
  T *at(int64_t image, int64_t pixel) const { // if flat
    return static_cast<T *>(view.data) + image * view.stride[0] + pixel * step;
  }

  // use(index, count, address, step) for stretches of equally spaced pixels.
  template <typename F> void each_stretch(int64_t image, int64_t begin, int64_t n, F use) const {
    if (flat)
      return use(int64_t(0), n, at(image, begin), step);
    for (int64_t i = 0, count; i < n; i += count) {
      const int64_t x = (begin + i) % w, y = (begin + i) / w % h, z = (begin + i) / w / h;
      count = std::min(n - i, w - x);
      use(i, count, address<T>(view, image, z, y) + x * view.stride[4], view.stride[4]);
    }
  }

  // The pixels from `begin` on: in place, or as a copy in `memory` (channels, pitch). once: whether they are read once.
  Tile<T> tile(T *memory, int64_t pitch, int64_t channels, int64_t image, int64_t begin, int64_t n, bool once) const {
    const int64_t apart = view.stride[1];
    const bool is_cached = once || apart * static_cast<int64_t>(sizeof(T)) % 512 != 0 || channels < 8;
    if (is_planar() && n == padded<T>(n) && is_cached)
      return {at(image, begin), apart};
    read(memory, pitch, channels, image, begin, n);
    return {memory, pitch};
  }

  // tile (channels, n) = the pixels from `begin` on, with zeros up to a whole vector.
  void read(T *tile, int64_t pitch, int64_t channels, int64_t image, int64_t begin, int64_t n) const {
    const int64_t c_step = view.stride[1];
    each_stretch(image, begin, n, [&](int64_t i, int64_t count, const T *from, int64_t step) {
      if (step == 1)
        for (int64_t c = 0; c < channels; c++)
          std::copy(from + c * c_step, from + c * c_step + count, tile + c * pitch + i);
      else if (c_step == 1)
        transpose(tile + i, pitch, from, step, count, channels);
      else
        for (int64_t c = 0; c < channels; c++)
          for (int64_t k = 0; k < count; k++)
            tile[c * pitch + i + k] = from[c * c_step + k * step];
    });
    for (int64_t c = 0; c < channels && n < padded<T>(n); c++)
      std::fill(tile + c * pitch + n, tile + c * pitch + padded<T>(n), T(0));
  }

  void write(const T *tile, int64_t pitch, int64_t channels, int64_t image, int64_t begin, int64_t n) const {
    const int64_t c_step = view.stride[1];
    each_stretch(image, begin, n, [&](int64_t i, int64_t count, T *to, int64_t step) {
      if (step == 1)
        for (int64_t c = 0; c < channels; c++)
          std::copy(tile + c * pitch + i, tile + c * pitch + i + count, to + c * c_step);
      else if (c_step == 1)
        transpose(to, step, tile + i, pitch, channels, count);
      else
        for (int64_t c = 0; c < channels; c++)
          for (int64_t k = 0; k < count; k++)
            to[c * c_step + k * step] = tile[c * pitch + i + k];
    });
  }
};

// The tasks of all levels in one numbering, from the fine levels to the coarse.
struct Tasks {
  Buffer<int64_t> first;

  template <typename F> Tasks(int64_t levels, F count) : first(levels + 1) {
    first.data[0] = 0;
    for (int64_t l = 0; l < levels; l++)
      first.data[l + 1] = first.data[l] + count(l);
  }
  int64_t count() const { return first.data[first.size - 1]; }
  // use(level, task of the level) for all, on the threads.
  template <typename F> void run(int64_t threads, F use) const {
    parallel(count(), threads, [&](int64_t i) {
      int64_t l = 0;
      while (i >= first.data[l + 1])
        l++;
      use(l, i - first.data[l]);
    });
  }
};

template <typename T> SDI_INLINE T sum_of(typename Lanes<T>::Vector v) {
  T lane[Lanes<T>::count], sum = 0;
  std::memcpy(lane, &v, sizeof(v));
  for (T value : lane)
    sum += value;
  return sum;
}

// A wheel may ask for glibc 2.28 at most, whose double exp is not the one that newer systems link; expm1 is.
template <typename T> SDI_INLINE T sigmoid(T x) {
  if constexpr (std::is_same<T, double>::value)
    return 1 / (2 + std::expm1(-x));
  else
    return 1 / (1 + std::exp(-x));
}

// The dot product of two rows.
template <typename T> T dot(const T *a, const T *b, int64_t n) {
  constexpr int64_t lanes = Lanes<T>::count;
  typename Lanes<T>::Vector sum{};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    sum += load(a + i) * load(b + i);
  T rest = 0;
  for (; i < n; i++)
    rest += a[i] * b[i];
  return sum_of<T>(sum) + rest;
}

// to (columns, padded rows) = from (rows, columns), transposed; each column times `scale` unless that is null.
template <typename T>
void pack_transposed(T *to, int64_t to_pitch, const T *from, int64_t rows, int64_t columns, const T *scale) {
  if (rows < to_pitch)
    std::fill(to, to + columns * to_pitch, T(0));
  transpose(to, to_pitch, from, columns, rows, columns);
  for (int64_t c = 0; c < columns && scale; c++)
    for (int64_t o = 0; o < rows; o++)
      to[c * to_pitch + o] *= scale[c];
}
