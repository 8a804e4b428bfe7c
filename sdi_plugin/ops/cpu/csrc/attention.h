// The plain C interface of attend_and_reduce: what the host (sdi_plugin/ops/cpu/attend.py) passes to the kernel. Both
// sides declare the same structures; raise kAbi (stage.h) whenever one of them changes.
//
//     c = sigmoid( fc2 ( relu(fc1 mean) + relu(fc1 max) ) )        over the pixels of f
//     s = sigmoid( conv7 [mean, max] )                             over the channels of c f
//     g = s conv1 (c f)
//
// Names: B images, C channels of f, H hidden ones, C_out of g, P = D H W pixels. A 2-D map has D = 1 and one depth tap
// instead of seven. Scalars are float or double, the same for everything in a call. Weights are contiguous.

#pragma once

#include "stage.h"

namespace sdi {

struct AttentionLevel {
  int64_t channels, hidden, out_channels, d, h, w;
  View f, g;                                // g: forward, written; backward, read
  const void *fc1, *fc2, *conv7, *conv1;    // (H, C), (C, H), (2, depth taps, 7, 7), (C_out, C)
  void *channels_kept;                      // (B, 3, C): mean, maximum, gate; forward, written
  void *pixels_kept;                        // (B, P): the pixels' gate; forward, written
  View g_grad, f_grad;                      // backward: read; written unless its data are null
  void *fc1_grad, *fc2_grad, *conv7_grad, *conv1_grad; // backward, written
};

struct Attention {
  int64_t batch, depth_taps, levels; // depth_taps: 7, or 1 in 2-D
  const AttentionLevel *level;
};

} // namespace sdi
