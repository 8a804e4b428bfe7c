// The stage's maps, its terms row by row, and their product.

// out (w, C_out) = or += a convolution of grid's rows around `at`; = begins with bias, unless that is null.
template <typename T>
void conv_row(T *out, bool add, const Grid<T> &grid, const Panels<T> &weights, const T *bias, int64_t depth_taps,
              const RowIndex &at) {
  Stretches<T> rows{0, 3 * grid.channels, {}, {}}; // the three column taps lie side by side
  for (int64_t tap_plane = 0; tap_plane < depth_taps; tap_plane++)
    for (int64_t tap_row = 0; tap_row < 3; tap_row++) {
      const int64_t z = at.z + tap_plane - depth_taps / 2, y = at.y + tap_row - 1;
      if (z < 0 || z >= grid.d || y < 0 || y >= grid.h)
        continue; // zero padding
      rows.begin[rows.count] = grid.row(at.b, z, y) - grid.channels;
      rows.at[rows.count++] = (tap_plane * 3 + tap_row) * rows.length;
    }
  product(out, weights.columns, add, bias, rows, grid.channels, grid.w, weights);
}

// What a stage's forward and backward share: the maps, the packed weights and the biases.
template <typename T> struct Prepared {
  const Stage &stage;
  const Tensors &tensors;
  const int64_t threads;
  const Shape<T> shape;
  Buffer<Grid<T>> maps;
  Buffer<T> map_data, weight_data, bias_data, zeros; // zeros: a row of the widest map
  Buffer<PackedTerm<T>> terms; // for each target and level

  Prepared(const Stage &stage, const Tensors &tensors, int64_t threads, bool backward)
      : stage(stage), tensors(tensors), threads(threads), shape(stage) {
    layout(maps, map_data);
    for (int64_t m = 0; m < stage.map_count; m++)
      fill_map(m);
    pack_weights(backward);
    int64_t widest = 0;
    for (int64_t m = 0; m < stage.map_count; m++)
      widest = std::max(widest, maps.data[m].w);
    zeros.resize((widest + 3) * std::max(shape.in_padded, shape.out_padded));
    zeros.zero();
  }
  // Where a row's pixel 0 would lie, of any map.
  const T *zero_row(int64_t channels) const { return zeros.data + channels; }

  // Grids for all maps of the stage, in one piece of memory.
  void layout(Buffer<Grid<T>> &grids, Buffer<T> &data) const {
    int64_t total = 0;
    grids.resize(stage.map_count);
    for (int64_t m = 0; m < stage.map_count; m++) {
      const Map &map = stage.maps[m];
      grids.data[m] = {nullptr, map.d, map.h, map.w, shape.in_padded};
      total += grids.data[m].size(stage.batch);
    }
    data.resize(total + shape.in_padded); // Winograd's last tile of an odd row reads a pixel past its end
    T *next = data.data;
    for (int64_t m = 0; m < stage.map_count; m++) {
      grids.data[m].data = next;
      next += grids.data[m].size(stage.batch);
    }
  }

private:
  void fill_map(int64_t m) {
    const Map &map = stage.maps[m];
    const Grid<T> &grid = maps.data[m];
    parallel(stage.batch * grid.d * grid.h, threads, [&](int64_t i) {
      const RowIndex at(grid, i);
      T *row = grid.row(at.b, at.z, at.y);
      grid.zero_ends(row);
      if (map.source < 0)
        read_row(row, tensors.xs[m], at.b, at.z, at.y, grid.w, shape.in, grid.channels);
      else
        resample_row<false>(grid, maps.data[map.source], map.z, map.y, map.x, at);
    });
  }

  void pack_weights(bool backward) {
    const int64_t count = stage.target_count * stage.levels, size = shape.packed_size(), copies = backward ? 2 : 1;
    weight_data.resize(count * size * copies);
    bias_data.resize(count * shape.out_padded);
    bias_data.zero();
    terms.resize(count);
    parallel(count, threads, [&](int64_t i) {
      const Term &term = stage.targets[i / stage.levels].terms[i % stage.levels];
      const T *weight = static_cast<const T *>(tensors.weights[i]), *bias = static_cast<const T *>(tensors.biases[i]);
      T *to = weight_data.data + i * size * copies, *bias_to = bias_data.data + i * shape.out_padded;
      std::copy(bias, bias + shape.out, bias_to);
      PackedTerm<T> &packed = terms.data[i];
      packed.term = &term;
      packed.grid = maps.data[term.map];
      packed.bias = bias_to;
      packed.winograd = false;
      if (term.by_taps) {
        pack_mixing(packed.mixing, to, weight, shape);
        if (backward)
          pack_mixing_back(packed.mixing_back, to + size, weight, shape);
      } else {
        packed.dense = pack_dense(to, weight, shape);
        if (backward)
          packed.dense_back = pack_dense_back(to + size, weight, shape);
        packed.winograd = is_winograd(packed.grid.d, packed.grid.h, packed.grid.w);
        if (packed.winograd) {
          use_winograd(packed.dense, to, shape);
          if (backward)
            use_winograd(packed.dense_back, to + size, shape);
        }
      }
    });
  }
};

