// The plain C interface of the SDI stage: what the host (sdi_plugin/ops/cpu/__init__.py, stage.py) passes to the
// kernel. Both sides declare the same structures; raise kAbi whenever one of them, or a function in dispatch.cpp,
// changes.
//
//     out_i = fuse( prod_j ( bias_ij + conv3x3_ij( resize_{j->i}(x_j) ) ) )          for the target levels i
//
// fuse(p) = p, or bound * asinh(p / bound) where Stage::bound is not 0 (bound.h).
//
// Names: B images, C_in channels of the maps, C_out of the results, (D, H, W) a target's size, (d, h, w) a map's. A 2-D
// map has D = d = 1 and one depth tap instead of three. Scalars are float or double, the same for everything in a call.

#pragma once

#include <cstdint>

#define SDI_EXPORT __attribute__((visibility("default"))) // functions that the host calls

namespace sdi {

constexpr int64_t kAbi = 7;

// A sparse matrix along one axis: row i has weights[i * width + k] in column first[i] + k, for k < count[i].
struct Axis {
  const int32_t *first, *count;
  const void *weights;
  int64_t width;
};

// A map of the stage. The first `levels` are the inputs; each other map is made from an earlier one, by pooling or
// interpolation.
struct Map {
  int64_t source; // index of the map from which it is made; -1 for an input
  int64_t d, h, w;
  Axis z, y, x; // from the source to this map
  Axis z_back, y_back, x_back; // their transposes
};

// One factor of a target: computed from a map of the target's size, or by taps from a coarser map at its resolution.
struct Term {
  int64_t map;
  int64_t by_taps;
  Axis z, y, x; // by taps: linear interpolation to the target's size, one or two weights per row
  Axis x_back; // the transpose of x
};

// The work that one thread does at a time. The split depends only on shapes, so that sums have the same order for any
// number of threads.
struct Unit {
  int64_t image, z_begin, z_end, y_begin, y_end;
};

struct Target {
  int64_t d, h, w;
  const Term *terms; // one per level, in the order of the levels
  const Unit *units; // sorted by image
  int64_t unit_count;
};

struct Stage {
  int64_t batch, in_channels, out_channels, depth_taps; // depth_taps: 3, or 1 in 2-D
  int64_t levels, map_count, target_count;
  const Map *maps;
  const Target *targets;
  double bound;
};

// A tensor (B, C, D, H, W) of any strides, in elements.
struct View {
  void *data;
  int64_t stride[5];
};

// weights, biases and their gradients: one contiguous tensor (C_out, C_in, taps...) or (C_out) per target and level.
struct Tensors {
  const View *xs;
  const void *const *weights, *const *biases;
  const View *outs; // forward: written; backward: their gradients, read
  const View *x_grads; // this and the rest: backward, written; null where not needed
  void *const *weight_grads, *const *bias_grads; // both, or neither
};

} // namespace sdi
