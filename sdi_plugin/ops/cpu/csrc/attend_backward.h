// Backward: after the sums (attend_sums.h), the weights' gradients and the second pass over f, which writes its own.

// The MLP of one level backwards, image by image, and the sums of the weights' gradients.
template <typename T> void finish_level(const Attending<T> &all, AttendSums<T> &sums, int64_t l) {
  const AttentionLevel &level = all.level(l);
  const Split<T> &split = all.splits.data[l];
  const int64_t channels = level.channels, hidden = level.hidden, outs = level.out_channels;
  const int64_t columns = padded<T>(outs), taps = 2 * all.attention.depth_taps * kTaps * kTaps;
  const T *fc1 = static_cast<const T *>(level.fc1), *fc2 = static_cast<const T *>(level.fc2);
  T *fc1_grad = static_cast<T *>(level.fc1_grad), *fc2_grad = static_cast<T *>(level.fc2_grad);
  T *conv7_grad = static_cast<T *>(level.conv7_grad), *conv1_grad = static_cast<T *>(level.conv1_grad);
  std::fill(fc1_grad, fc1_grad + hidden * channels, T(0));
  std::fill(fc2_grad, fc2_grad + hidden * channels, T(0));
  Buffer<T> values(4 * hidden), logit(channels);
  T *const summed = values.data + 2 * hidden, *const hidden_grad = values.data + 3 * hidden;
  for (int64_t image = 0; image < all.attention.batch; image++) {
    const T *pooled = all.channels(l, image, 0), *gate = all.channels(l, image, 2);
    hidden_values(level, pooled, values.data, summed);
    std::fill(hidden_grad, hidden_grad + hidden, T(0));
    for (int64_t c = 0; c < channels; c++) {
      double sum = 0;
      for (int64_t u = image * split.per_image; u < (image + 1) * split.per_image; u++)
        sum += sums.gate.data[u * channels + c];
      const T gradient = static_cast<T>(sum) * gate[c] * (T(1) - gate[c]);
      for (int64_t h = 0; h < hidden; h++) {
        fc2_grad[c * hidden + h] += gradient * summed[h];
        hidden_grad[h] += gradient * fc2[c * hidden + h];
      }
    }
    for (int64_t k = 0; k < 2; k++) {
      T *to = (k ? sums.maximum : sums.mean).data + image * channels;
      std::fill(to, to + channels, T(0));
      for (int64_t h = 0; h < hidden; h++) {
        const T gradient = values.data[k * hidden + h] <= 0 ? T(0) : hidden_grad[h];
        for (int64_t c = 0; c < channels; c++) {
          fc1_grad[h * channels + c] += gradient * pooled[k * channels + c];
          to[c] += gradient * fc1[h * channels + c];
        }
      }
      for (int64_t c = 0; c < channels; c++) {
        double ties = 0;
        for (int64_t u = image * split.per_image; u < (image + 1) * split.per_image; u++)
          ties += sums.ties.data[u * channels + c];
        to[c] /= static_cast<T>(k ? std::max(ties, 1.0) : static_cast<double>(split.pixels));
      }
    }
  }
  Buffer<T> total(std::max(channels * columns, taps));
  total.zero();
  for (int64_t share = 0; share < sums.shares; share++)
    for (int64_t i = 0; i < channels * columns; i++)
      total.data[i] += sums.conv1.data[share * channels * columns + i];
  for (int64_t c = 0; c < channels; c++)
    for (int64_t o = 0; o < outs; o++)
      conv1_grad[o * channels + c] = total.data[c * columns + o];
  total.zero();
  for (int64_t task = 0; task < all.rows.data[l].count; task++)
    for (int64_t i = 0; i < taps; i++)
      total.data[i] += sums.conv7.data[task * taps + i];
  std::copy(total.data, total.data + taps, conv7_grad);
}

// N rows of f's gradient: that by the product, `reduced`, and those by the four poolings.
template <int N, typename T>
SDI_INLINE void add_poolings(T *to, int64_t to_pitch, const T *reduced, int64_t pitch, const Tile<T> &f, int64_t c,
                             PixelRows<T> &pixels, int64_t n, const T *gate, const T *most, const T *of_mean,
                             const T *of_maximum) {
  using Vector = typename Lanes<T>::Vector;
  const T *maximum = pixels.row(1), *mean_grad = pixels.row(2), *maximum_grad = pixels.row(3);
  for (int64_t p = 0; p < n; p += Lanes<T>::count) {
    const Vector pixel_most = load(maximum + p), mean = load(mean_grad + p), tie = load(maximum_grad + p);
  SDI_UNROLL for (int j = 0; j < N; j++) {
      const Vector v = load(f.row(c + j) + p);
      const Vector tied = gate[c + j] * v == pixel_most ? tie : Vector{};
      const Vector extreme = v == Vector{} + most[c + j] ? Vector{} + of_maximum[c + j] : Vector{};
      store(to + j * to_pitch + p, load(reduced + j * pitch + p) + gate[c + j] * (mean + tied) +
                                       (of_mean[c + j] + extreme));
    }
  }
}

