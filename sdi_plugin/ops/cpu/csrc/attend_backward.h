// Backward: f is read twice, and its gradient is written once. docs/derivation.md has the equations.

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
    const T *gate = all.pixels(l, image, 2) + begin;
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

// Some rows: the gradients of the pixels' mean and maximum, and a part of that of conv7.
template <typename T> void smooth_rows(const Attending<T> &all, AttendSums<T> &sums, int64_t l, int64_t task) {
  const AttentionLevel &level = all.level(l);
  const Rows at = all.rows.data[l].at(task);
  const int64_t depth_taps = all.attention.depth_taps, taps = depth_taps * kTaps * kTaps,
                pixels = all.splits.data[l].pixels;
  const T *logit = sums.logit.data + at.image * pixels, *conv7 = static_cast<const T *>(level.conv7);
  const Halo<T> gradient(logit, level, depth_taps, at);
  Buffer<T> flipped(taps), out(gradient.size() + 4 * Lanes<T>::count), own(gradient.size() + Lanes<T>::count);
  own.zero();
  for (int64_t y = 0; y < at.count; y++) {
    const T *from = logit + (at.z * level.h + at.begin + y) * level.w;
    std::copy(from, from + level.w, own.data + y * gradient.pitch);
  }
  for (int64_t k = 0; k < 2; k++) {
    std::reverse_copy(conv7 + k * taps, conv7 + (k + 1) * taps, flipped.data);
    out.zero();
    add_smooth(out, gradient, flipped.data);
    T *to = (k ? sums.maximum_grad : sums.mean_grad).data + at.image * pixels;
    for (int64_t y = 0; y < at.count; y++)
      for (int64_t x = 0; x < level.w; x++)
        to[(at.z * level.h + at.begin + y) * level.w + x] = out.data[y * gradient.pitch + x] /
                                                            (k ? T(1) : T(level.channels));
    smooth_weights(sums.conv7.data + (task * 2 + k) * taps, Halo<T>(all.pixels(l, at.image, k), level, depth_taps, at),
                   own.data);
  }
}

// maximum_grad (n) divided by the number of channels that equal the maximum.
template <typename T>
void share_among_ties(const T *tile, int64_t pitch, int64_t channels, int64_t n, const T *gate, const T *maximum,
                      T *maximum_grad) {
  using Vector = typename Lanes<T>::Vector;
  constexpr int64_t lanes = Lanes<T>::count;
  for (int64_t p = 0; p < n; p += lanes) {
    Vector count{};
    const Vector most = load(maximum + p), one = Vector{} + T(1);
    for (int64_t c = 0; c < channels; c++)
      count += gate[c] * load(tile + c * pitch + p) == most ? one : Vector{};
    store(maximum_grad + p, load(maximum_grad + p) / (count > one ? count : one));
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

// A share of a level's units: the sums over pixels for conv1 and the channels' gate.
template <typename T> void sum_share(const Attending<T> &all, AttendSums<T> &sums, int64_t l, int64_t share) {
  using Vector = typename Lanes<T>::Vector;
  constexpr int64_t lanes = Lanes<T>::count, stretch = 128;
  const AttentionLevel &level = all.level(l);
  const Split<T> &split = all.splits.data[l];
  const Map4<T> f(level.f, level), g_grad(level.g_grad, level);
  const int64_t channels = level.channels, outs = level.out_channels, columns = padded<T>(outs), pitch = split.pitch();
  Buffer<T> tile(channels * pitch), gradient(outs * pitch), panels(split.tile * columns),
      product_sums(channels * columns);
  Buffer<T> weights(channels * columns);
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
      f.read(tile.data, pitch, channels, image, begin, n);
      const T *spatial = pixels.set(0, all.pixels(l, image, 2) + begin, n);
      pack_gradient(panels.data, gradient, g_grad, level, image, begin, n, spatial);
      Stretches<T> stretches{0, stretch, {}, {}};
      int64_t done = 0;
      for (; done + stretch <= whole; done += stretch) {
        stretches.begin[stretches.count] = tile.data + done;
        stretches.at[stretches.count++] = done;
      }
      const Panels<T> b{panels.data, whole, columns};
      if (stretches.count)
        product<T>(product_sums.data, columns, true, nullptr, stretches, pitch, channels, b);
      if (done < whole)
        product<T>(product_sums.data, columns, true, nullptr, {1, whole - done, {tile.data + done}, {done}}, pitch,
                   channels, b);

      const T *maximum = pixels.set(1, all.pixels(l, image, 1) + begin, n);
      const T *mean_grad = pixels.set(2, sums.mean_grad.data + at, n);
      T *maximum_grad = pixels.set(3, sums.maximum_grad.data + at, n), *valid = pixels.row(4);
      share_among_ties(tile.data, pitch, channels, n, gate, maximum, maximum_grad);
      std::copy(maximum_grad, maximum_grad + n, sums.maximum_grad.data + at);
      std::fill(valid, valid + n, T(1));
      std::fill(valid + n, valid + whole, T(0));
      for (int64_t c = 0; c < channels; c++) {
        Vector sum{}, count{};
        const T *row = tile.data + c * pitch;
        for (int64_t p = 0; p < whole; p += lanes) {
          const Vector v = load(row + p);
          const Vector tied = gate[c] * v == load(maximum + p) ? load(maximum_grad + p) : Vector{};
          sum += v * (load(mean_grad + p) + tied);
          count += v == Vector{} + most[c] ? load(valid + p) : Vector{};
        }
        gate_grad[c] += sum_of<T>(sum);
        ties[c] += sum_of<T>(count);
      }
    });
    for (int64_t c = 0; c < channels; c++) {
      gate_grad[c] += dot(weights.data + c * columns, product_sums.data + c * columns, columns);
      for (int64_t o = 0; o < columns; o++)
        conv1[c * columns + o] += gate[c] * product_sums.data[c * columns + o];
    }
  }
}

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
        const T gradient = values.data[k * hidden + h] > 0 ? hidden_grad[h] : T(0);
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

