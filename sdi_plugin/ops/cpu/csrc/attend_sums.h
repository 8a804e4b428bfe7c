// The sums of backward: the first of its two passes over f. docs/derivation.md has the equations.

// What the passes of backward hand on, for each level. A share is some units, whose sums one thread adds in order.
template <typename T> struct AttendSums {
  int64_t shares;
  Buffer<T> logit, mean_grad, maximum_grad; // (B, P); that of the maximum divided by the number of equal ones
  Buffer<T> conv7;                          // (row tasks, 2, taps)
  Buffer<T> conv1;                          // (shares, C, padded C_out)
  Buffer<double> gate, ties; // (units, C): the gradient of the channels' gate; pixels equal to the maximum
  Buffer<T> mean, maximum; // (B, C): what each pixel, and each of the equal maxima, gets
};

// A unit's pixels: the gradient of the logit of their gate, (1 - s) <g_grad, g>.
template <typename T> void logit_unit(const Attending<T> &all, AttendSums<T> &sums, int64_t l, int64_t unit) {
  const AttentionLevel &level = all.level(l);
  const Split<T> &split = all.splits.data[l];
  const Map4<T> g(level.g, level), g_grad(level.g_grad, level);
  const int64_t image = split.image(unit), pitch = split.pitch(), outs = level.out_channels;
  Buffer<T> a(outs * pitch), b(outs * pitch), sum(pitch);
  split.each_tile_of(unit, [&](int64_t begin, int64_t n) {
    const T *gate = all.gates(l, image) + begin;
    T *to = sums.logit.data + image * split.pixels + begin;
    if (g.is_last() && g_grad.is_last()) {
      for (int64_t p = 0; p < n; p++)
        to[p] = (T(1) - gate[p]) * dot(g.at(image, begin + p), g_grad.at(image, begin + p), outs);
      return;
    }
    g.read(a.data, pitch, outs, image, begin, n);
    g_grad.read(b.data, pitch, outs, image, begin, n);
    sum.zero();
    for (int64_t o = 0; o < outs; o++)
      for (int64_t p = 0; p < n; p++)
        sum.data[p] += a.data[o * pitch + p] * b.data[o * pitch + p];
    for (int64_t p = 0; p < n; p++)
      to[p] = (T(1) - gate[p]) * sum.data[p];
  });
}

// Some rows: the gradients of the pixels' mean and maximum.
template <typename T> void smooth_rows(const Attending<T> &all, AttendSums<T> &sums, int64_t l, int64_t task) {
  const AttentionLevel &level = all.level(l);
  const Rows at = all.rows.data[l].at(task);
  const int64_t depth_taps = all.attention.depth_taps, taps = depth_taps * kTaps * kTaps,
                pixels = all.splits.data[l].pixels;
  const T *conv7 = static_cast<const T *>(level.conv7);
  const Halo<T> gradient(sums.logit.data + at.image * pixels, level, depth_taps, at);
  Buffer<T> flipped(taps), out(gradient.size() + 4 * Lanes<T>::count);
  for (int64_t k = 0; k < 2; k++) {
    std::reverse_copy(conv7 + k * taps, conv7 + (k + 1) * taps, flipped.data);
    out.zero();
    add_smooth(out, gradient, flipped.data);
    T *to = (k ? sums.maximum_grad : sums.mean_grad).data + at.image * pixels;
    for (int64_t y = 0; y < at.count; y++)
      for (int64_t x = 0; x < level.w; x++)
        to[(at.z * level.h + at.begin + y) * level.w + x] = out.data[y * gradient.pitch + x] /
                                                            (k ? T(1) : T(level.channels));
  }
}

