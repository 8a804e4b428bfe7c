// The gradients of maps, weights and biases. The terms are recomputed row by row; a term's gradient is the result's times the
// other terms. A coarser level's goes through its window to the low resolution at once; a dense one's is kept for one target,
// as its adjoint convolution reads the rows around it.

// What the units sum up, each in a place of its own; then added in the order of the units.
template <typename T> struct UnitSums {
  Buffer<T> data;
  Buffer<int64_t> begin;        // of each unit's in data, and the end
  Buffer<TapGradients<T>> taps; // for each unit and level
  Buffer<T *> weights, biases;  // likewise

  explicit UnitSums(const Prepared<T> &prepared) {
    const Stage &stage = prepared.stage;
    const Units units(stage);
    begin.resize(units.count + 1);
    taps.resize(units.count * stage.levels);
    weights.resize(units.count * stage.levels);
    biases.resize(units.count * stage.levels);
    place(prepared, units);
    data.resize(begin.data[units.count]);
    place(prepared, units);
  }

  // Done by the thread that takes the unit.
  void zero(int64_t unit) { std::fill(data.data + begin.data[unit], data.data + begin.data[unit + 1], T(0)); }

private:
  // Called first to measure, then to place.
  void place(const Prepared<T> &prepared, const Units &units) {
    const Stage &stage = prepared.stage;
    int64_t next = 0;
    const auto take = [&](int64_t size) {
      next += size;
      return data.data ? data.data + next - size : nullptr;
    };
    for (int64_t i = 0; i < units.count; i++) {
      const Units::At at = units.at(i);
      const Target &target = stage.targets[at.target];
      const Unit &unit = target.units[at.unit];
      begin.data[i] = next;
      for (int64_t l = 0; l < stage.levels; l++) {
        const PackedTerm<T> &term = prepared.terms.data[at.target * stage.levels + l];
        T *weight = weights.data[i * stage.levels + l] = take(prepared.shape.weight_size());
        biases.data[i * stage.levels + l] = take(prepared.shape.out_padded);
        if (!term.term->by_taps)
          continue;
        const Reach<T> planes(term.term->z, unit.z_begin, unit.z_end, target.d);
        const Reach<T> rows(term.term->y, unit.y_begin, unit.y_end, target.h);
        const int64_t size = (planes.end - planes.begin) * (rows.end - rows.begin) * term.grid.w * term.grid.channels;
        taps.data[i * stage.levels + l] = {
            take(size), planes.begin, planes.end - planes.begin, rows.begin, rows.end - rows.begin, weight};
      }
    }
    begin.data[units.count] = next;
  }
};

