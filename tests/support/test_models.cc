#include "tests/support/test_models.h"

#include <string>
#include <utility>

namespace kvtier::test_support {
namespace {

ModelSpec Named(const char* name) {
  ModelSpec model;
  model.name = name;
  model.revision = "1";
  model.data_type = "bf16";
  model.layout_version = "v1";
  model.chunk_tokens = kTestChunkTokens;
  model.recompute = {{.context_tokens = 0, .seconds = 0.001},
                     {.context_tokens = 1024, .seconds = 0.002}};
  return model;
}

PlaneSpec Attention(std::string name, uint32_t layer, int64_t bytes, int rank = kAnyRank) {
  PlaneSpec plane;
  plane.name = std::move(name);
  plane.layer = layer;
  plane.rank = rank;
  plane.bytes_per_chunk = Bytes(bytes);
  return plane;
}

PlaneSpec Window(std::string name, uint32_t layer, int64_t bytes, uint32_t window_tokens) {
  PlaneSpec plane = Attention(std::move(name), layer, bytes);
  plane.kind = PlaneKind::kWindow;
  plane.window_tokens = window_tokens;
  return plane;
}

PlaneSpec OfKind(PlaneKind kind, std::string name, uint32_t layer, int64_t bytes) {
  PlaneSpec plane = Attention(std::move(name), layer, bytes);
  plane.kind = kind;
  plane.required = false;
  return plane;
}

}  // namespace

ModelSpec DenseModel() {
  ModelSpec model = Named("dense");
  for (uint32_t layer = 0; layer < 4; ++layer) {
    model.planes.push_back(Attention("layer." + std::to_string(layer) + ".kv", layer, 512));
  }
  return model;
}

ModelSpec SplitKvModel() {
  ModelSpec model = Named("split-kv");
  for (uint32_t layer = 0; layer < 2; ++layer) {
    model.planes.push_back(Attention("layer." + std::to_string(layer) + ".k", layer, 512));
    model.planes.push_back(Attention("layer." + std::to_string(layer) + ".v", layer, 256));
  }
  return model;
}

ModelSpec LatentModel() {
  ModelSpec model = Named("latent");
  for (uint32_t layer = 0; layer < 3; ++layer) {
    // Not a multiple of the 64 bytes that slots are rounded to.
    model.planes.push_back(Attention("layer." + std::to_string(layer) + ".latent", layer, 288));
  }
  model.planes.push_back(OfKind(PlaneKind::kIndex, "index", 0, 40));
  return model;
}

ModelSpec WindowModel() {
  ModelSpec model = Named("window");
  model.planes = {Attention("layer.0.kv", 0, 512), Window("layer.1.kv", 1, 512, 8),
                  Window("layer.2.kv", 2, 192, 6)};
  return model;
}

ModelSpec RecurrentModel() {
  ModelSpec model = Named("recurrent");
  model.planes = {Attention("layer.0.kv", 0, 256), Attention("layer.1.kv", 1, 256),
                  OfKind(PlaneKind::kState, "layer.2.state", 2, 768),
                  Window("layer.3.kv", 3, 192, 8)};
  model.planes.back().required = false;
  return model;
}

ModelSpec TwoRankModel() {
  ModelSpec model = Named("two-rank");
  for (int rank = 0; rank < 2; ++rank) {
    for (uint32_t layer = 0; layer < 2; ++layer) {
      model.planes.push_back(Attention(
          "layer." + std::to_string(layer) + ".rank." + std::to_string(rank), layer, 384, rank));
    }
  }
  model.planes.push_back(Attention("layer.0.shared", 0, 128));
  return model;
}

std::vector<ModelSpec> AllTestModels() {
  return {DenseModel(),  SplitKvModel(),   LatentModel(),
          WindowModel(), RecurrentModel(), TwoRankModel()};
}

std::vector<PlaneIndex> PlanesOfRank(const ModelSpec& model, int rank) {
  std::vector<PlaneIndex> planes;
  for (size_t i = 0; i < model.planes.size(); ++i) {
    const int of = model.planes[i].rank;
    if (of == rank || (of == kAnyRank && rank == 0)) planes.emplace_back(static_cast<uint16_t>(i));
  }
  return planes;
}

std::vector<PlaneIndex> RequiredPlanes(const ModelSpec& model) {
  std::vector<PlaneIndex> planes;
  for (size_t i = 0; i < model.planes.size(); ++i) {
    if (model.planes[i].required) planes.emplace_back(static_cast<uint16_t>(i));
  }
  return planes;
}

}  // namespace kvtier::test_support
