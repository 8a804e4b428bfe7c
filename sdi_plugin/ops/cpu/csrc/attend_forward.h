// Forward: two passes over f, and one over g and the pixels' few numbers.

// A call's levels, and how their pixels and rows are divided into tasks: by shapes only. `pooled`: the pixels' mean and
// maximum, which backward computes again.
template <typename T> struct Attending {
  const Attention &attention;
  const int64_t threads;
  Buffer<Split<T>> splits;
  Buffer<RowSplit> rows;
  std::unique_ptr<Buffer<T>[]> pooled_data; // (B, 2, P)
  const Tasks units, row_tasks;

  Attending(const Attention &attention, int64_t threads)
      : attention(attention), threads(threads), splits(attention.levels), rows(attention.levels),
        pooled_data(new Buffer<T>[attention.levels]),
        units(attention.levels,
              [&](int64_t l) {
                splits.data[l] = Split<T>(attention.level[l], attention.batch);
                pooled_data[l].resize(attention.batch * 2 * splits.data[l].pixels);
                return splits.data[l].count;
              }),
        row_tasks(attention.levels, [&](int64_t l) {
          rows.data[l] = RowSplit(attention.level[l], attention.batch);
          return rows.data[l].count;
        }) {}

  const AttentionLevel &level(int64_t l) const { return attention.level[l]; }
  // Row k (0 mean, 1 maximum, 2 gate) of what is kept.
  T *channels(int64_t l, int64_t image, int64_t k) const {
    return static_cast<T *>(level(l).channels_kept) + (image * 3 + k) * level(l).channels;
  }
  T *gates(int64_t l, int64_t image) const {
    return static_cast<T *>(level(l).pixels_kept) + image * splits.data[l].pixels;
  }
  // Mean (k = 0) or maximum of the pixels.
  T *pooled(int64_t l, int64_t image, int64_t k) const {
    return pooled_data[l].data + (image * 2 + k) * splits.data[l].pixels;
  }
};

// sum += the sum of a row (n); most = its maximum, if larger.
template <typename T> SDI_INLINE void pool_row(const T *row, int64_t n, double &sum, T &most) {
  using Vector = typename Lanes<T>::Vector;
  constexpr int64_t lanes = Lanes<T>::count;
  Vector sums[2] = {}, mosts[2];
  mosts[0] = mosts[1] = Vector{} + most;
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes)
  SDI_UNROLL for (int64_t j = 0; j < 2; j++) {
      const Vector v = load(row + i + j * lanes);
      sums[j] += v;
      mosts[j] = v > mosts[j] ? v : mosts[j];
    }
  T lane[lanes], rest = 0;
  const Vector both = mosts[0] > mosts[1] ? mosts[0] : mosts[1];
  std::memcpy(lane, &both, sizeof(both));
  for (T value : lane)
    most = std::max(most, value);
  for (; i < n; i++) {
    rest += row[i];
    most = std::max(most, row[i]);
  }
  sum += sum_of<T>(sums[0] + sums[1]) + rest;
}

// sums, most (C): those of the channels over a unit's pixels.
template <typename T>
void pool_channels(const Attending<T> &all, int64_t l, int64_t unit, double *sums, T *most) {
  const AttentionLevel &level = all.level(l);
  const Split<T> &split = all.splits.data[l];
  const Map4<T> f(level.f, level);
  const int64_t image = split.image(unit), channels = level.channels, pitch = split.pitch();
  std::fill(sums, sums + channels, 0.0);
  std::fill(most, most + channels, -std::numeric_limits<T>::infinity());
  if (f.is_planar()) {
    for (int64_t c = 0; c < channels; c++)
      split.each_tile_of(unit, [&](int64_t begin, int64_t n) {
        pool_row(f.at(image, begin) + c * level.f.stride[1], n, sums[c], most[c]);
      });
    return;
  }
  Buffer<T> tile(channels * pitch);
  split.each_tile_of(unit, [&](int64_t begin, int64_t n) {
    f.read(tile.data, pitch, channels, image, begin, n);
    for (int64_t c = 0; c < channels; c++)
      pool_row(tile.data + c * pitch, n, sums[c], most[c]);
  });
}

// The MLP's hidden values (2, H) of one image before the ReLU, for mean and maximum; and their sum (H) after it.
template <typename T> void hidden_values(const AttentionLevel &level, const T *pooled, T *hidden, T *sum) {
  const T *fc1 = static_cast<const T *>(level.fc1);
  for (int64_t h = 0; h < level.hidden; h++) {
    sum[h] = 0;
    for (int64_t k = 0; k < 2; k++) {
      const T value = dot(fc1 + h * level.channels, pooled + k * level.channels, level.channels);
      hidden[k * level.hidden + h] = value;
      sum[h] += std::max(value, T(0));
    }
  }
}

