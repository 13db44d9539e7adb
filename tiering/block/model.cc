#include "tiering/block/model.h"

#include <cmath>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_format.h"
#include "proto/wire/sha256.h"

namespace kvtier {
namespace {

constexpr size_t kNameBytesMax = 128;
constexpr size_t kRecomputePointsMax = 1024;

void AddText(wire::Sha256& hasher, const std::string& text) {
  hasher.U64(text.size());
  hasher.Raw(text.data(), text.size());
}

absl::Status ValidatePlane(const ModelSpec& model, const PlaneSpec& plane,
                           const ModelLimits& limits) {
  const auto bad = [&](std::string what) {
    return absl::InvalidArgumentError(
        absl::StrFormat("model \"%s\", plane \"%s\": %s", model.name, plane.name, what));
  };
  if (plane.name.empty() || plane.name.size() > kNameBytesMax) {
    return bad(absl::StrFormat("name has %d bytes; 1 to %d are allowed", plane.name.size(),
                               kNameBytesMax));
  }
  if (plane.bytes_per_chunk < Bytes(1) || plane.bytes_per_chunk > limits.plane_bytes_max) {
    return bad(absl::StrFormat("bytes_per_chunk is %d; 1 to %d (one segment) are allowed",
                               plane.bytes_per_chunk.count(), limits.plane_bytes_max.count()));
  }
  if (plane.kind < PlaneKind::kAttention || plane.kind > PlaneKind::kIndex) {
    return bad(absl::StrFormat("kind is %d; 1 to 4 are known", static_cast<int>(plane.kind)));
  }
  if (plane.rank < kAnyRank) {
    return bad(absl::StrFormat("rank is %d; -1 (any) or more is allowed", plane.rank));
  }
  if ((plane.kind == PlaneKind::kWindow) != (plane.window_tokens > 0)) {
    return bad(absl::StrFormat("window_tokens is %d; a window plane needs at least 1, others 0",
                               plane.window_tokens));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateModel(const ModelSpec& model, const ModelLimits& limits) {
  for (const std::string* text :
       {&model.name, &model.revision, &model.data_type, &model.layout_version, &model.salt}) {
    if (text->size() > kNameBytesMax) {
      return absl::InvalidArgumentError(
          absl::StrFormat("model \"%s\": a text field has %d bytes; at most %d",
                          model.name.substr(0, kNameBytesMax), text->size(), kNameBytesMax));
    }
  }
  if (model.name.empty()) return absl::InvalidArgumentError("model: name is empty");
  if (model.chunk_tokens < 1 || model.chunk_tokens > limits.chunk_tokens_max) {
    return absl::InvalidArgumentError(
        absl::StrFormat("model \"%s\": chunk_tokens is %d; 1 to %d are allowed", model.name,
                        model.chunk_tokens, limits.chunk_tokens_max));
  }
  if (model.planes.empty() || model.planes.size() > limits.planes_max) {
    return absl::InvalidArgumentError(
        absl::StrFormat("model \"%s\": %d planes; 1 to %d are allowed", model.name,
                        model.planes.size(), limits.planes_max));
  }
  bool any_required = false;
  absl::flat_hash_set<std::string_view> names;
  for (const PlaneSpec& plane : model.planes) {
    if (absl::Status status = ValidatePlane(model, plane, limits); !status.ok()) return status;
    if (!names.insert(plane.name).second) {
      return absl::InvalidArgumentError(
          absl::StrFormat("model \"%s\": two planes are named \"%s\"", model.name, plane.name));
    }
    any_required |= plane.required;
  }
  if (!any_required) {
    return absl::InvalidArgumentError(
        absl::StrFormat("model \"%s\": none of %d planes is required; at least 1 must be",
                        model.name, model.planes.size()));
  }
  if (model.recompute.size() > kRecomputePointsMax) {
    return absl::InvalidArgumentError(
        absl::StrFormat("model \"%s\": %d recompute points; at most %d", model.name,
                        model.recompute.size(), kRecomputePointsMax));
  }
  for (const RecomputePoint& point : model.recompute) {
    if (!std::isfinite(point.seconds) || point.seconds < 0) {
      return absl::InvalidArgumentError(
          absl::StrFormat("model \"%s\": recompute seconds at %d tokens are %g; a finite number of "
                          "at least 0 is allowed",
                          model.name, point.context_tokens, point.seconds));
    }
  }
  return absl::OkStatus();
}

wire::ModelFingerprint FingerprintOf(const ModelSpec& model) {
  wire::Sha256 hasher;
  AddText(hasher, "kvtier.model.1");
  for (const std::string* text :
       {&model.name, &model.revision, &model.data_type, &model.layout_version, &model.salt}) {
    AddText(hasher, *text);
  }
  hasher.U64(model.chunk_tokens);
  hasher.U64(model.planes.size());
  for (const PlaneSpec& plane : model.planes) {
    AddText(hasher, plane.name);
    hasher.U64(plane.layer);
    hasher.U64(static_cast<uint64_t>(plane.kind));
    hasher.U64(static_cast<uint64_t>(static_cast<int64_t>(plane.rank)));
    hasher.U64(static_cast<uint64_t>(plane.bytes_per_chunk.count()));
    hasher.U64(plane.required ? 1 : 0);
    hasher.U64(plane.window_tokens);
  }
  return hasher.Finish();
}

}  // namespace kvtier