// Some rows: a part of the gradient of conv7, when the pixels' mean and maximum are known again.
template <typename T> void smooth_weights_of(const Attending<T> &all, AttendSums<T> &sums, int64_t l, int64_t task) {
  const AttentionLevel &level = all.level(l);
  const Rows at = all.rows.data[l].at(task);
  const int64_t depth_taps = all.attention.depth_taps, taps = depth_taps * kTaps * kTaps;
  const T *logit = sums.logit.data + at.image * all.splits.data[l].pixels;
  for (int64_t k = 0; k < 2; k++) {
    const Halo<T> map(all.pooled(l, at.image, k), level, depth_taps, at);
    Buffer<T> own(map.size() + Lanes<T>::count);
    own.zero();
    for (int64_t y = 0; y < at.count; y++) {
      const T *from = logit + (at.z * level.h + at.begin + y) * level.w;
      std::copy(from, from + level.w, own.data + y * map.pitch);
    }
    smooth_weights(sums.conv7.data + (task * 2 + k) * taps, map, own.data);
  }
}

// The rows that a tile's pixels need: one vector each, padded with zeros to whole vectors.
template <typename T> struct PixelRows {
  Buffer<T> data;
  int64_t pitch;
  explicit PixelRows(int64_t pitch) : data(5 * pitch), pitch(pitch) { data.zero(); }
  T *row(int64_t k) { return data.data + k * pitch; }
  T *set(int64_t k, const T *from, int64_t n) {
    std::copy(from, from + n, row(k));
    std::fill(row(k) + n, row(k) + padded<T>(n), T(0));
    return row(k);
  }
};

// Panels (padded n, padded C_out) of g's gradient at n pixels, each times its gate. gradient: room for a tile of it.
template <typename T>
void pack_gradient(T *panels, Buffer<T> &gradient, const Map4<T> &g_grad, const AttentionLevel &level, int64_t image,
                   int64_t begin, int64_t n, const T *gate) {
  constexpr int64_t panel = 2 * Lanes<T>::count;
  const int64_t outs = level.out_channels, columns = padded<T>(outs), whole = padded<T>(n);
  if (outs < columns || n < whole)
    std::fill(panels, panels + columns * whole, T(0));
  if (!g_grad.is_last())
    g_grad.read(gradient.data, whole, outs, image, begin, n);
  for (int64_t column = 0; column < columns; column += panel) {
    const int64_t width = std::min(panel, columns - column), used = std::min(width, outs - column);
    T *to = panels + column * whole;
    if (!g_grad.is_last())
      transpose(to, width, gradient.data + column * whole, whole, used, n);
    for (int64_t p = 0; p < n; p++) {
      const T *from = g_grad.is_last() ? g_grad.at(image, begin + p) + column : to + p * width;
      for (int64_t o = 0; o < used; o++)
        to[p * width + o] = from[o] * gate[p];
    }
  }
}

// Over N rows of channels: sums (N) of f times what it gets by the pixels' mean and maximum; counts (N) of the pixels
// that equal the channel's maximum.
template <int N, typename T>
SDI_INLINE void sum_rows(const T *rows, int64_t pitch, PixelRows<T> &pixels, int64_t n, const T *gate, const T *most,
                         double *sums, double *counts) {
  using Vector = typename Lanes<T>::Vector;
  const T *maximum = pixels.row(1), *mean_grad = pixels.row(2), *maximum_grad = pixels.row(3), *valid = pixels.row(4);
  Vector sum[N] = {}, count[N] = {};
  for (int64_t p = 0; p < n; p += Lanes<T>::count) {
    const Vector pixel_most = load(maximum + p), mean = load(mean_grad + p), tie = load(maximum_grad + p),
                 one = load(valid + p);
  SDI_UNROLL for (int j = 0; j < N; j++) {
      const Vector v = load(rows + j * pitch + p);
      sum[j] += v * (mean + (gate[j] * v == pixel_most ? tie : Vector{}));
      count[j] += v == Vector{} + most[j] ? one : Vector{};
    }
  }
  SDI_UNROLL for (int j = 0; j < N; j++) {
    sums[j] += sum_of<T>(sum[j]);
    counts[j] += sum_of<T>(count[j]);
  }
}