// A unit's pixels: the gradient of f.
template <typename T> void map_unit(const Attending<T> &all, const AttendSums<T> &sums, int64_t l, int64_t unit) {
  constexpr int64_t panel = 2 * Lanes<T>::count;
  const AttentionLevel &level = all.level(l);
  const Split<T> &split = all.splits.data[l];
  const Map4<T> f(level.f, level), g_grad(level.g_grad, level), f_grad(level.f_grad, level);
  const int64_t channels = level.channels, outs = level.out_channels, columns = padded<T>(outs), pitch = split.pitch();
  const int64_t image = split.image(unit);
  const T *gate = all.channels(l, image, 2), *most = all.channels(l, image, 1);
  const T *of_mean = sums.mean.data + image * channels, *of_maximum = sums.maximum.data + image * channels;
  Buffer<T> memory(channels * pitch), out(channels * pitch), gradient(outs * pitch), panels(split.tile * columns),
      weights(channels * columns);
  PixelRows<T> pixels(pitch);
  pack_transposed(weights.data, columns, static_cast<const T *>(level.conv1), outs, channels, gate);
  split.each_tile_of(unit, [&](int64_t begin, int64_t n) {
    const int64_t whole = padded<T>(n), at = image * split.pixels + begin;
    const Tile<T> tile = f.tile(memory.data, pitch, channels, image, begin, n, true);
    g_grad.read(gradient.data, pitch, outs, image, begin, n);
    const T *spatial = pixels.set(0, all.gates(l, image) + begin, n);
    pixels.set(1, all.pooled(l, image, 1) + begin, n);
    pixels.set(2, sums.mean_grad.data + at, n);
    pixels.set(3, sums.maximum_grad.data + at, n);
    for (int64_t column = 0; column < whole; column += panel) {
      const int64_t width = std::min(panel, whole - column);
      T *to = panels.data + column * columns;
      for (int64_t o = 0; o < outs; o++)
        for (int64_t p = 0; p < width; p++)
          to[o * width + p] = gradient.data[o * pitch + column + p] * spatial[column + p];
      std::fill(to + outs * width, to + columns * width, T(0));
    }
    product<T>(out.data, pitch, false, nullptr, {1, columns, {weights.data}, {0}}, columns, channels,
               {panels.data, columns, whole});
    const bool in_place = f_grad.is_planar() && n == whole;
    T *const to = in_place ? f_grad.at(image, begin) : out.data;
    const int64_t to_pitch = in_place ? level.f_grad.stride[1] : pitch;
    int64_t c = 0;
    for (; c + 4 <= channels; c += 4)
      add_poolings<4>(to + c * to_pitch, to_pitch, out.data + c * pitch, pitch, tile, c, pixels, whole, gate, most,
                      of_mean, of_maximum);
    for (; c < channels; c++)
      add_poolings<1>(to + c * to_pitch, to_pitch, out.data + c * pitch, pitch, tile, c, pixels, whole, gate, most,
                      of_mean, of_maximum);
    if (!in_place)
      f_grad.write(out.data, pitch, channels, image, begin, n);
  });
}

template <typename T> void attend_backward(const Attention &attention, int64_t threads) {
  const Attending<T> all(attention, threads);
  const int64_t levels = attention.levels, taps = 2 * attention.depth_taps * kTaps * kTaps;
  std::unique_ptr<AttendSums<T>[]> sums(new AttendSums<T>[levels]);
  for (int64_t l = 0; l < levels; l++) {
    const AttentionLevel &level = all.level(l);
    const Split<T> &split = all.splits.data[l];
    const int64_t values = attention.batch * split.pixels, channels = level.channels;
    sums[l].shares = std::min(kUnits, split.count);
    for (Buffer<T> *buffer : {&sums[l].logit, &sums[l].mean_grad, &sums[l].maximum_grad})
      buffer->resize(values);
    sums[l].conv7.resize(all.rows.data[l].count * taps);
    sums[l].conv1.resize(sums[l].shares * channels * padded<T>(level.out_channels));
    for (Buffer<double> *buffer : {&sums[l].gate, &sums[l].ties})
      buffer->resize(split.count * channels);
    for (Buffer<T> *buffer : {&sums[l].mean, &sums[l].maximum})
      buffer->resize(attention.batch * channels);
  }
  all.units.run(threads, [&](int64_t l, int64_t unit) { logit_unit(all, sums[l], l, unit); });
  all.row_tasks.run(threads, [&](int64_t l, int64_t task) { smooth_rows(all, sums[l], l, task); });
  Tasks(levels, [&](int64_t l) { return sums[l].shares; }).run(threads, [&](int64_t l, int64_t share) {
    sum_share(all, sums[l], l, share);
  });
  all.row_tasks.run(threads, [&](int64_t l, int64_t task) { smooth_weights_of(all, sums[l], l, task); });
  parallel(levels, threads, [&](int64_t l) { finish_level(all, sums[l], l); });
  Tasks(levels, [&](int64_t l) {
    return all.level(l).f_grad.data ? all.splits.data[l].count : 0;
  }).run(threads, [&](int64_t l, int64_t unit) { map_unit(all, sums[l], l, unit); });
}
