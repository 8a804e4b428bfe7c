// A coarser level's term, computed at the low resolution: G_t = W_t x, then
//
//     term[p] = bias + sum_t 1[p + t inside] (U G_t)[p + t]
//
// one axis after the other. Along the depth, x itself is interpolated, before the matrix product (it has C channels,
// its taps 27 C). Each row of G is computed once, when it is needed, and only a few are held at a time (Window). A
// target's row y then gathers
//
//     S (w, 3, C): the rows of G that the three row taps at y read, interpolated and added, for each column tap
//
// and `row` interpolates the columns of S. Backward runs the adjoint of each step in the opposite order.

// The weights, at most two, of one row of an interpolation. Outside the axis there are none, and `low` is that of the
// edge, so that code which reads with weight 0 reads only what the edge reads too (0 * Inf is NaN).
template <typename T> struct Pair {
  int64_t low = 0, count = 0;
  T weight[2] = {0, 0};

  Pair(const Axis &axis, int64_t i, int64_t size) {
    low = axis.first[std::clamp<int64_t>(i, 0, size - 1)];
    if (i < 0 || i >= size)
      return; // the convolution's zero padding
    count = axis.count[i];
    for (int64_t k = 0; k < count; k++)
      weight[k] = static_cast<const T *>(axis.weights)[i * axis.width + k];
  }
};

// The range of low-resolution rows that the taps at rows [i_begin, i_end) read.
template <typename T> struct Reach {
  int64_t begin, end;

  Reach(const Axis &axis, int64_t i_begin, int64_t i_end, int64_t size) {
    const int64_t low = std::max<int64_t>(0, i_begin - 1), high = std::min(size, i_end + 1) - 1;
    begin = axis.first[low];
    end = axis.first[high] + axis.count[high];
  }
};

// The gradients to which backward adds while a window moves over a unit of a target.
template <typename T> struct TapGradients {
  T *x; // (planes, rows, w, channels in) of the level, from plane_begin and row_begin on; null if not needed
  int64_t plane_begin, planes, row_begin, rows;
  T *mixing; // per row tap: (depth tap, channel in, column tap, channel out); null if not needed
};

