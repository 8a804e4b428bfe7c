// The part of resize_smooth_multiply that no vendor library has:
//
//     out = anchor * prod_l ( bias_l + sum_t shift_t( U_l G_{l,t} ) )
//
// where l runs over the coarser levels, t over the taps of a 3x3 (3x3x3) convolution, U_l is the separable linear
// interpolation to the target's size, and G_{l,t} = W_{l,t} x_l are the taps' channel mixings at the low resolution,
// which the caller has from BLAS. Interpolation does not mix channels, so it commutes with W: see docs/derivation.md.
//
// Everything is float32 and channels last. Names: (D, H, W) the target's size, (d, h, w) a level's, C channels; a 2-D map
// has D = d = 1 and one depth tap instead of three. A "plane" is the sum of a level's depth taps at one z of the target:
// (h, w, 3, 3, C), the last three being the row tap, the column tap and the channel. In 2-D it is G itself.
//
// Work goes by blocks of channels, which never meet: backward gives each block of each image to one thread, so that sums
// are added in one order, whatever the number of threads.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

// Everything is inlined into the two tasks at the end, which are compiled once for each instruction set.
#define SDI_INLINE __attribute__((always_inline))

namespace {

constexpr int64_t kBlock = 16;    // channels at a time: one vector of AVX-512, two of AVX2

// Row i of an axis' interpolation matrix has two weights: first[i] at low[i], second[i] at low[i] + 1 (0 at the end).
struct Axis {
  const int32_t *low;
  const float *first;
  const float *second;
};

struct Level {
  float *taps;         // G, or its gradient: (B, planes, h, w, depth taps, 3, 3, C)
  const float *source; // backward: G, while `taps` is its gradient
  const float *bias;   // (C)
  float *bias_sum;     // backward: (B, C), added to
  int64_t start;       // the plane of the level that comes first in `taps`
  int64_t planes, h, w;
  Axis z, y, x;
};

struct Target {
  int64_t B, D, H, W, C;
  int64_t depth_taps; // 1 or 3
  int64_t z_begin, z_end;
};


// The rows of a source axis that a target row and its tap (-1, 0, 1) read, with their weights.
template <typename F> SDI_INLINE inline void each_source(const Axis &axis, int64_t i, int64_t size, F use) {
  if (i < 0 || i >= size)
    return; // the convolution's zero padding
  use(axis.low[i], axis.first[i]);
  if (axis.second[i] != 0.f)
    use(axis.low[i] + 1, axis.second[i]);
}

// A block of channels in registers. `Full` blocks have kBlock channels; the last one of a map may have fewer, and is zero
// beyond them. Buffers of our own always hold whole blocks.
typedef float Vector __attribute__((vector_size(kBlock * sizeof(float))));

template <bool Full> SDI_INLINE inline Vector load(const float *p, int64_t n) {
  Vector v = {};
  std::memcpy(&v, p, Full ? sizeof(v) : n * sizeof(float));
  return v;
}

template <bool Full> SDI_INLINE inline void store(float *p, Vector v, int64_t n) {
  std::memcpy(p, &v, Full ? sizeof(v) : n * sizeof(float));
}

template <bool Full> SDI_INLINE inline void add(float *p, Vector v, int64_t n) { store<Full>(p, load<Full>(p, n) + v, n); }

// A buffer of our own: whole blocks, at any alignment.
struct Buffer {
  std::vector<float> data;
  void zeros(int64_t blocks) { data.assign(blocks * kBlock, 0.f); }
  SDI_INLINE Vector get(int64_t block) const { return load<true>(data.data() + block * kBlock, kBlock); }
  SDI_INLINE void set(int64_t block, Vector v) { store<true>(data.data() + block * kBlock, v, kBlock); }
  SDI_INLINE void add_to(int64_t block, Vector v) { set(block, get(block) + v); }
};

// What one block of one image works on: channels c..c+n of target t.
struct Block {
  const Target &t;
  int64_t b, c, n;
};

// Where the taps of a plane lie: those of pixel p begin at data + p * 9 * stride, and one tap is `stride` long.
template <typename T> struct Plane {
  T *data;
  int64_t stride;
};

// sums (w, 3) = the rows of a plane that the three row taps at y read, interpolated and added.
template <bool Full>
SDI_INLINE inline void gather_rows(Buffer &sums, Plane<const float> plane, const Level &level, int64_t y, const Block &k) {
  sums.zeros((level.w + 1) * 3);
  for (int64_t tap = 0; tap < 3; tap++)
    each_source(level.y, y + tap - 1, k.t.H, [&](int64_t row, float weight) SDI_INLINE {
      const float *source = plane.data + (row * level.w * 9 + tap * 3) * plane.stride;
      for (int64_t x = 0; x < level.w; x++)
        for (int64_t column = 0; column < 3; column++)
          sums.add_to(x * 3 + column, weight * load<Full>(source + (x * 9 + column) * plane.stride, k.n));
    });
}

// The adjoint of gather_rows: add sums to the rows they came from.
template <bool Full>
SDI_INLINE inline void scatter_rows(const Buffer &sums, Plane<float> plane, const Level &level, int64_t y, const Block &k) {
  for (int64_t tap = 0; tap < 3; tap++)
    each_source(level.y, y + tap - 1, k.t.H, [&](int64_t row, float weight) SDI_INLINE {
      float *target = plane.data + (row * level.w * 9 + tap * 3) * plane.stride;
      for (int64_t x = 0; x < level.w; x++)
        for (int64_t column = 0; column < 3; column++)
          add<Full>(target + (x * 9 + column) * plane.stride, weight * sums.get(x * 3 + column), k.n);
    });
}

// A level's convolved, interpolated value at column x. The sums have a column of zeros at their end, so that a source of
// weight zero may lie there.
SDI_INLINE inline Vector term_at(Vector bias, const Buffer &sums, const Axis &axis, int64_t x, int64_t W) {
  Vector term = bias;
  for (int64_t tap = 0; tap < 3; tap++) {
    const int64_t column = x + tap - 1;
    if (column < 0 || column >= W)
      continue;
    const int64_t low = axis.low[column] * 3 + tap;
    term += axis.first[column] * sums.get(low) + axis.second[column] * sums.get(low + 3);
  }
  return term;
}

// The adjoint of term_at.
SDI_INLINE inline void scatter_term(Vector term, Buffer &sums, const Axis &axis, int64_t x, int64_t W) {
  for (int64_t tap = 0; tap < 3; tap++) {
    const int64_t column = x + tap - 1;
    if (column < 0 || column >= W)
      continue;
    const int64_t low = axis.low[column] * 3 + tap;
    sums.add_to(low, axis.first[column] * term);
    sums.add_to(low + 3, axis.second[column] * term);
  }
}

// A level's plane at z: the taps themselves in 2-D; in 3-D the sum of the depth taps, made in `buffer`.
template <bool Full>
SDI_INLINE inline Plane<const float> gather_plane(Buffer &buffer, const float *taps, const Level &level,
                                                  int64_t z, const Block &k) {
  const int64_t pixels = level.h * level.w, C = k.t.C;
  taps += k.b * level.planes * pixels * k.t.depth_taps * 9 * C + k.c;
  if (k.t.depth_taps == 1)
    return {taps, C};
  buffer.zeros(pixels * 9);
  for (int64_t tap = 0; tap < 3; tap++)
    each_source(level.z, z + tap - 1, k.t.D, [&](int64_t plane, float weight) SDI_INLINE {
      const float *source = taps + ((plane - level.start) * pixels * 3 + tap) * 9 * C;
      for (int64_t p = 0; p < pixels; p++)
        for (int64_t i = 0; i < 9; i++)
          buffer.add_to(p * 9 + i, weight * load<Full>(source + (p * 27 + i) * C, k.n));
    });
  return {buffer.data.data(), kBlock};
}

// The adjoint of gather_plane in 3-D.
template <bool Full>
SDI_INLINE inline void scatter_plane(const Buffer &buffer, const Level &level, int64_t z, const Block &k) {
  const int64_t pixels = level.h * level.w, C = k.t.C;
  float *taps = level.taps + k.b * level.planes * pixels * 27 * C + k.c;
  for (int64_t tap = 0; tap < 3; tap++)
    each_source(level.z, z + tap - 1, k.t.D, [&](int64_t plane, float weight) SDI_INLINE {
      float *target = taps + ((plane - level.start) * pixels * 3 + tap) * 9 * C;
      for (int64_t p = 0; p < pixels; p++)
        for (int64_t i = 0; i < 9; i++)
          add<Full>(target + (p * 27 + i) * C, weight * buffer.get(p * 9 + i), k.n);
    });
}

template <bool Full>
SDI_INLINE inline void forward_block(float *out, const Level *levels, int64_t count, const Block &k, int64_t z,
                                     int64_t y_begin, int64_t y_end) {
  const Target &t = k.t;
  Buffer buffer, sums;
  for (int64_t l = 0; l < count; l++) {
    const Level &level = levels[l];
    const Vector bias = load<Full>(level.bias + k.c, k.n);
    const Plane<const float> plane = gather_plane<Full>(buffer, level.taps, level, z, k);
    for (int64_t y = y_begin; y < y_end; y++) {
      gather_rows<Full>(sums, plane, level, y, k);
      float *row = out + (((k.b * t.D + z) * t.H + y) * t.W) * t.C + k.c;
      for (int64_t x = 0; x < t.W; x++) {
        const Vector term = term_at(bias, sums, level.x, x, t.W);
        store<Full>(row + x * t.C, load<Full>(row + x * t.C, k.n) * term, k.n);
      }
    }
  }
}

template <bool Full>
SDI_INLINE inline void backward_block(const float *grad, float *const *dense, int64_t dense_count, const Level *levels,
                                      int64_t count, const Block &k) {
  const Target &t = k.t;
  const int64_t total = dense_count + count;
  std::vector<Buffer> planes(count), plane_grads(count), sums(count), terms(count);
  std::vector<Plane<const float>> sources(count);
  Buffer bias, before, value;
  bias.zeros(count);
  before.zeros(total);
  value.zeros(total);
  for (int64_t l = 0; l < count; l++) {
    bias.set(l, load<Full>(levels[l].bias + k.c, k.n));
    terms[l].zeros(t.W);
  }
  for (int64_t z = t.z_begin; z < t.z_end; z++) {
    for (int64_t l = 0; l < count; l++) {
      sources[l] = gather_plane<Full>(planes[l], levels[l].source, levels[l], z, k);
      if (t.depth_taps == 3)
        plane_grads[l].zeros(levels[l].h * levels[l].w * 9);
    }
    for (int64_t y = 0; y < t.H; y++) {
      const int64_t row = (((k.b * t.D + z) * t.H + y) * t.W) * t.C + k.c;
      for (int64_t l = 0; l < count; l++)
        gather_rows<Full>(sums[l], sources[l], levels[l], y, k);
      for (int64_t x = 0; x < t.W; x++) {
        const int64_t at = row + x * t.C;
        for (int64_t i = 0; i < dense_count; i++)
          value.set(i, load<Full>(dense[i] + at, k.n));
        for (int64_t l = 0; l < count; l++)
          value.set(dense_count + l, term_at(bias.get(l), sums[l], levels[l].x, x, t.W));
        // The gradient of a term is grad times the product of the others: those before it times those after it.
        Vector product = load<Full>(grad + at, k.n);
        for (int64_t i = 0; i < total; i++) {
          before.set(i, product);
          product *= value.get(i);
        }
        Vector after = Vector{} + 1.f;
        for (int64_t i = total - 1; i >= 0; i--) {
          const Vector gradient = before.get(i) * after;
          after *= value.get(i);
          if (i < dense_count)
            store<Full>(dense[i] + at, gradient, k.n);
          else
            terms[i - dense_count].set(x, gradient);
        }
      }
      for (int64_t l = 0; l < count; l++) {
        const Level &level = levels[l];
        Vector bias_sum = {};
        sums[l].zeros((level.w + 1) * 3);
        for (int64_t x = 0; x < t.W; x++) {
          const Vector term = terms[l].get(x);
          bias_sum += term;
          scatter_term(term, sums[l], level.x, x, t.W);
        }
        add<Full>(level.bias_sum + k.b * t.C + k.c, bias_sum, k.n);
        const int64_t image = level.planes * level.h * level.w * t.depth_taps * 9 * t.C;
        const Plane<float> target = t.depth_taps == 3
                                        ? Plane<float>{plane_grads[l].data.data(), kBlock}
                                        : Plane<float>{level.taps + k.b * image + k.c, t.C};
        if (t.depth_taps == 3)
          scatter_rows<true>(sums[l], target, level, y, k);
        else
          scatter_rows<Full>(sums[l], target, level, y, k);
      }
    }
    if (t.depth_taps == 3)
      for (int64_t l = 0; l < count; l++)
        scatter_plane<Full>(plane_grads[l], levels[l], z, k);
  }
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(SDI_NO_CLONES)
#define SDI_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SDI_CLONES
#endif

SDI_CLONES void forward_task(float *out, const Level *levels, int64_t count, const Target &t, int64_t b, int64_t z,
                             int64_t y_begin, int64_t y_end) {
  for (int64_t c = 0; c < t.C; c += kBlock) {
    const Block block{t, b, c, std::min(kBlock, t.C - c)};
    if (block.n == kBlock)
      forward_block<true>(out, levels, count, block, z, y_begin, y_end);
    else
      forward_block<false>(out, levels, count, block, z, y_begin, y_end);
  }
}

SDI_CLONES void backward_task(const float *grad, float *const *dense, int64_t dense_count, const Level *levels,
                              int64_t count, const Target &t, int64_t b, int64_t c) {
  const Block block{t, b, c, std::min(kBlock, t.C - c)};
  if (block.n == kBlock)
    backward_block<true>(grad, dense, dense_count, levels, count, block);
  else
    backward_block<false>(grad, dense, dense_count, levels, count, block);
}

} // namespace

extern "C" {

// Raised whenever the structures above or the functions below change.
int64_t sdi_abi() { return 1; }

// out (B, D, H, W, C) *= the levels' terms, for the planes z_begin..z_end of the target.
void sdi_forward(float *out, const Level *levels, int64_t count, const Target *target, int64_t threads) {
  const Target &t = *target;
  // In 3-D a task is a plane, whose depth taps are added once; in 2-D a few rows.
  const int64_t rows = t.depth_taps == 3 ? t.H : 4;
  const int64_t depth = t.z_end - t.z_begin, parts = (t.H + rows - 1) / rows;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t task = 0; task < t.B * depth * parts; task++) {
    const int64_t part = task % parts, z = t.z_begin + task / parts % depth, b = task / parts / depth;
    forward_task(out, levels, count, t, b, z, part * rows, std::min(t.H, (part + 1) * rows));
  }
}

// From grad (B, D, H, W, C) and the dense terms, each like grad: the gradient of each dense term in its place, and of the
// levels' taps and biases added to levels[].taps and levels[].bias_sum.
void sdi_backward(const float *grad, float *const *dense, int64_t dense_count, const Level *levels, int64_t count,
                  const Target *target, int64_t threads) {
  const Target &t = *target;
  const int64_t blocks = (t.C + kBlock - 1) / kBlock;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t task = 0; task < t.B * blocks; task++)
    backward_task(grad, dense, dense_count, levels, count, t, task / blocks, task % blocks * kBlock);
}
}
