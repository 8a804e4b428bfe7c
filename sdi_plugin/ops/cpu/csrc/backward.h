// The gradients of maps, weights and biases. The terms are recomputed row by row; the gradient of a term is that of the
// result times the other terms. For a coarser level it goes to the low resolution immediately, through the level's
// window. For a dense term it is kept for the whole target, because its adjoint convolution reads the rows around it.

// The gradient of a term is that of the result times the product of the terms before it and of those after it.
template <typename T>
void split_gradient(T *gradients, int64_t pitch, const T *const *values, int64_t levels, const T *result,
                    int64_t size) {
  for (int64_t i = 0; i < size; i += Lanes<T>::count) {
    auto before = load(result + i);
    for (int64_t l = 0; l < levels; l++) {
      store(gradients + l * pitch + i, before);
      before *= load(values[l] + i);
    }
    auto after = load(values[levels - 1] + i);
    for (int64_t l = levels - 2; l >= 0; l--) {
      T *p = gradients + l * pitch + i;
      store(p, load(p) * after);
      after *= load(values[l] + i);
    }
  }
}

// sums (channels) += the sums over a row (w, channels).
template <typename T> void add_row_sums(T *sums, const T *row, int64_t w, int64_t channels) {
  for (int64_t c = 0; c < channels; c += Lanes<T>::count) {
    typename Lanes<T>::Vector sum{};
    for (int64_t x = 0; x < w; x++)
      sum += load(row + x * channels + c);
    store(sums + c, load(sums + c) + sum);
  }
}

// Keep a dense term's gradient.
template <typename T> void keep_dense_row(const Grid<T> &keep, const T *gradient, const RowIndex &at) {
  T *row = keep.row(at.b, at.z, at.y);
  keep.zero_ends(row);
  std::copy(gradient, gradient + keep.w * keep.channels, row);
}

// Add to the gradient of a dense term's weights: for each depth and row tap, the map's row, transposed, times the
// term's gradient (w, channels).
template <typename T>
void add_dense_weights(T *weight_sums, const Grid<T> &map, const T *gradient, int64_t channels, int64_t depth_taps,
                       const RowIndex &at) {
  for (int64_t tap_plane = 0; tap_plane < depth_taps; tap_plane++) {
    const int64_t z = at.z + tap_plane - depth_taps / 2;
    if (z < 0 || z >= map.d)
      continue;
    for (int64_t tap_row = 0; tap_row < 3; tap_row++) {
      const int64_t y = at.y + tap_row - 1;
      if (y < 0 || y >= map.h)
        continue;
      const int64_t rows = 3 * map.channels;
      add_transposed_product(weight_sums + (tap_plane * 3 + tap_row) * rows * channels,
                             map.row(at.b, z, y) - map.channels, map.channels, gradient, map.w, rows, channels);
    }
  }
}

