// The caller's weights (C_out, C_in, taps...) packed for the products, and their gradients unpacked for the caller.

template <typename T> struct Shape {
  int64_t in, out; // channels
  int64_t in_padded, out_padded; // channels padded to whole vectors
  int64_t depth_taps;

  explicit Shape(const Stage &stage)
      : in(stage.in_channels), out(stage.out_channels), in_padded(padded<T>(in)), out_padded(padded<T>(out)),
        depth_taps(stage.depth_taps) {}
  int64_t weight_size() const { return depth_taps * 9 * in_padded * out_padded; }
  int64_t packed_size() const { return depth_taps * kPoints * in_padded * out_padded; } // fits Winograd's weights

  // use(channel out, channel in, depth tap, row tap, column tap, index in the caller's tensor)
  template <typename F> SDI_INLINE void each_weight(F use) const {
    for (int64_t o = 0; o < out; o++)
      for (int64_t z = 0; z < depth_taps; z++)
        for (int64_t y = 0; y < 3; y++)
          for (int64_t x = 0; x < 3; x++)
            for (int64_t i = 0; i < in; i++)
              use(o, i, z, y, x, (o * in + i) * depth_taps * 9 + (z * 3 + y) * 3 + x);
  }
};

// A term of a target with everything that its computation reads. Only the panels that it uses are set.
template <typename T> struct PackedTerm {
  const Term *term;
  Grid<T> grid; // the map that it reads
  const T *bias;
  bool winograd; // then the dense panels are the transformed weights of point 0, and the others follow
  Panels<T> dense, dense_back;
  Panels<T> mixing[3], mixing_back[3]; // one per row tap
};

// A convolution: inner index, in the order (depth tap, row tap, column tap, channel in), to channels out.
template <typename T> Panels<T> pack_dense(T *to, const T *weight, const Shape<T> &s) {
  const int64_t inner = s.depth_taps * 9 * s.in_padded, columns = s.out_padded;
  std::fill(to, to + s.weight_size(), T(0));
  s.each_weight([&](int64_t o, int64_t i, int64_t z, int64_t y, int64_t x, int64_t from) SDI_INLINE_LAMBDA {
    to[Panels<T>::index(inner, columns, ((z * 3 + y) * 3 + x) * s.in_padded + i, o)] = weight[from];
  });
  return {to, inner, columns};
}

// Its adjoint: a convolution with the flipped taps, from channels out to channels in.
template <typename T> Panels<T> pack_dense_back(T *to, const T *weight, const Shape<T> &s) {
  const int64_t inner = s.depth_taps * 9 * s.out_padded, columns = s.in_padded;
  std::fill(to, to + s.weight_size(), T(0));
  s.each_weight([&](int64_t o, int64_t i, int64_t z, int64_t y, int64_t x, int64_t from) SDI_INLINE_LAMBDA {
    const int64_t flipped = ((s.depth_taps - 1 - z) * 3 + 2 - y) * 3 + 2 - x;
    to[Panels<T>::index(inner, columns, flipped * s.out_padded + o, i)] = weight[from];
  });
  return {to, inner, columns};
}

// Replace a packed convolution with Winograd's weights, in the same memory.
template <typename T> void use_winograd(Panels<T> &dense, T *place, const Shape<T> &s) {
  Buffer<T> taps(s.weight_size());
  std::copy(place, place + s.weight_size(), taps.data);
  transform_weights(place, Panels<T>{taps.data, dense.inner, dense.columns}, s.depth_taps);
}

// The taps' channel mixings, for each row tap: (depth tap, channel in) to (column tap, channel out).
template <typename T> void pack_mixing(Panels<T> *mixing, T *to, const T *weight, const Shape<T> &s) {
  const int64_t inner = s.depth_taps * s.in_padded, columns = 3 * s.out_padded;
  std::fill(to, to + s.weight_size(), T(0));
  s.each_weight([&](int64_t o, int64_t i, int64_t z, int64_t y, int64_t x, int64_t from) SDI_INLINE_LAMBDA {
    to[y * inner * columns + Panels<T>::index(inner, columns, z * s.in_padded + i, x * s.out_padded + o)] =
        weight[from];
  });
  for (int64_t y = 0; y < 3; y++)
    mixing[y] = {to + y * inner * columns, inner, columns};
}

template <typename T> void pack_mixing_back(Panels<T> *mixing, T *to, const T *weight, const Shape<T> &s) {
  const int64_t inner = 3 * s.out_padded, columns = s.depth_taps * s.in_padded;
  std::fill(to, to + s.weight_size(), T(0));
  s.each_weight([&](int64_t o, int64_t i, int64_t z, int64_t y, int64_t x, int64_t from) SDI_INLINE_LAMBDA {
    to[y * inner * columns + Panels<T>::index(inner, columns, x * s.out_padded + o, z * s.in_padded + i)] =
        weight[from];
  });
  for (int64_t y = 0; y < 3; y++)
    mixing[y] = {to + y * inner * columns, inner, columns};
}

// Reorder gradients from a unit's sums to the caller's tensor. The sums' order is (depth, row, column, channel in,
// channel out) for a convolution, and (row, depth, channel in, column, channel out) for mixings.
template <typename T> void unpack_gradient(T *to, const T *gradient, bool by_taps, const Shape<T> &s) {
  s.each_weight([&](int64_t o, int64_t i, int64_t z, int64_t y, int64_t x, int64_t at) SDI_INLINE_LAMBDA {
    const int64_t mixing = ((y * s.depth_taps + z) * s.in_padded + i) * 3 + x;
    const int64_t dense = ((z * 3 + y) * 3 + x) * s.in_padded + i;
    to[at] = gradient[(by_taps ? mixing : dense) * s.out_padded + o];
  });
}
