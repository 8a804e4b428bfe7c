// The 7x7 (7x7x7) convolution of the pixels' means and maxima, its adjoint, and the gradient of its weights. Some rows
// of a plane at a time: with three zeros around, rows and taps are offsets in one contiguous stretch.

constexpr int64_t kTaps = 7, kHalo = 3;
constexpr int64_t kRowsOfTask = 16;

// Rows of one plane.
struct Rows {
  int64_t image, z, begin, count;
};

struct RowSplit {
  int64_t d, h, parts, count;
  RowSplit() = default;
  RowSplit(const AttentionLevel &level, int64_t batch)
      : d(level.d), h(level.h), parts((h + kRowsOfTask - 1) / kRowsOfTask), count(batch * d * parts) {}
  Rows at(int64_t i) const {
    const int64_t part = i % parts, begin = h * part / parts;
    return {i / parts / d, i / parts % d, begin, h * (part + 1) / parts - begin};
  }
};

// The rows of one map (D, H, W) that a convolution of some of its rows reads.
template <typename T> struct Halo {
  int64_t pitch, rows, depth_taps;
  Buffer<T> data;

  Halo(const T *map, const AttentionLevel &level, int64_t depth_taps, const Rows &at)
      : pitch(level.w + 2 * kHalo), rows(at.count), depth_taps(depth_taps),
        data(depth_taps * (at.count + 2 * kHalo) * pitch + 4 * Lanes<T>::count + kTaps) {
    data.zero();
    for (int64_t tap = 0; tap < depth_taps; tap++) {
      const int64_t z = at.z + tap - depth_taps / 2;
      if (z < 0 || z >= level.d)
        continue;
      const int64_t first = std::max<int64_t>(0, at.begin - kHalo),
                    last = std::min(level.h, at.begin + at.count + kHalo);
      for (int64_t y = first; y < last; y++) {
        const T *from = map + (z * level.h + y) * level.w;
        std::copy(from, from + level.w, data.data + (tap * (rows + 2 * kHalo) + y - at.begin + kHalo) * pitch + kHalo);
      }
    }
  }
  // What the taps of a row and a depth tap read, from the first column's tap on.
  const T *stretch(int64_t depth_tap, int64_t row_tap) const {
    return data.data + (depth_tap * (rows + 2 * kHalo) + row_tap) * pitch;
  }
  int64_t size() const { return rows * pitch; }
};

// out (rows, pitch) += the convolution of a map with weights (depth taps, 7, 7).
template <typename T> void add_smooth(Buffer<T> &out, const Halo<T> &map, const T *weights) {
  constexpr int64_t lanes = Lanes<T>::count, n = 4;
  for (int64_t q = 0; q < map.size(); q += n * lanes) {
    typename Lanes<T>::Vector sum[n];
  SDI_UNROLL for (int64_t j = 0; j < n; j++)
      sum[j] = load(out.data + q + j * lanes);
    for (int64_t z = 0; z < map.depth_taps; z++)
      for (int64_t y = 0; y < kTaps; y++) {
        const T *from = map.stretch(z, y) + q, *weight = weights + (z * kTaps + y) * kTaps;
        SDI_UNROLL for (int64_t x = 0; x < kTaps; x++)
          SDI_UNROLL for (int64_t j = 0; j < n; j++)
            sum[j] += weight[x] * load(from + x + j * lanes);
      }
    SDI_UNROLL for (int64_t j = 0; j < n; j++)
      store(out.data + q + j * lanes, sum[j]);
  }
}

// sums (depth taps, 7, 7) = the gradient of the weights: own (rows, pitch), zero between the rows, with the map.
template <typename T> void smooth_weights(T *sums, const Halo<T> &map, const T *own) {
  constexpr int64_t lanes = Lanes<T>::count;
  for (int64_t z = 0; z < map.depth_taps; z++)
    for (int64_t y = 0; y < kTaps; y++) {
      typename Lanes<T>::Vector sum[kTaps];
      SDI_UNROLL for (int64_t x = 0; x < kTaps; x++)
        sum[x] = typename Lanes<T>::Vector{};
      const T *from = map.stretch(z, y);
      for (int64_t q = 0; q < map.size(); q += lanes) {
        const auto gradient = load(own + q);
        SDI_UNROLL for (int64_t x = 0; x < kTaps; x++)
          sum[x] += gradient * load(from + q + x);
      }
      SDI_UNROLL for (int64_t x = 0; x < kTaps; x++)
        sums[(z * kTaps + y) * kTaps + x] = sum_of<T>(sum[x]);
    }
}