// One unit of target t: the gradients of its terms, row by row, added to those of the maps, weights and biases.
template <typename T>
void backward_unit(const Prepared<T> &prepared, UnitSums<T> &sums, const Grids<T> &kept, int64_t t, const Unit &unit,
                   int64_t unit_index) {
  const Stage &stage = prepared.stage;
  const Shape<T> &shape = prepared.shape;
  const int64_t w = stage.targets[t].w, channels = shape.out_padded, size = w * channels, levels = stage.levels;
  UnitTerms<T> terms(prepared, t, unit, sums.taps.data + unit_index * levels);
  const int64_t pitch = size + 2 * channels; // a pixel of zeros at both ends
  Buffer<T> gradients(levels * pitch), result(size), product(stage.bound ? size : 0);
  gradients.zero();
  Buffer<const T *> values(levels);
  for (int64_t z = unit.z_begin; z < unit.z_end; z++) {
    terms.start(z);
    for (int64_t y = unit.y_begin; y < unit.y_end; y++) {
      for (int64_t l = 0; l < levels; l++)
        values.data[l] = terms.row(l, z, y);
      read_row(result.data, prepared.tensors.outs[t], unit.image, z, y, w, shape.out, channels);
      if (stage.bound) {
        multiply_rows(product.data, values.data, levels, size);
        unbound_row(result.data, product.data, size, T(stage.bound));
      }
      split_gradient(gradients.data + channels, pitch, values.data, levels, result.data, size);
      for (int64_t l = 0; l < levels; l++) {
        const T *gradient = gradients.data + channels + l * pitch;
        const RowIndex at(unit.image, z, y);
        if (prepared.needs_weights())
          add_row_sums(sums.biases.data[unit_index * levels + l], gradient, w, channels);
        if (terms.by_taps(l)) {
          terms.window(l).scatter(y, gradient);
          continue;
        }
        if (prepared.needs_maps())
          keep_dense_row(kept[t * levels + l], gradient, at);
        if (prepared.needs_weights())
          add_dense_weights(sums.weights.data[unit_index * levels + l], terms.grid(l), gradient, channels,
                            shape.depth_taps, at);
      }
    }
  }
  for (int64_t l = 0; l < levels; l++)
    if (terms.by_taps(l))
      terms.window(l).finish();
}

// row, of a map, += the gradients that the units of a term by taps have for it, in the order of the units.
template <typename T>
void add_taps(T *row, int64_t size, const Stage &stage, const UnitSums<T> &sums, int64_t term, const RowIndex &at,
              const Units &units) {
  const int64_t t = term / stage.levels, level = term % stage.levels;
  for (int64_t u = 0; u < stage.targets[t].unit_count; u++) {
    const TapGradients<T> &from = sums.taps.data[(units.first(t) + u) * stage.levels + level];
    const int64_t plane = at.z - from.plane_begin, y = at.y - from.row_begin;
    if (stage.targets[t].units[u].image != at.b || plane < 0 || plane >= from.planes || y < 0 || y >= from.rows)
      continue;
    const T *part = from.x + (plane * from.rows + y) * size;
    for (int64_t k = 0; k < size; k += Lanes<T>::count)
      store(row + k, load(row + k) + load(part + k));
  }
}

// Up to two rows of map m, because Winograd computes two at once: zero, plus the gradients of the map's terms.
template <typename T>
void map_rows(const Prepared<T> &prepared, const UnitSums<T> &sums, const Grids<T> &kept, const Grid<T> &to, int64_t m,
              const RowIndex &first, const Units &units) {
  const Stage &stage = prepared.stage;
  const int64_t depth_taps = stage.depth_taps;
  T *rows[2] = {nullptr, nullptr};
  for (int64_t j = 0; j < 2 && first.y + j < to.h; j++) {
    rows[j] = to.row(first.b, first.z, first.y + j);
    std::fill(rows[j] - to.channels, rows[j] + (to.w + 1) * to.channels, T(0));
  }
  Winograd<T> winograd;
  for (int64_t term = 0; term < stage.target_count * stage.levels; term++) {
    const PackedTerm<T> &packed = prepared.terms.data[term];
    if (packed.term->map != m)
      continue;
    if (packed.winograd) {
      winograd.rows(rows, true, kept[term], packed.dense_back, nullptr, depth_taps, first,
                    prepared.zero_row(prepared.shape.out_padded));
      continue;
    }
    for (int64_t j = 0; j < 2 && rows[j]; j++) {
      const RowIndex at(first.b, first.z, first.y + j);
      if (prepared.by_taps(term))
        add_taps(rows[j], to.w * to.channels, stage, sums, term, at, units);
      else
        conv_row<T>(rows[j], true, kept[term], packed.dense_back, nullptr, depth_taps, at);
    }
  }
}