// A unit's pixels: the gradient of f.
template <typename T> void map_unit(const Attending<T> &all, const AttendSums<T> &sums, int64_t l, int64_t unit) {
  using Vector = typename Lanes<T>::Vector;
  constexpr int64_t lanes = Lanes<T>::count;
  const AttentionLevel &level = all.level(l);
  const Split<T> &split = all.splits.data[l];
  const Map4<T> f(level.f, level), g_grad(level.g_grad, level), f_grad(level.f_grad, level);
  const int64_t channels = level.channels, outs = level.out_channels, columns = padded<T>(outs), pitch = split.pitch();
  const int64_t image = split.image(unit);
  const T *gate = all.channels(l, image, 2), *most = all.channels(l, image, 1);
  const T *of_mean = sums.mean.data + image * channels, *of_maximum = sums.maximum.data + image * channels;
  Buffer<T> tile(channels * pitch), out(channels * pitch), gradient(outs * pitch), panels(split.tile * columns);
  Buffer<T> weights(channels * columns);
  PixelRows<T> pixels(pitch);
  pack_transposed(weights.data, columns, static_cast<const T *>(level.conv1), outs, channels, gate);
  split.each_tile_of(unit, [&](int64_t begin, int64_t n) {
    const int64_t whole = padded<T>(n), at = image * split.pixels + begin;
    f.read(tile.data, pitch, channels, image, begin, n);
    g_grad.read(gradient.data, pitch, outs, image, begin, n);
    const T *spatial = pixels.set(0, all.pixels(l, image, 2) + begin, n);
    const T *maximum = pixels.set(1, all.pixels(l, image, 1) + begin, n);
    const T *mean_grad = pixels.set(2, sums.mean_grad.data + at, n);
    const T *maximum_grad = pixels.set(3, sums.maximum_grad.data + at, n);
    for (int64_t column = 0; column < whole; column += 2 * lanes) {
      const int64_t width = std::min(2 * lanes, whole - column);
      T *to = panels.data + column * columns;
      for (int64_t o = 0; o < outs; o++)
        for (int64_t p = 0; p < width; p++)
          to[o * width + p] = gradient.data[o * pitch + column + p] * spatial[column + p];
      std::fill(to + outs * width, to + columns * width, T(0));
    }
    product<T>(out.data, pitch, false, nullptr, {1, columns, {weights.data}, {0}}, columns, channels,
               {panels.data, columns, whole});
    const bool in_place = f_grad.is_planar() && n == whole;
    for (int64_t c = 0; c < channels; c++) {
      const T *row = tile.data + c * pitch, *from = out.data + c * pitch;
      T *to = in_place ? f_grad.at(image, begin) + c * level.f_grad.stride[1] : out.data + c * pitch;
      const Vector own = Vector{} + of_mean[c], tie = Vector{} + of_maximum[c];
      for (int64_t p = 0; p < whole; p += lanes) {
        const Vector v = load(row + p);
        const Vector tied = gate[c] * v == load(maximum + p) ? load(maximum_grad + p) : Vector{};
        const Vector extreme = v == Vector{} + most[c] ? tie : Vector{};
        store(to + p, load(from + p) + gate[c] * (load(mean_grad + p) + tied) + (own + extreme));
      }
    }
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
  parallel(levels, threads, [&](int64_t l) { finish_level(all, sums[l], l); });
  Tasks(levels, [&](int64_t l) {
    return all.level(l).f_grad.data ? all.splits.data[l].count : 0;
  }).run(threads, [&](int64_t l, int64_t unit) { map_unit(all, sums[l], l, unit); });
}
