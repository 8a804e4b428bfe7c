// The sums of the units, each in its own memory; they are added later, in the order of the units.
template <typename T> struct UnitSums {
  Buffer<T> data;
  Buffer<int64_t> begin;        // where each unit's sums begin in data, and the end
  Buffer<TapGradients<T>> taps; // per unit and level
  Buffer<T *> weights, biases;  // per unit and level

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

  // Called by the thread that processes the unit.
  void zero(int64_t unit) { std::fill(data.data + begin.data[unit], data.data + begin.data[unit + 1], T(0)); }

private:
  // Called twice: first to measure the sizes, then to set the pointers.
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
        T *weight = nullptr;
        if (prepared.needs_weights()) {
          weight = weights.data[i * stage.levels + l] = take(prepared.shape.weight_size());
          biases.data[i * stage.levels + l] = take(prepared.shape.out_padded);
        }
        if (!term.term->by_taps)
          continue;
        const Reach<T> planes(term.term->z, unit.z_begin, unit.z_end, target.d);
        const Reach<T> rows(term.term->y, unit.y_begin, unit.y_end, target.h);
        const int64_t size = (planes.end - planes.begin) * (rows.end - rows.begin) * term.grid.w * term.grid.channels;
        T *x = prepared.needs_maps() ? take(size) : nullptr;
        taps.data[i * stage.levels + l] = {x,          planes.begin,          planes.end - planes.begin,
                                           rows.begin, rows.end - rows.begin, weight};
      }
    }
    begin.data[units.count] = next;
  }
};
