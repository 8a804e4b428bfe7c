// Winograd convolutions F(2x2, 3x3) (Lavin and Gray 2016, arXiv 1509.09308): 2x2 pixels of the result from 4x4 of the
// input with 16 products instead of 36. Along the depth of a volume, taps are added as in the plain convolution.
//
//     Y = A^T [ (G g G^T) . (B^T d B) ] A
//
// Two rows of the result at a time, in blocks of tiles that stay in cache. It is as accurate as the plain sum, because
// each of the 16 sums is nine times shorter.

constexpr int64_t kPoints = 16;

// (G g G^T) for each input and output channel, from the taps of a packed convolution: 16 matrices in panels.
template <typename T>
void transform_weights(T *to, const Panels<T> &taps, int64_t depth_taps) {
  using Vector = typename Lanes<T>::Vector;
  const int64_t channels = taps.inner / (9 * depth_taps), inner = depth_taps * channels, size = inner * taps.columns;
  const T half = T(0.5);
  for (int64_t column = 0; column < taps.columns; column += Lanes<T>::count)
    for (int64_t k = 0; k < inner; k++) {
      const int64_t first = k / channels * 9 * channels + k % channels; // tap 0 of this depth tap and channel
      Vector g[3][3], rows[4][3];
      for (int64_t t = 0; t < 9; t++)
        g[t / 3][t % 3] = load(taps.data + Panels<T>::index(taps.inner, taps.columns, first + t * channels, column));
      for (int64_t x = 0; x < 3; x++) {
        rows[0][x] = g[0][x];
        rows[1][x] = half * (g[0][x] + g[1][x] + g[2][x]);
        rows[2][x] = half * (g[0][x] - g[1][x] + g[2][x]);
        rows[3][x] = g[2][x];
      }
      T *out = to + Panels<T>::index(inner, taps.columns, k, column);
      for (int64_t y = 0; y < 4; y++) {
        store(out + (y * 4 + 0) * size, rows[y][0]);
        store(out + (y * 4 + 1) * size, half * (rows[y][0] + rows[y][1] + rows[y][2]));
        store(out + (y * 4 + 2) * size, half * (rows[y][0] - rows[y][1] + rows[y][2]));
        store(out + (y * 4 + 3) * size, rows[y][2]);
      }
    }
}

// Whether Winograd is worth transforming the weights. Depends only on the shape.
// The cost model in ops/cpu/stage.py uses the same bound.
inline bool is_winograd(int64_t d, int64_t h, int64_t w) { return h > 1 && w > 1 && d * h * w >= 256; }

