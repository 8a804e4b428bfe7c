// What forward and backward both prepare: a stage's maps, packed weights and biases, and one numbering of its units.

// Grids for all maps of a stage.
template <typename T> Grids<T> map_grids(const Stage &stage) {
  const int64_t channels = padded<T>(stage.in_channels);
  return Grids<T>(stage.map_count, stage.batch, channels, [&](int64_t m) {
    return Grid<T>{nullptr, stage.maps[m].d, stage.maps[m].h, stage.maps[m].w, channels};
  });
}

template <typename T> struct Prepared {
  const Stage &stage;
  const Tensors &tensors;
  const int64_t threads;
  const Shape<T> shape;
  const Grids<T> maps;
  Buffer<T> weight_data, bias_data, zeros; // zeros: a row of the widest map
  Buffer<PackedTerm<T>> terms; // one per target and level

  // adjoints: whether the weights are also packed for the gradients of the maps.
  Prepared(const Stage &stage, const Tensors &tensors, int64_t threads, bool adjoints)
      : stage(stage), tensors(tensors), threads(threads), shape(stage), maps(map_grids<T>(stage)) {
    for (int64_t m = 0; m < stage.map_count; m++)
      fill_map(m);
    pack_weights(adjoints);
    int64_t widest = 0;
    for (int64_t m = 0; m < stage.map_count; m++)
      widest = std::max(widest, maps[m].w);
    zeros.resize((widest + 3) * std::max(shape.in_padded, shape.out_padded));
    zeros.zero();
  }

  bool needs_maps() const { return tensors.x_grads; }
  bool needs_weights() const { return tensors.weight_grads; }
  bool by_taps(int64_t term) const { return terms.data[term].term->by_taps; }
  // Pixel 0 of a row of zeros, for any map.
  const T *zero_row(int64_t channels) const { return zeros.data + channels; }

private:
  void fill_map(int64_t m) {
    const Map &map = stage.maps[m];
    const Grid<T> &grid = maps[m];
    parallel(stage.batch * grid.d * grid.h, threads, [&](int64_t i) {
      const RowIndex at(grid, i);
      T *row = grid.row(at.b, at.z, at.y);
      grid.zero_ends(row);
      if (map.source < 0)
        read_row(row, tensors.xs[m], at.b, at.z, at.y, grid.w, shape.in, grid.channels);
      else
        resample_row<false>(grid, maps[map.source], map.z, map.y, map.x, at);
    });
  }

  void pack_weights(bool adjoints) {
    const int64_t count = stage.target_count * stage.levels, size = shape.packed_size(), copies = adjoints ? 2 : 1;
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
      packed.grid = maps[term.map];
      packed.bias = bias_to;
      packed.winograd = false;
      if (term.by_taps) {
        pack_mixing(packed.mixing, to, weight, shape);
        if (adjoints)
          pack_mixing_back(packed.mixing_back, to + size, weight, shape);
      } else {
        packed.dense = pack_dense(to, weight, shape);
        if (adjoints)
          packed.dense_back = pack_dense_back(to + size, weight, shape);
        packed.winograd = is_winograd(packed.grid.d, packed.grid.h, packed.grid.w);
        if (packed.winograd) {
          use_winograd(packed.dense, to, shape);
          if (adjoints)
            use_winograd(packed.dense_back, to + size, shape);
        }
      }
    });
  }
};

// The units of all targets in one numbering, from the fine targets to the coarse: the long units first.
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
