// A model as a list of planes: the separately placed parts of its cache.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/wire/chunk_key.h"
#include "tiering/base/bytes.h"
#include "tiering/base/ids.h"

namespace kvtier {

enum class PlaneKind : uint8_t {
  kAttention = 1,  // every chunk of a prefix is needed to go on from it
  kWindow = 2,     // only the chunks that hold the last window_tokens tokens
  kState = 3,      // only the last chunk
  kIndex = 4,      // never needed to go on
};

inline constexpr int kAnyRank = -1;

struct PlaneSpec {
  std::string name;  // unique within the model, 1 to 128 bytes
  uint32_t layer = 0;
  PlaneKind kind = PlaneKind::kAttention;
  int rank = kAnyRank;
  Bytes bytes_per_chunk;
  // A chunk is visible once all required planes are committed. Planes that are not required may be
  // missing: window and state planes that an engine keeps at some chunks only still decide, by
  // their kind, where a prefix can be resumed; attention planes that are not required do not.
  bool required = true;
  uint32_t window_tokens = 0;

  bool operator==(const PlaneSpec&) const = default;
};

// Seconds to recompute one chunk behind `context_tokens` tokens; linear between points.
struct RecomputePoint {
  uint64_t context_tokens = 0;
  double seconds = 0;
};

struct ModelSpec {
  std::string name;
  std::string revision;
  std::string data_type;
  std::string layout_version;
  std::string salt;
  uint32_t chunk_tokens = 0;
  std::vector<PlaneSpec> planes;
  std::vector<RecomputePoint> recompute;
};

struct ModelLimits {
  uint32_t planes_max = 1024;
  // What fits a segment: a plane's slot must.
  Bytes plane_bytes_max = MiB(64);
  uint32_t chunk_tokens_max = 65535;
};

// INVALID_ARGUMENT naming the model, the plane, the number and the limit.
absl::Status ValidateModel(const ModelSpec& model, const ModelLimits& limits);

// SHA-256 over every field but `recompute`: what must never be mixed has different fingerprints.
wire::ModelFingerprint FingerprintOf(const ModelSpec& model);

}  // namespace kvtier