// The terms of one unit of a target, a row at a time.
template <typename T> class UnitTerms {
public:
  // gradients: for each level those of its taps, or null in forward.
  UnitTerms(const Prepared<T> &prepared, int64_t target, const Unit &unit, TapGradients<T> *gradients)
      : prepared(prepared), unit(unit), terms(prepared.terms.data + target * prepared.stage.levels),
        size(prepared.stage.targets[target].w * prepared.shape.out_padded), windows(prepared.stage.levels),
        rows(prepared.stage.levels * 2 * size) {
    for (int64_t l = 0; l < prepared.stage.levels; l++)
      if (by_taps(l))
        new (windows.data + l) Window<T>(terms[l], prepared.stage, prepared.stage.targets[target], unit,
                                         gradients ? gradients + l : nullptr);
  }
  ~UnitTerms() {
    for (int64_t l = 0; l < prepared.stage.levels; l++)
      if (by_taps(l))
        windows.data[l].~Window<T>();
  }

  bool by_taps(int64_t level) const { return terms[level].term->by_taps; }
  const Grid<T> &grid(int64_t level) const { return terms[level].grid; }
  Window<T> &window(int64_t level) { return windows.data[level]; }

  // Begin a plane of the target.
  void start(int64_t z) {
    for (int64_t l = 0; l < prepared.stage.levels; l++)
      if (by_taps(l))
        windows.data[l].start(z);
  }

  // A level's term (W, C_out) in row y. Rows come in order: Winograd makes two at once.
  const T *row(int64_t level, int64_t z, int64_t y) {
    const PackedTerm<T> &term = terms[level];
    T *pair[2] = {rows.data + level * 2 * size, rows.data + (level * 2 + 1) * size};
    const int64_t depth_taps = prepared.stage.depth_taps;
    if (by_taps(level))
      windows.data[level].row(pair[0], y);
    else if (!term.winograd)
      conv_row(pair[0], false, term.grid, term.dense, term.bias, depth_taps, RowIndex(unit.image, z, y));
    else {
      if (y % 2 == 0 || y == unit.y_begin)
        winograd.rows(pair, false, term.grid, term.dense, term.bias, depth_taps, RowIndex(unit.image, z, y - y % 2),
                      prepared.zero_row(term.grid.channels));
      return pair[y % 2];
    }
    return pair[0];
  }

private:
  const Prepared<T> &prepared;
  const Unit &unit;
  const PackedTerm<T> *terms;
  const int64_t size;
  Buffer<Window<T>> windows; // of the terms by taps
  Buffer<T> rows;            // two for each level
  Winograd<T> winograd;
};

// product (size) = the product of the levels' rows.
template <typename T> void multiply_rows(T *product, const T *const *factors, int64_t levels, int64_t size) {
  for (int64_t i = 0; i < size; i += Lanes<T>::count) {
    auto value = load(factors[0] + i);
    for (int64_t l = 1; l < levels; l++)
      value *= load(factors[l] + i);
    store(product + i, value);
  }
}

// One unit of a target: each row is the product of the levels' terms, bounded if the stage says so.
template <typename T> void forward_unit(const Prepared<T> &prepared, int64_t target_index, const Unit &unit) {
  const Target &target = prepared.stage.targets[target_index];
  const int64_t channels = prepared.shape.out_padded, size = target.w * channels, levels = prepared.stage.levels;
  UnitTerms<T> terms(prepared, target_index, unit, nullptr);
  Buffer<T> product(size);
  Buffer<const T *> factors(levels);
  for (int64_t z = unit.z_begin; z < unit.z_end; z++) {
    terms.start(z);
    for (int64_t y = unit.y_begin; y < unit.y_end; y++) {
      for (int64_t l = 0; l < levels; l++)
        factors.data[l] = terms.row(l, z, y);
      multiply_rows(product.data, factors.data, levels, size);
      if (prepared.stage.bound)
        bound_row(product.data, size, T(prepared.stage.bound));
      write_row(product.data, prepared.tensors.outs[target_index], unit.image, z, y, target.w, prepared.shape.out, channels);
    }
  }
}

// The units of all targets in one row, from the fine targets to the coarse: the long units first.
struct Units {
  struct At {
    int64_t target, unit;
  };

  const Stage &stage;
  int64_t count = 0;

  explicit Units(const Stage &stage) : stage(stage), count(first(stage.target_count)) {}

  int64_t first(int64_t target) const {
    int64_t before = 0;
    for (int64_t t = 0; t < target; t++)
      before += stage.targets[t].unit_count;
    return before;
  }
  At at(int64_t i) const {
    int64_t t = 0;
    for (; i >= stage.targets[t].unit_count; t++)
      i -= stage.targets[t].unit_count;
    return {t, i};
  }
};

template <typename T> void forward(const Stage &stage, const Tensors &tensors, int64_t threads) {
  const Prepared<T> prepared(stage, tensors, threads, false);
  const Units units(stage);
  parallel(units.count, threads, [&](int64_t i) {
    const Units::At at = units.at(i);
    forward_unit(prepared, at.target, stage.targets[at.target].units[at.unit]);
  });
}