template <typename T> class Backward {
public:
  Backward(const Stage &stage, const Tensors &tensors, int64_t threads)
      : stage(stage), tensors(tensors), threads(threads), prepared(stage, tensors, threads, true), shape(prepared.shape),
        sums(prepared) {
    lay_out_term_gradients();
    const Units units(stage);
    parallel(units.count, threads, [&](int64_t i) {
      const Units::At at = units.at(i);
      sums.zero(i);
      unit(at.target, stage.targets[at.target].units[at.unit], i);
    });
    terms_to_maps(units);
    parallel(stage.target_count * stage.levels, threads, [&](int64_t term) { sum_weights(term, units); });
    maps_to_inputs();
  }

private:
  bool by_taps(int64_t term) const { return prepared.terms.data[term].term->by_taps; }

  // Grids for the gradients of all dense terms, in one piece of memory.
  void lay_out_term_gradients() {
    const int64_t count = stage.target_count * stage.levels;
    term_gradients.resize(count);
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++) {
      const Target &target = stage.targets[i / stage.levels];
      term_gradients.data[i] = {nullptr, target.d, target.h, target.w, shape.out_padded};
      total += by_taps(i) ? 0 : term_gradients.data[i].size(stage.batch);
    }
    term_gradient_data.resize(total + shape.out_padded); // Winograd's last tile of an odd row reads a pixel past its end
    T *next = term_gradient_data.data;
    for (int64_t i = 0; i < count; i++)
      if (!by_taps(i)) {
        term_gradients.data[i].data = next;
        next += term_gradients.data[i].size(stage.batch);
      }
  }

  void unit(int64_t t, const Unit &unit, int64_t unit_index) {
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
        read_row(result.data, tensors.outs[t], unit.image, z, y, w, shape.out, channels);
        if (stage.bound) {
          multiply_rows(product.data, values.data, levels, size);
          unbound_row(result.data, product.data, size, T(stage.bound));
        }
        split(gradients.data + channels, pitch, values.data, result.data, size);
        for (int64_t l = 0; l < levels; l++) {
          const T *gradient = gradients.data + channels + l * pitch;
          add_row_sums(sums.biases.data[unit_index * levels + l], gradient, w);
          if (terms.by_taps(l))
            terms.window(l).scatter(y, gradient);
          else
            dense_row(term_gradients.data[t * levels + l], terms.grid(l), gradient,
                      sums.weights.data[unit_index * levels + l], RowIndex(unit.image, z, y));
        }
      }
    }
    for (int64_t l = 0; l < levels; l++)
      if (terms.by_taps(l))
        terms.window(l).finish();
  }

  // The gradient of a term is the result's times the product of the others: those before it times those after it.
  void split(T *gradients, int64_t pitch, const T *const *values, const T *result, int64_t size) const {
    for (int64_t i = 0; i < size; i += Lanes<T>::count) {
      auto before = load(result + i);
      for (int64_t l = 0; l < stage.levels; l++) {
        store(gradients + l * pitch + i, before);
        before *= load(values[l] + i);
      }
      auto after = load(values[stage.levels - 1] + i);
      for (int64_t l = stage.levels - 2; l >= 0; l--) {
        T *p = gradients + l * pitch + i;
        store(p, load(p) * after);
        after *= load(values[l] + i);
      }
    }
  }

  void add_row_sums(T *sums, const T *row, int64_t w) const {
    for (int64_t c = 0; c < shape.out_padded; c += Lanes<T>::count) {
      typename Lanes<T>::Vector sum{};
      for (int64_t x = 0; x < w; x++)
        sum += load(row + x * shape.out_padded + c);
      store(sums + c, load(sums + c) + sum);
    }
  }

  // Keep a dense term's gradient, and add to that of its weights: for each depth and row tap, the map's row transposed times it.
  void dense_row(const Grid<T> &keep, const Grid<T> &map, const T *gradient, T *weight_sums, const RowIndex &at) const {
    T *row = keep.row(at.b, at.z, at.y);
    keep.zero_ends(row);
    std::copy(gradient, gradient + keep.w * keep.channels, row);
    for (int64_t tap_plane = 0; tap_plane < shape.depth_taps; tap_plane++) {
      const int64_t z = at.z + tap_plane - shape.depth_taps / 2;
      if (z < 0 || z >= map.d)
        continue;
      for (int64_t tap_row = 0; tap_row < 3; tap_row++) {
        const int64_t y = at.y + tap_row - 1;
        if (y < 0 || y >= map.h)
          continue;
        const int64_t rows = 3 * map.channels;
        add_transposed_product(weight_sums + (tap_plane * 3 + tap_row) * rows * keep.channels,
                               map.row(at.b, z, y) - map.channels, map.channels, gradient, map.w, rows, keep.channels);
      }
    }
  }

  // Each row of each map: zero, and what the terms of that map add to it. By pairs of rows, which Winograd makes at once.
  void terms_to_maps(const Units &units) {
    prepared.layout(map_gradients, map_gradient_data);
    Buffer<int64_t> begin(stage.map_count + 1); // of each map's pairs of rows among all
    begin.data[0] = 0;
    for (int64_t m = 0; m < stage.map_count; m++)
      begin.data[m + 1] = begin.data[m] + stage.batch * stage.maps[m].d * ((stage.maps[m].h + 1) / 2);
    parallel(begin.data[stage.map_count], threads, [&](int64_t i) {
      int64_t m = 0;
      while (i >= begin.data[m + 1])
        m++;
      const Grid<T> &to = map_gradients.data[m];
      const int64_t pair = i - begin.data[m], pairs = (to.h + 1) / 2;
      const RowIndex first(pair / pairs / to.d, pair / pairs % to.d, pair % pairs * 2);
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
          winograd.rows(rows, true, term_gradients.data[term], packed.dense_back, nullptr, shape.depth_taps, first,
                        prepared.zero_row(shape.out_padded));
          continue;
        }
        for (int64_t j = 0; j < 2 && rows[j]; j++) {
          const RowIndex at(first.b, first.z, first.y + j);
          if (by_taps(term))
            add_taps(rows[j], to.w * to.channels, term, at, units);
          else
            conv_row<T>(rows[j], true, term_gradients.data[term], packed.dense_back, nullptr, shape.depth_taps, at);
        }
      }
    });
  }

  void add_taps(T *row, int64_t size, int64_t term, const RowIndex &at, const Units &units) const {
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

  void sum_weights(int64_t term, const Units &units) const {
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
    unpack_gradient(static_cast<T *>(tensors.weight_grads[term]), weight.data, by_taps(term), shape);
    std::copy(bias.data, bias.data + shape.out, static_cast<T *>(tensors.bias_grads[term]));
  }

  // Each map that was made from another gives its gradient back, the last made first; those of the inputs are the result.
  void maps_to_inputs() {
    for (int64_t m = stage.map_count - 1; m >= 0; m--) {
      const Map &map = stage.maps[m];
      const Grid<T> &from = map_gradients.data[m];
      if (map.source >= 0) {
        const Grid<T> &to = map_gradients.data[map.source];
        parallel(stage.batch * to.d * to.h, threads, [&](int64_t i) {
          resample_row<true>(to, from, map.z_back, map.y_back, map.x_back, RowIndex(to, i));
        });
      } else {
        parallel(stage.batch * from.d * from.h, threads, [&](int64_t i) {
          const RowIndex at(from, i);
          write_row(from.row(at.b, at.z, at.y), tensors.x_grads[m], at.b, at.z, at.y, from.w, shape.in, from.channels);
        });
      }
    }
  }

  const Stage &stage;
  const Tensors &tensors;
  const int64_t threads;
  const Prepared<T> prepared;
  const Shape<T> &shape;
  UnitSums<T> sums;
  Buffer<Grid<T>> term_gradients, map_gradients;
  Buffer<T> term_gradient_data, map_gradient_data;
};
