// Any bytes as an attention trace, as they are and with the checksum that they should have: read or
// refused with INVALID_ARGUMENT that names the place; what was read lies within its bounds, and
// comes back the same when it is written again.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/match.h"
#include "proto/wire/checksum.h"
#include "sim/attention_trace.h"
#include "tiering/base/check.h"

namespace kvtier::sim {
namespace {

void CheckTrace(const AttentionTrace& trace) {
  const AttentionGeometry& geometry = trace.geometry;
  KVTIER_CHECK(CheckGeometry(geometry, "here").ok());
  KVTIER_CHECK(trace.first.size() == size_t{geometry.steps} * geometry.planes + 1);
  KVTIER_CHECK(trace.first.back() == trace.blocks.size());
  KVTIER_CHECK(trace.mass.size() == trace.blocks.size());
  AttentionTraceWriter writer(geometry);
  for (uint32_t step = 0; step < geometry.steps; ++step) {
    for (uint32_t plane = 0; plane < geometry.planes; ++plane) {
      const auto blocks = trace.BlocksOf(step, plane);
      KVTIER_CHECK(std::adjacent_find(blocks.begin(), blocks.end(), std::greater_equal<>()) ==
                   blocks.end());
      KVTIER_CHECK(blocks.empty() || blocks.back() < geometry.BlocksAt(step));
      writer.Add(blocks, trace.MassOf(step, plane));
    }
  }
  const auto again = DecodeAttentionTrace(writer.Finish(), "here");
  KVTIER_CHECK(again.ok() && again->geometry == geometry && again->first == trace.first &&
               again->blocks == trace.blocks && again->mass == trace.mass);
}

void Try(const std::string& bytes) {
  const auto trace = DecodeAttentionTrace(bytes, "here");
  if (trace.ok()) {
    CheckTrace(*trace);
    return;
  }
  KVTIER_CHECK(absl::IsInvalidArgument(trace.status()));
  KVTIER_CHECK(absl::StartsWith(trace.status().message(), "here:"));
}

}  // namespace
}  // namespace kvtier::sim

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  kvtier::sim::Try(bytes);
  const uint64_t checksum =
      kvtier::wire::BlockChecksum({reinterpret_cast<const std::byte*>(data), size});
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(checksum >> (8 * i)));
  kvtier::sim::Try(bytes);
  return 0;
}
