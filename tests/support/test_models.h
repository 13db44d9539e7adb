// Small models with the shapes that real ones have, for tests.
#pragma once

#include <cstdint>
#include <vector>

#include "tiering/block/model.h"

namespace kvtier::test_support {

// All have chunks of 4 tokens. Plane sizes differ between models and, where real ones do, within a
// model.
inline constexpr uint32_t kTestChunkTokens = 4;

// Four layers, K and V together, planes of one size.
ModelSpec DenseModel();
// Two layers, K and V apart, V half of K (an 8-bit K beside a 4-bit V).
ModelSpec SplitKvModel();
// Three layers of one latent each, and a small index plane that is not required.
ModelSpec LatentModel();
// One attention layer; two sliding windows, of 8 and of 6 tokens, required at every chunk.
ModelSpec WindowModel();
// Two attention layers; a recurrent state and a window of 8 tokens that are kept at some chunks
// only.
ModelSpec RecurrentModel();
// Two tensor-parallel ranks with two planes each, and one that is replicated and stored once.
ModelSpec TwoRankModel();

// The six above, in this order.
std::vector<ModelSpec> AllTestModels();

// The planes of `model` that `rank` writes: its own, and with rank 0 the replicated ones.
std::vector<PlaneIndex> PlanesOfRank(const ModelSpec& model, int rank);
std::vector<PlaneIndex> RequiredPlanes(const ModelSpec& model);

}  // namespace kvtier::test_support