// The rows of G that a target row needs: a ring of groups of whole rows, so that a product has enough rows to be fast.
template <typename T> class Window {
public:
  Window(const PackedTerm<T> &tap, const Stage &stage, const Target &target, const Unit &unit,
         TapGradients<T> *gradients)
      : tap(tap), stage(stage), target(target), unit(unit), gradients(gradients), w(tap.grid.w),
        in(stage.depth_taps * tap.grid.channels), out(tap.mixing[0].columns) {
    group_rows = std::min(tap.grid.h, std::max<int64_t>(1, 24 / w));
    groups = (kMostRows + group_rows - 2) / group_rows + 1;
    inputs.resize(groups * group_rows * w * in);
    products.resize(groups * 3 * group_rows * w * out);
    if (gradients) {
      product_gradients.resize(products.size);
      input_gradients.resize(group_rows * w * in);
    }
    sums.resize((w + 1) * out);
    columns.resize(target.w * 3);
    for (int64_t i = 0; i < target.w * 3; i++) {
      const Pair<T> pair(tap.term->x, i / 3 + i % 3 - 1, target.w);
      columns.data[i] = {pair.low * out + i % 3 * (out / 3), {pair.weight[0], pair.weight[1]}};
    }
    held.resize(groups);
    std::fill(held.data, held.data + groups, int64_t(-1));
  }

  // Begin a plane of the target.
  void start(int64_t plane) {
    finish();
    z = plane;
  }

  // The term's row y of the target: out (W, C_out).
  SDI_NOINLINE void row(T *to, int64_t y) {
    gather(y);
    const int64_t channels = out / 3;
    for (int64_t x = 0; x < target.w; x++) {
      const Column &a = columns.data[x * 3], &b = columns.data[x * 3 + 1], &c = columns.data[x * 3 + 2];
      for (int64_t i = 0; i < channels; i += Lanes<T>::count) {
        const T *from = sums.data + i;
        auto left = load(tap.bias + i) + a.weight[0] * load(from + a.low) + a.weight[1] * load(from + a.low + out);
        auto middle = b.weight[0] * load(from + b.low) + b.weight[1] * load(from + b.low + out);
        auto right = c.weight[0] * load(from + c.low) + c.weight[1] * load(from + c.low + out);
        store(to + x * channels + i, left + middle + right);
      }
    }
  }

  // Backward: the gradient (W, C) of the term in row y, the row of the last call of `row`. It has a pixel of zeros at
  // both ends.
  SDI_NOINLINE void scatter(int64_t y, const T *gradient) {
    const int64_t channels = out / 3;
    const Axis &back = tap.term->x_back;
    for (int64_t x = 0; x < w; x++) {
      const T *weights = static_cast<const T *>(back.weights) + x * back.width;
      for (int64_t i = 0; i < channels; i += Lanes<T>::count) {
        typename Lanes<T>::Vector left{}, middle{}, right{};
        const T *from = gradient + back.first[x] * channels + i;
        for (int64_t k = 0; k < back.count[x]; k++, from += channels) {
          left += weights[k] * load(from + channels); // a tap at column p reads p - 1, so that p + 1 reads p
          middle += weights[k] * load(from);
          right += weights[k] * load(from - channels);
        }
        T *to = sums.data + x * out + i;
        store(to, left);
        store(to + channels, middle);
        store(to + 2 * channels, right);
      }
    }
    for (int64_t tap_row = 0; tap_row < 3; tap_row++) {
      const Pair<T> pair(tap.term->y, y + tap_row - 1, target.h);
      for (int64_t k = 0; k < pair.count; k++) {
        T *to = product_gradients.data + offset(pair.low + k, tap_row);
        for (int64_t i = 0; i < w * out; i += Lanes<T>::count)
          store(to + i, load(to + i) + pair.weight[k] * load(sums.data + i));
      }
    }
  }

  // Add all held gradients to those of the low resolution, and release the rows.
  void finish() {
    for (int64_t slot = 0; slot < groups; slot++)
      release(slot);
  }

private:
  // What a column tap at a column of the target reads from S: the pixel `low` and the one after it.
  struct Column {
    int64_t low;
    T weight[2];
  };

  // Compute the missing rows of G that row y reads, and S for it.
  SDI_NOINLINE void gather(int64_t y) {
    need(y);
    const T *source[6];
    T weight[6];
    int64_t n = 0;
    for (int64_t tap_row = 0; tap_row < 3; tap_row++) {
      const Pair<T> pair(tap.term->y, y + tap_row - 1, target.h);
      for (int64_t k = 0; k < pair.count; k++, n++) {
        source[n] = products.data + offset(pair.low + k, tap_row);
        weight[n] = pair.weight[k];
      }
    }
    for (; n < 6; n++) { // a fixed number of terms, to stay in registers
      source[n] = source[0];
      weight[n] = 0;
    }
    const T *a = source[0], *b = source[1], *c = source[2], *d = source[3], *e = source[4], *f = source[5];
    const T wa = weight[0], wb = weight[1], wc = weight[2], wd = weight[3], we = weight[4], wf = weight[5];
    T *to = sums.data;
    for (int64_t i = 0; i < w * out; i += Lanes<T>::count)
      store(to + i, (wa * load(a + i) + wb * load(b + i)) + (wc * load(c + i) + wd * load(d + i)) +
                        (we * load(e + i) + wf * load(f + i)));
    std::fill(sums.data + w * out, sums.data + (w + 1) * out, T(0));
  }

  // Rows y - 1 to y + 1 of the target are two apart, so they read at most two rows of the source and the second one of
  // the interpolation; and one more if the rounding of torch's weights is unfavourable.
  static constexpr int64_t kMostRows = 5;

  int64_t offset(int64_t row, int64_t tap_row) const {
    const int64_t group = row / group_rows;
    return (((group % groups * 3 + tap_row) * group_rows) + row - group * group_rows) * w * out;
  }

  void need(int64_t y) {
    const Reach<T> reach(tap.term->y, y, y + 1, target.h);
    for (int64_t group = reach.begin / group_rows; group * group_rows < reach.end; group++)
      if (held.data[group % groups] != group) {
        release(group % groups);
        compute(group);
      }
  }

  int64_t rows_of(int64_t group) const { return std::min(group_rows, tap.grid.h - group * group_rows); }
  T *input(int64_t slot) { return inputs.data + slot * group_rows * w * in; }

  SDI_NOINLINE void compute(int64_t group) {
    const int64_t slot = group % groups, rows = rows_of(group), channels = tap.grid.channels;
    for (int64_t row = 0; row < rows; row++)
      for (int64_t tap_plane = 0; tap_plane < stage.depth_taps; tap_plane++) {
        const Pair<T> pair = planes(tap_plane);
        const T *from[2] = {nullptr, nullptr};
        for (int64_t k = 0; k < pair.count; k++)
          from[k] = tap.grid.row(unit.image, pair.low + k, group * group_rows + row);
        for (int64_t x = 0; x < w; x++)
          for (int64_t c = 0; c < channels; c += Lanes<T>::count) {
            typename Lanes<T>::Vector sum{};
            for (int64_t k = 0; k < pair.count; k++)
              sum += pair.weight[k] * load(from[k] + x * channels + c);
            store(input(slot) + (row * w + x) * in + tap_plane * channels + c, sum);
          }
      }
    for (int64_t tap_row = 0; tap_row < 3; tap_row++)
      product<T>(products.data + offset(group * group_rows, tap_row), out, false, nullptr, {1, in, {input(slot)}, {0}},
                 in, rows * w, tap.mixing[tap_row]);
    if (gradients) {
      T *zero = product_gradients.data + offset(group * group_rows, 0);
      std::fill(zero, zero + 3 * group_rows * w * out, T(0));
    }
    held.data[slot] = group;
  }

  // The planes of x that a depth tap at z reads.
  Pair<T> planes(int64_t tap_plane) const {
    return Pair<T>(tap.term->z, z + tap_plane - stage.depth_taps / 2, target.d);
  }

  SDI_NOINLINE void release(int64_t slot) {
    const int64_t group = held.data[slot];
    held.data[slot] = -1;
    if (!gradients || group < 0)
      return;
    const int64_t rows = rows_of(group), channels = tap.grid.channels;
    for (int64_t tap_row = 0; tap_row < 3; tap_row++) {
      const T *gradient = product_gradients.data + offset(group * group_rows, tap_row);
      if (gradients->mixing)
        add_transposed_product(gradients->mixing + tap_row * in * out, input(slot), in, gradient, rows * w, in, out);
      if (gradients->x)
        product<T>(input_gradients.data, in, tap_row > 0, nullptr, {1, out, {gradient}, {0}}, out, rows * w,
                   tap.mixing_back[tap_row]);
    }
    if (!gradients->x)
      return;
    for (int64_t tap_plane = 0; tap_plane < stage.depth_taps; tap_plane++) {
      const Pair<T> pair = planes(tap_plane);
      for (int64_t k = 0; k < pair.count; k++) {
        const int64_t plane = (pair.low + k - gradients->plane_begin) * gradients->rows;
        T *to = gradients->x + (plane + group * group_rows - gradients->row_begin) * w * channels;
        const T *from = input_gradients.data + tap_plane * channels;
        // The first and the last group may hold rows that this unit does not read: they have no gradient, and no space.
        const int64_t first = std::max<int64_t>(0, gradients->row_begin - group * group_rows);
        const int64_t last = std::min(rows, gradients->row_begin + gradients->rows - group * group_rows);
        for (int64_t p = first * w; p < last * w; p++)
          for (int64_t c = 0; c < channels; c += Lanes<T>::count)
            store(to + p * channels + c, load(to + p * channels + c) + pair.weight[k] * load(from + p * in + c));
      }
    }
  }

  const PackedTerm<T> &tap;
  const Stage &stage;
  const Target &target;
  const Unit &unit;
  TapGradients<T> *gradients;
  int64_t w, in, out, z = 0; // in: depth taps x channels; out: column taps x channels
  int64_t group_rows, groups;
  Buffer<Column> columns; // the three taps of each column of the target
  Buffer<int64_t> held; // the group in each slot of the ring, or -1
  Buffer<T> inputs, products, product_gradients, input_gradients, sums;
};