// The channels' gate of one image, from the units' sums and maxima.
template <typename T>
void gate_channels(const Attending<T> &all, int64_t l, int64_t image, const double *sums, const T *most) {
  const AttentionLevel &level = all.level(l);
  const Split<T> &split = all.splits.data[l];
  const int64_t channels = level.channels;
  T *mean = all.channels(l, image, 0), *maximum = all.channels(l, image, 1), *gate = all.channels(l, image, 2);
  for (int64_t c = 0; c < channels; c++) {
    double sum = 0;
    maximum[c] = -std::numeric_limits<T>::infinity();
    for (int64_t u = image * split.per_image; u < (image + 1) * split.per_image; u++) {
      sum += sums[u * channels + c];
      maximum[c] = std::max(maximum[c], most[u * channels + c]);
    }
    mean[c] = static_cast<T>(sum / split.pixels);
  }
  Buffer<T> hidden(3 * level.hidden);
  T *const sum = hidden.data + 2 * level.hidden;
  hidden_values(level, mean, hidden.data, sum);
  for (int64_t c = 0; c < channels; c++)
    gate[c] = sigmoid(dot(static_cast<const T *>(level.fc2) + c * level.hidden, sum, level.hidden));
}

// sum, most (n) over N rows of gated channels; count (n): how many equal the maximum so far, unless it is null.
template <int N, bool Count, typename T>
SDI_INLINE void pool_rows(const T *rows, int64_t pitch, int64_t n, const T *gate, T *sum, T *most, T *count) {
  using Vector = typename Lanes<T>::Vector;
  const Vector one = Vector{} + T(1);
  Vector gates[N];
  SDI_UNROLL for (int j = 0; j < N; j++)
    gates[j] = Vector{} + gate[j];
  for (int64_t p = 0; p < n; p += Lanes<T>::count) {
    Vector value[N], maximum = load(most + p), equal = Count ? load(count + p) : one;
    SDI_UNROLL for (int j = 0; j < N; j++) {
      const Vector v = value[j] = gates[j] * load(rows + j * pitch + p);
      if (Count)
        equal = v > maximum ? one : v == maximum ? equal + one : equal;
      maximum = v > maximum ? v : maximum;
    }
    SDI_UNROLL for (int step = 1; step < N; step *= 2)
      SDI_UNROLL for (int j = 0; j + step < N; j += 2 * step)
        value[j] += value[j + step];
    store(sum + p, load(sum + p) + value[0]);
    store(most + p, maximum);
    if (Count)
      store(count + p, equal);
  }
}

// mean, most (n, whole vectors) over the gated channels of a tile; count, if Count: how many equal the maximum.
template <bool Count, typename T>
void pool_pixels(const Tile<T> &tile, int64_t channels, int64_t n, const T *gate, T *mean, T *most, T *count) {
  constexpr int rows = 4;
  std::fill(mean, mean + n, T(0));
  std::fill(most, most + n, -std::numeric_limits<T>::infinity());
  if (Count)
    std::fill(count, count + n, T(0));
  int64_t c = 0;
  for (; c + rows <= channels; c += rows)
    pool_rows<rows, Count>(tile.row(c), tile.pitch, n, gate + c, mean, most, count);
  for (; c < channels; c++)
    pool_rows<1, Count>(tile.row(c), tile.pitch, n, gate + c, mean, most, count);
  for (int64_t p = 0; p < n; p++)
    mean[p] /= T(channels);
}