template <typename T> class Winograd {
public:
  // out[i] (W, C_out) = (or += if add) row at.y + i, i < 2, of a convolution of the grid; = starts from bias unless
  // that is null. at.y is even. zeros: a row of zeros of the grid's size.
  void rows(T *const out[2], bool add, const Grid<T> &grid, const Panels<T> &weights, const T *bias, int64_t depth_taps,
            const RowIndex &at, const T *zeros) {
    const int64_t channels = grid.channels, inner = depth_taps * channels, columns = weights.columns;
    const int64_t tiles = (grid.w + 1) / 2, blocks = (tiles + kRows - 1) / kRows;
    if (!inputs.data) {
      inputs.resize(kPoints * kRows * inner);
      sums.resize(kPoints * kRows * columns);
    }
    Stretches<T> planes{0, channels, {}, {}};
    for (int64_t block = 0; block < blocks; block++) {
      const int64_t begin = tiles * block / blocks, count = tiles * (block + 1) / blocks - begin;
      planes.count = 0;
      for (int64_t tap_plane = 0; tap_plane < depth_taps; tap_plane++) {
        const int64_t z = at.z + tap_plane - depth_taps / 2;
        if (z < 0 || z >= grid.d)
          continue; // zero padding
        planes.at[planes.count++] = tap_plane * channels;
        const T *row[4];
        for (int64_t i = 0; i < 4; i++) {
          const int64_t y = at.y + i - 1;
          row[i] = (y < 0 || y >= grid.h ? zeros : grid.row(at.b, z, y)) + (2 * begin - 1) * channels;
        }
        transform_inputs(inputs.data + tap_plane * channels, row, count, channels, inner);
      }
      for (int64_t point = 0; point < kPoints; point++) {
        for (int64_t i = 0; i < planes.count; i++)
          planes.begin[i] = inputs.data + point * kRows * inner + planes.at[i];
        product<T>(sums.data + point * kRows * columns, columns, false, nullptr, planes, inner, count,
                   {weights.data + point * inner * columns, inner, columns});
      }
      transform_sums(out, add, bias, 2 * begin, count, grid.w, columns);
    }
  }

private:
  // B^T d B of each tile, for each channel. A tile shares two columns of pixels with the one before it.
  SDI_NOINLINE static void transform_inputs(T *to, const T *const row[4], int64_t count, int64_t channels,
                                            int64_t inner) {
    const T *a = row[0], *b = row[1], *c = row[2], *d = row[3];
    for (int64_t channel = 0; channel < channels; channel += Lanes<T>::count) {
      typename Lanes<T>::Vector column[4][4]; // [x][y]
      const auto read = [&](int64_t x, int64_t pixel) SDI_INLINE_LAMBDA {
        const int64_t i = pixel * channels + channel;
        const auto b_i = load(b + i), c_i = load(c + i);
        column[x][0] = load(a + i) - c_i;
        column[x][1] = b_i + c_i;
        column[x][2] = c_i - b_i;
        column[x][3] = b_i - load(d + i);
      };
      read(2, 0);
      read(3, 1);
      for (int64_t tile = 0; tile < count; tile++) {
        for (int64_t y = 0; y < 4; y++) {
          column[0][y] = column[2][y];
          column[1][y] = column[3][y];
        }
        read(2, tile * 2 + 2);
        read(3, tile * 2 + 3);
        T *out = to + tile * inner + channel;
        for (int64_t y = 0; y < 4; y++) {
          store(out + (y * 4 + 0) * kRows * inner, column[0][y] - column[2][y]);
          store(out + (y * 4 + 1) * kRows * inner, column[1][y] + column[2][y]);
          store(out + (y * 4 + 2) * kRows * inner, column[2][y] - column[1][y]);
          store(out + (y * 4 + 3) * kRows * inner, column[1][y] - column[3][y]);
        }
      }
    }
  }

  // A^T m A of each tile.
  SDI_NOINLINE void transform_sums(T *const out[2], bool add, const T *bias, int64_t x, int64_t count, int64_t w,
                                   int64_t columns) const {
    using Vector = typename Lanes<T>::Vector;
    for (int64_t tile = 0; tile < count; tile++, x += 2)
      for (int64_t c = 0; c < columns; c += Lanes<T>::count) {
        const T *m = sums.data + tile * columns + c;
        const int64_t step = kRows * columns;
        const Vector start = bias ? load(bias + c) : Vector{};
        Vector top[4], bottom[4];
        for (int64_t i = 0; i < 4; i++) {
          const Vector second = load(m + (4 + i) * step), third = load(m + (8 + i) * step);
          top[i] = load(m + i * step) + second + third;
          bottom[i] = second - third - load(m + (12 + i) * step);
        }
        const auto put = [&](T *row, const Vector *s) SDI_INLINE_LAMBDA {
          T *p = row + x * columns + c;
          const Vector left = s[0] + s[1] + s[2] + start, right = s[1] - s[2] - s[3] + start;
          store(p, add ? load(p) + left : left);
          if (x + 1 < w)
            store(p + columns, add ? load(p + columns) + right : right);
        };
        put(out[0], top);
        if (out[1])
          put(out[1], bottom);
      }
  }

  Buffer<T> inputs, sums; // (point, tile, channels)
};
