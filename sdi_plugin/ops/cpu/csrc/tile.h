// Matrix products in registers: a tile of up to kRows rows and two vectors of columns, for A of any strides times B in
// panels. All products of the kernel are computed here: convolutions, tap products, and the gradients of both.

template <typename T> struct Lanes {
  static constexpr int64_t count = SDI_VECTOR_BYTES / sizeof(T);
  typedef T Vector __attribute__((vector_size(SDI_VECTOR_BYTES)));
};

template <typename T> SDI_INLINE typename Lanes<T>::Vector load(const T *p) {
  typename Lanes<T>::Vector v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

template <typename T> SDI_INLINE void store(T *p, typename Lanes<T>::Vector v) { std::memcpy(p, &v, sizeof(v)); }

template <typename T> SDI_INLINE int64_t padded(int64_t channels) {
  return (channels + Lanes<T>::count - 1) / Lanes<T>::count * Lanes<T>::count;
}

// Memory owned by the kernel, in whole cache lines; not initialised.
template <typename T> struct Buffer {
  T *data = nullptr;
  int64_t size = 0;

  Buffer() = default;
  explicit Buffer(int64_t count) { resize(count); }
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;
  ~Buffer() { std::free(data); }

  void resize(int64_t count) {
    std::free(data);
    size = count;
    data = static_cast<T *>(std::aligned_alloc(64, (count * sizeof(T) + 63) / 64 * 64 + 64));
    if (!data)
      throw std::bad_alloc();
  }
  void zero() { std::fill(data, data + size, T(0)); }
};

// A matrix B (inner, columns) in panels of two vectors of columns; the last panel may have one. The panel of `column`
// begins at data + column * inner. Columns are whole vectors.
template <typename T> struct Panels {
  const T *data;
  int64_t inner, columns;

  static SDI_INLINE int64_t index(int64_t inner, int64_t columns, int64_t k, int64_t column) {
    constexpr int64_t whole = 2 * Lanes<T>::count;
    const int64_t begin = column / whole * whole;
    return begin * inner + k * std::min(whole, columns - begin) + (column - begin);
  }
};

// Rows of A as stretches, each multiplied with rows of B from `at` on: a convolution has one per row that it reads.
template <typename T> struct Stretches {
  int64_t count, length;
  const T *begin[9];
  int64_t at[9];
};

// With two vectors of columns: 24 accumulators for the 32 registers of AVX-512, 12 for 16 registers.
constexpr int64_t kRows = SDI_VECTOR_BYTES == 64 ? 12 : 6;

constexpr int largest_power_of_2(int below) { return below >= 4 ? 4 : below >= 2 ? 2 : 1; }

// A tile of M rows and N vectors of columns: out = start + sum of the stretches (rows of A at a_pitch) times the panel.
// start: out itself if `add`, otherwise a row, or zero if that is null. Never inlined: it needs all registers.
// Each stretch is summed separately, in as many parts as there are registers for: short sums have smaller rounding
// errors and shorter dependency chains.
template <typename T, int M, int N>
SDI_NOINLINE void product_tile(T *out, int64_t out_pitch, bool add, const T *start, const Stretches<T> &stretches,
                               int64_t a_offset, int64_t a_pitch, const T *panel) {
  using Vector = typename Lanes<T>::Vector;
  constexpr int64_t lanes = Lanes<T>::count;
  constexpr int parts = std::min<int>(lanes, largest_power_of_2(2 * kRows / (M * N)));
  const T *first = add ? out : start;
  int64_t first_pitch = add ? out_pitch : 0;
  for (int64_t i = 0; i < stretches.count || i == 0; i++) {
    Vector sum[parts][M][N];
  SDI_UNROLL for (int p = 0; p < parts; p++)
      SDI_UNROLL for (int m = 0; m < M; m++)
        SDI_UNROLL for (int n = 0; n < N; n++)
          sum[p][m][n] = Vector{};
    if (i < stretches.count) {
      const T *a = stretches.begin[i] + a_offset, *b = panel + stretches.at[i] * N * lanes;
      const T *row[M];
      SDI_UNROLL for (int m = 0; m < M; m++)
        row[m] = a + m * a_pitch;
      // Whole vectors of channels: the length is a multiple of the lanes, and so of the parts.
      for (int64_t k = 0; k < stretches.length; k += parts)
        SDI_UNROLL for (int p = 0; p < parts; p++, b += N * lanes)
          SDI_UNROLL for (int m = 0; m < M; m++)
            SDI_UNROLL for (int n = 0; n < N; n++)
              sum[p][m][n] += row[m][k + p] * load(b + n * lanes);
    }
    SDI_UNROLL for (int step = 1; step < parts; step *= 2)
      SDI_UNROLL for (int p = 0; p + step < parts; p += 2 * step)
        SDI_UNROLL for (int m = 0; m < M; m++)
          SDI_UNROLL for (int n = 0; n < N; n++)
            sum[p][m][n] += sum[p + step][m][n];
    SDI_UNROLL for (int m = 0; m < M; m++)
      SDI_UNROLL for (int n = 0; n < N; n++) {
        T *to = out + m * out_pitch + n * lanes;
        store(to, first ? load(first + m * first_pitch + n * lanes) + sum[0][m][n] : sum[0][m][n]);
      }
    first = out;
    first_pitch = out_pitch;
  }
}

// A tile of A^T B, added to out: rows of A at a_pitch, of B at b_pitch.
template <typename T, int M, int N>
SDI_NOINLINE void transposed_tile(T *out, int64_t out_pitch, const T *a, int64_t a_pitch, const T *b, int64_t b_pitch,
                                  int64_t inner) {
  constexpr int64_t lanes = Lanes<T>::count;
  typename Lanes<T>::Vector sum[M][N];
  SDI_UNROLL for (int m = 0; m < M; m++)
    SDI_UNROLL for (int n = 0; n < N; n++)
      sum[m][n] = typename Lanes<T>::Vector{};
  for (int64_t k = 0; k < inner; k++, a += a_pitch, b += b_pitch)
    SDI_UNROLL for (int m = 0; m < M; m++)
      SDI_UNROLL for (int n = 0; n < N; n++)
        sum[m][n] += a[m] * load(b + n * lanes);
  // Each tile is summed before it is added to out: the rounding error is smaller than in one long sum.
  SDI_UNROLL for (int m = 0; m < M; m++)
    SDI_UNROLL for (int n = 0; n < N; n++) {
      T *p = out + m * out_pitch + n * lanes;
      store(p, load(p) + sum[m][n]);
    }
}

// use(M as a constant) for M = rows, from 1 to kRows.
template <int M = kRows, typename F> SDI_INLINE void with_rows(int64_t rows, F use) {
  if constexpr (M > 1) {
    if (rows < M)
      return with_rows<M - 1>(rows, use);
  }
  use(std::integral_constant<int, M>());
}

// use(rows of the tile, vectors of columns, first row, first column), the first two as constants, for the tiles that
// cover rows x columns. Rows are divided evenly, so that no tile is left with a single row.
template <typename T, int N, typename F> SDI_INLINE void each_row_tile(int64_t rows, int64_t column, F use) {
  const int64_t tiles = (rows + kRows - 1) / kRows;
  for (int64_t i = 0; i < tiles; i++) {
    const int64_t begin = rows * i / tiles;
    with_rows(rows * (i + 1) / tiles - begin,
              [&](auto m) SDI_INLINE_LAMBDA { use(m, std::integral_constant<int, N>(), begin, column); });
  }
}

template <typename T, typename F> SDI_INLINE void each_tile(int64_t rows, int64_t columns, F use) {
  int64_t column = 0;
  for (; column + 2 * Lanes<T>::count <= columns; column += 2 * Lanes<T>::count)
    each_row_tile<T, 2>(rows, column, use);
  if (column < columns)
    each_row_tile<T, 1>(rows, column, use);
}

// out (rows, columns) = (or += if add) the stretches' rows, a_pitch apart, times b; = starts from the row `start` or 0.
template <typename T>
void product(T *out, int64_t out_pitch, bool add, const T *start, const Stretches<T> &stretches, int64_t a_pitch,
             int64_t rows, const Panels<T> &b) {
  each_tile<T>(rows, b.columns, [&](auto m, auto n, int64_t row, int64_t column) {
    product_tile<T, m(), n()>(out + row * out_pitch + column, out_pitch, add, start ? start + column : nullptr, stretches,
                              row * a_pitch, a_pitch, b.data + column * b.inner);
  });
}

// out (rows, columns) += a^T (inner, rows) * b (inner, columns).
template <typename T>
void add_transposed_product(T *out, const T *a, int64_t a_pitch, const T *b, int64_t inner, int64_t rows, int64_t columns) {
  each_tile<T>(rows, columns, [&](auto m, auto n, int64_t row, int64_t column) {
    transposed_tile<T, m(), n()>(out + row * columns + column, columns, a + row, a_pitch, b + column, columns, inner);
  });
}