// The gradients of a term's weight and bias: the sums over the units, in order.
template <typename T>
void sum_weights(const Prepared<T> &prepared, const UnitSums<T> &sums, int64_t term, const Units &units) {
  const Stage &stage = prepared.stage;
  const Shape<T> &shape = prepared.shape;
  const int64_t t = term / stage.levels, level = term % stage.levels;
  Buffer<T> weight(shape.weight_size()), bias(shape.out_padded);
  weight.zero();
  bias.zero();
  for (int64_t u = 0; u < stage.targets[t].unit_count; u++) {
    const int64_t i = (units.first(t) + u) * stage.levels + level;
    for (int64_t k = 0; k < weight.size; k += Lanes<T>::count)
      store(weight.data + k, load(weight.data + k) + load(sums.weights.data[i] + k));
    for (int64_t k = 0; k < bias.size; k += Lanes<T>::count)
      store(bias.data + k, load(bias.data + k) + load(sums.biases.data[i] + k));
  }
  unpack_gradient(static_cast<T *>(prepared.tensors.weight_grads[term]), weight.data, prepared.by_taps(term), shape);
  std::copy(bias.data, bias.data + shape.out, static_cast<T *>(prepared.tensors.bias_grads[term]));
}

template <typename T> void backward(const Stage &stage, const Tensors &tensors, int64_t threads) {
  const Prepared<T> prepared(stage, tensors, threads, tensors.x_grads != nullptr);
  const Units units(stage);
  UnitSums<T> sums(prepared);
  const int64_t terms = stage.target_count * stage.levels;
  const Grids<T> kept(terms, stage.batch, prepared.shape.out_padded, [&](int64_t term) { // the dense terms' gradients
    const Target &target = stage.targets[term / stage.levels];
    const bool keeps = prepared.needs_maps() && !prepared.by_taps(term);
    return Grid<T>{nullptr, keeps ? target.d : 0, target.h, target.w, prepared.shape.out_padded};
  });

  // Results to terms. A term by taps goes on to the low resolution immediately; the others are kept.
  parallel(units.count, threads, [&](int64_t i) {
    const Units::At at = units.at(i);
    sums.zero(i);
    backward_unit(prepared, sums, kept, at.target, stage.targets[at.target].units[at.unit], i);
  });

  // Units to weights and biases.
  if (prepared.needs_weights())
    parallel(terms, threads, [&](int64_t term) { sum_weights(prepared, sums, term, units); });
  if (!prepared.needs_maps())
    return;

  // Terms to maps, all pairs of rows of all maps in one loop.
  const Grids<T> grids = map_grids<T>(stage);
  Buffer<int64_t> begin(stage.map_count + 1); // index of each map's first pair of rows among all pairs
  begin.data[0] = 0;
  for (int64_t m = 0; m < stage.map_count; m++)
    begin.data[m + 1] = begin.data[m] + stage.batch * stage.maps[m].d * ((stage.maps[m].h + 1) / 2);
  parallel(begin.data[stage.map_count], threads, [&](int64_t i) {
    int64_t m = 0;
    while (i >= begin.data[m + 1])
      m++;
    const Grid<T> &to = grids[m];
    const int64_t pair = i - begin.data[m], pairs = (to.h + 1) / 2;
    map_rows(prepared, sums, kept, to, m, RowIndex(pair / pairs / to.d, pair / pairs % to.d, pair % pairs * 2), units);
  });

  // Maps to inputs: each map made from another passes its gradient to that one, in reverse order.
  for (int64_t m = stage.map_count - 1; m >= 0; m--) {
    const Map &map = stage.maps[m];
    const Grid<T> &from = grids[m];
    if (map.source >= 0) {
      const Grid<T> &to = grids[map.source];
      parallel(stage.batch * to.d * to.h, threads,
               [&](int64_t i) { resample_row<true>(to, from, map.z_back, map.y_back, map.x_back, RowIndex(to, i)); });
    } else {
      parallel(stage.batch * from.d * from.h, threads, [&](int64_t i) {
        const RowIndex at(from, i);
        write_row(from.row(at.b, at.z, at.y), tensors.x_grads[m], at.b, at.z, at.y, from.w, prepared.shape.in,
                  from.channels);
      });
    }
  }
}
