// The terms of a target, row by row, and their product.

// out (w, C_out) = (or += if add) a convolution of grid's rows around `at`; = starts from bias unless that is null.
template <typename T>
void conv_row(T *out, bool add, const Grid<T> &grid, const Panels<T> &weights, const T *bias, int64_t depth_taps,
              const RowIndex &at) {
  Stretches<T> rows{0, 3 * grid.channels, {}, {}}; // the three column taps are adjacent
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

// The terms of one unit of a target, one row at a time.
template <typename T> class UnitTerms {
public:
  // gradients: those of each level's taps, or null in forward.
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

  // A level's term (W, C_out) in row y. Call it for the rows in order: Winograd computes two at once.
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
  Buffer<Window<T>> windows; // used only for terms by taps
  Buffer<T> rows;            // two per level
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
