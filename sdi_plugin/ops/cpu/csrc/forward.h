// The stage: the product of each target's terms, unit by unit.

// One unit of a target: each row is the product of the levels' terms, bounded if Stage::bound is set.
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
      write_row(product.data, prepared.tensors.outs[target_index], unit.image, z, y, target.w, prepared.shape.out,
                channels);
    }
  }
}

template <typename T> void forward(const Stage &stage, const Tensors &tensors, int64_t threads) {
  const Prepared<T> prepared(stage, tensors, threads, false);
  const Units units(stage);
  parallel(units.count, threads, [&](int64_t i) {
    const Units::At at = units.at(i);
    forward_unit(prepared, at.target, stage.targets[at.target].units[at.unit]);
  });
}