// A share of a level's units: the sums over pixels for conv1 and the channels' gate.
template <typename T> void sum_share(const Attending<T> &all, AttendSums<T> &sums, int64_t l, int64_t share) {
  constexpr int64_t stretch = 128;
  const AttentionLevel &level = all.level(l);
  const Split<T> &split = all.splits.data[l];
  const Map4<T> f(level.f, level), g_grad(level.g_grad, level);
  const int64_t channels = level.channels, outs = level.out_channels, columns = padded<T>(outs), pitch = split.pitch();
  Buffer<T> memory(channels * pitch), gradient(outs * pitch), panels(split.tile * columns),
      product_sums(channels * columns), weights(channels * columns);
  PixelRows<T> pixels(pitch);
  T *conv1 = sums.conv1.data + share * channels * columns;
  std::fill(conv1, conv1 + channels * columns, T(0));
  pack_transposed<T>(weights.data, columns, static_cast<const T *>(level.conv1), outs, channels, nullptr);
  for (int64_t unit = split.count * share / sums.shares; unit < split.count * (share + 1) / sums.shares; unit++) {
    const int64_t image = split.image(unit);
    const T *gate = all.channels(l, image, 2), *most = all.channels(l, image, 1);
    double *gate_grad = sums.gate.data + unit * channels, *ties = sums.ties.data + unit * channels;
    std::fill(gate_grad, gate_grad + channels, 0.0);
    std::fill(ties, ties + channels, 0.0);
    product_sums.zero();
    split.each_tile_of(unit, [&](int64_t begin, int64_t n) {
      const int64_t whole = padded<T>(n), at = image * split.pixels + begin;
      const Tile<T> tile = f.tile(memory.data, pitch, channels, image, begin, n, false);
      T *const mean = pixels.row(0), *const maximum = pixels.row(1), *const ties_of = pixels.row(4);
      pool_pixels<true>(tile, channels, whole, gate, mean, maximum, ties_of);
      std::copy(mean, mean + n, all.pooled(l, image, 0) + begin);
      std::copy(maximum, maximum + n, all.pooled(l, image, 1) + begin);
      pixels.set(2, sums.mean_grad.data + at, n);
      T *maximum_grad = pixels.set(3, sums.maximum_grad.data + at, n), *valid = ties_of;
      for (int64_t p = 0; p < n; p++)
        maximum_grad[p] /= std::max(ties_of[p], T(1));
      std::copy(maximum_grad, maximum_grad + n, sums.maximum_grad.data + at);
      std::fill(valid, valid + n, T(1));
      std::fill(valid + n, valid + whole, T(0));
      int64_t c = 0;
      for (; c + 4 <= channels; c += 4)
        sum_rows<4>(tile.row(c), tile.pitch, pixels, whole, gate + c, most + c, gate_grad + c, ties + c);
      for (; c < channels; c++)
        sum_rows<1>(tile.row(c), tile.pitch, pixels, whole, gate + c, most + c, gate_grad + c, ties + c);

      const T *spatial = pixels.set(0, all.gates(l, image) + begin, n);
      pack_gradient(panels.data, gradient, g_grad, level, image, begin, n, spatial);
      Stretches<T> stretches{0, stretch, {}, {}};
      int64_t done = 0;
      for (; done + stretch <= whole; done += stretch) {
        stretches.begin[stretches.count] = tile.data + done;
        stretches.at[stretches.count++] = done;
      }
      const Panels<T> b{panels.data, whole, columns};
      if (stretches.count)
        product<T>(product_sums.data, columns, true, nullptr, stretches, tile.pitch, channels, b);
      if (done < whole)
        product<T>(product_sums.data, columns, true, nullptr, {1, whole - done, {tile.data + done}, {done}}, tile.pitch,
                   channels, b);
    });
    for (int64_t c = 0; c < channels; c++) {
      gate_grad[c] += dot(weights.data + c * columns, product_sums.data + c * columns, columns);
      for (int64_t o = 0; o < columns; o++)
        conv1[c * columns + o] += gate[c] * product_sums.data[c * columns + o];
    }
  }
}