// A unit's pixels: their mean and maximum over the gated channels, and g without their gate.
template <typename T> void reduce_unit(const Attending<T> &all, int64_t l, int64_t unit) {
  constexpr int64_t chunk = 64;
  const AttentionLevel &level = all.level(l);
  const Split<T> &split = all.splits.data[l];
  const Map4<T> f(level.f, level), g(level.g, level);
  const int64_t image = split.image(unit), channels = level.channels, pitch = split.pitch();
  const int64_t columns = padded<T>(level.out_channels);
  const T *gate = all.channels(l, image, 2);
  Buffer<T> weights(channels * columns), memory(channels * pitch), out(split.tile * columns), pooled(2 * pitch);
  pack_transposed(weights.data, columns, static_cast<const T *>(level.conv1), level.out_channels, channels, gate);
  split.each_tile_of(unit, [&](int64_t begin, int64_t n) {
    const Tile<T> tile = f.tile(memory.data, pitch, channels, image, begin, n, false);
    pool_pixels<false, T>(tile, channels, padded<T>(n), gate, pooled.data, pooled.data + pitch, nullptr);
    for (int64_t k = 0; k < 2; k++)
      std::copy(pooled.data + k * pitch, pooled.data + k * pitch + n, all.pooled(l, image, k) + begin);
    const bool in_place = g.is_last() && g.step == columns;
    T *to = in_place ? g.at(image, begin) : out.data;
    std::fill(to, to + n * columns, T(0));
    for (int64_t c = 0; c < channels; c += chunk)
      add_transposed_product(to, tile.row(c), tile.pitch, weights.data + c * columns,
                             std::min(chunk, channels - c), n, columns);
    if (in_place)
      return;
    const int64_t o_step = level.g.stride[1], outs = level.out_channels;
    g.each_stretch(image, begin, n, [&](int64_t i, int64_t count, T *to, int64_t step) {
      if (step == 1)
        return transpose(to, o_step, out.data + i * columns, columns, count, outs);
      for (int64_t k = 0; k < count; k++)
        for (int64_t o = 0; o < outs; o++)
          to[k * step + o * o_step] = out.data[(i + k) * columns + o];
    });
  });
}

// Some rows: the pixels' gate, and g times it.
template <typename T> void gate_rows(const Attending<T> &all, int64_t l, const Rows &at) {
  const AttentionLevel &level = all.level(l);
  const int64_t taps = all.attention.depth_taps * kTaps * kTaps;
  const Map4<T> g(level.g, level);
  Buffer<T> logit(at.count * (level.w + 2 * kHalo) + 4 * Lanes<T>::count);
  logit.zero();
  for (int64_t k = 0; k < 2; k++)
    add_smooth(logit, Halo<T>(all.pooled(l, at.image, k), level, all.attention.depth_taps, at),
               static_cast<const T *>(level.conv7) + k * taps);
  for (int64_t y = 0; y < at.count; y++) {
    const int64_t begin = (at.z * level.h + at.begin + y) * level.w;
    const T *from = logit.data + y * (level.w + 2 * kHalo);
    T *gate = all.gates(l, at.image) + begin;
    for (int64_t x = 0; x < level.w; x++)
      gate[x] = sigmoid(from[x]);
    const int64_t o_step = level.g.stride[1];
    g.each_stretch(at.image, begin, level.w, [&](int64_t i, int64_t count, T *to, int64_t step) {
      if (step == 1)
        for (int64_t o = 0; o < level.out_channels; o++)
          for (int64_t k = 0; k < count; k++)
            to[o * o_step + k] *= gate[i + k];
      else
        for (int64_t k = 0; k < count; k++)
          for (int64_t o = 0; o < level.out_channels; o++)
            to[k * step + o * o_step] *= gate[i + k];
    });
  }
}

// Where each level's sums of units begin, `per_unit(level)` numbers for each.
template <typename F> int64_t place(const Tasks &units, int64_t levels, Buffer<int64_t> &first, F per_unit) {
  int64_t total = 0;
  for (int64_t l = 0; l < levels; l++) {
    first.data[l] = total;
    total += (units.first.data[l + 1] - units.first.data[l]) * per_unit(l);
  }
  return total;
}

template <typename T> void attend_forward(const Attention &attention, int64_t threads) {
  const Attending<T> all(attention, threads);
  const int64_t levels = attention.levels;
  Buffer<int64_t> first(levels);
  const int64_t total = place(all.units, levels, first, [&](int64_t l) { return all.level(l).channels; });
  Buffer<double> sums(total);
  Buffer<T> most(total);
  all.units.run(threads, [&](int64_t l, int64_t unit) {
    const int64_t at = first.data[l] + unit * all.level(l).channels;
    pool_channels(all, l, unit, sums.data + at, most.data + at);
  });
  Tasks(levels, [&](int64_t) { return attention.batch; }).run(threads, [&](int64_t l, int64_t image) {
    gate_channels(all, l, image, sums.data + first.data[l], most.data + first.data[l]);
  });
  all.units.run(threads, [&](int64_t l, int64_t unit) { reduce_unit(all, l, unit); });
  all.row_tasks.run(threads, [&](int64_t l, int64_t task) { gate_rows(all, l, all.rows.data[l].at(task)); });
}
