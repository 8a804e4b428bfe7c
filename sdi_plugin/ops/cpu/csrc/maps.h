// Maps in memory, and operations on whole maps: copies from and to tensors of any strides, pooling, interpolation.

// (B, d, h, 1 + w + 1, channels): channels last, padded with zero channels to whole vectors, and with a pixel of zeros
// at both ends of every row, so that a convolution's three column taps are one contiguous stretch.
template <typename T> struct Grid {
  T *data = nullptr;
  int64_t d = 0, h = 0, w = 0, channels = 0;

  int64_t pitch() const { return (w + 2) * channels; }
  int64_t size(int64_t batch) const { return batch * d * h * pitch(); }
  // Pixel 0 of a row.
  T *row(int64_t b, int64_t z, int64_t y) const { return data + ((b * d + z) * h + y) * pitch() + channels; }
  void zero_ends(T *row) const {
    std::fill(row - channels, row, T(0));
    std::fill(row + w * channels, row + (w + 1) * channels, T(0));
  }
};

// Several grids with the same batch and channels, in one block of memory. shape(i): grid i without its data.
template <typename T> struct Grids {
  Buffer<Grid<T>> grids;
  Buffer<T> data;

  template <typename F> Grids(int64_t count, int64_t batch, int64_t channels, F shape) : grids(count) {
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++)
      total += (grids.data[i] = shape(i)).size(batch);
    data.resize(total + channels); // Winograd's last tile of an odd row reads a pixel past its end
    total = 0;
    for (int64_t i = 0; i < count; i++) {
      grids.data[i].data = data.data + total;
      total += grids.data[i].size(batch);
    }
  }
  const Grid<T> &operator[](int64_t i) const { return grids.data[i]; }
};

// The row of task i in a loop over all rows of a grid.
struct RowIndex {
  int64_t b, z, y;
  RowIndex(int64_t b, int64_t z, int64_t y) : b(b), z(z), y(y) {}
  template <typename T> RowIndex(const Grid<T> &g, int64_t i) : b(i / g.h / g.d), z(i / g.h % g.d), y(i % g.h) {}
};

template <typename T> T *address(const View &v, int64_t b, int64_t z, int64_t y) {
  return static_cast<T *>(v.data) + b * v.stride[0] + z * v.stride[2] + y * v.stride[3];
}

// to[c * to_pitch + r] = from[r * from_pitch + c], in blocks of four by four.
template <typename T>
void transpose(T *to, int64_t to_pitch, const T *from, int64_t from_pitch, int64_t rows, int64_t columns) {
  typedef T Four __attribute__((vector_size(4 * sizeof(T))));
  typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Index;
  typedef Index Order __attribute__((vector_size(4 * sizeof(T))));
  const auto interleaved = [](Four a, Four b, Four *low, Four *high) SDI_INLINE_LAMBDA {
    *low = SDI_SHUFFLE(a, b, 0, 4, 1, 5);
    *high = SDI_SHUFFLE(a, b, 2, 6, 3, 7);
  };
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    int64_t c = 0;
    for (; c + 4 <= columns; c += 4) {
      Four row[4], half[4], out[4];
      for (int64_t i = 0; i < 4; i++)
        std::memcpy(&row[i], from + (r + i) * from_pitch + c, sizeof(Four));
      interleaved(row[0], row[2], &half[0], &half[1]);
      interleaved(row[1], row[3], &half[2], &half[3]);
      interleaved(half[0], half[2], &out[0], &out[1]);
      interleaved(half[1], half[3], &out[2], &out[3]);
      for (int64_t i = 0; i < 4; i++)
        std::memcpy(to + (c + i) * to_pitch + r, &out[i], sizeof(Four));
    }
    for (; c < columns; c++)
      for (int64_t i = 0; i < 4; i++)
        to[c * to_pitch + r + i] = from[(r + i) * from_pitch + c];
  }
  for (; r < rows; r++)
    for (int64_t c = 0; c < columns; c++)
      to[c * to_pitch + r] = from[r * from_pitch + c];
}

// row (w, pitch) = one row of a tensor, with zeros in the padding channels.
template <typename T>
void read_row(T *row, const View &v, int64_t b, int64_t z, int64_t y, int64_t w, int64_t channels, int64_t pitch) {
  const T *from = address<T>(v, b, z, y);
  if (channels < pitch)
    std::fill(row, row + w * pitch, T(0));
  if (v.stride[4] == 1) {
    transpose(row, pitch, from, v.stride[1], channels, w);
    return;
  }
  for (int64_t x = 0; x < w; x++)
    if (v.stride[1] == 1)
      std::copy(from + x * v.stride[4], from + x * v.stride[4] + channels, row + x * pitch);
    else
      for (int64_t c = 0; c < channels; c++)
        row[x * pitch + c] = from[c * v.stride[1] + x * v.stride[4]];
}

template <typename T>
void write_row(const T *row, const View &v, int64_t b, int64_t z, int64_t y, int64_t w, int64_t channels,
               int64_t pitch) {
  T *to = address<T>(v, b, z, y);
  if (v.stride[4] == 1) {
    transpose(to, v.stride[1], row, pitch, w, channels);
    return;
  }
  for (int64_t x = 0; x < w; x++)
    if (v.stride[1] == 1)
      std::copy(row + x * pitch, row + x * pitch + channels, to + x * v.stride[4]);
    else
      for (int64_t c = 0; c < channels; c++)
        to[c * v.stride[1] + x * v.stride[4]] = row[x * pitch + c];
}

// One row of `to` = (or += if Add) the axes' matrices applied to `from`.
template <bool Add, typename T>
void resample_row(const Grid<T> &to, const Grid<T> &from, const Axis &az, const Axis &ay, const Axis &ax,
                  const RowIndex &at) {
  const auto weights = [](const Axis &axis, int64_t i) {
    return static_cast<const T *>(axis.weights) + i * axis.width;
  };
  const T *wz = weights(az, at.z), *wy = weights(ay, at.y);
  T *out = to.row(at.b, at.z, at.y);
  for (int64_t x = 0; x < to.w; x++) {
    const T *wx = weights(ax, x);
    for (int64_t c = 0; c < to.channels; c += Lanes<T>::count) {
      auto sum = Add ? load(out + x * to.channels + c) : typename Lanes<T>::Vector{};
      for (int64_t i = 0; i < az.count[at.z]; i++)
        for (int64_t j = 0; j < ay.count[at.y]; j++) {
          const T *row = from.row(at.b, az.first[at.z] + i, ay.first[at.y] + j) + ax.first[x] * to.channels + c;
          for (int64_t k = 0; k < ax.count[x]; k++)
            sum += wz[i] * wy[j] * wx[k] * load(row + k * to.channels);
        }
      store(out + x * to.channels + c, sum);
    }
  }
}
