// Which blocks of a sequence sparse attention reads, step by step and plane by plane, and a compact
// file of it.
//
// The file: "KVTATTN\n"; version, planes, block tokens, steps (u32 each); prompt tokens, number of
// accesses (u64 each); name of the model and provenance, each with its length (u16) in front; then
// for each step, for each plane: how many blocks are read, and their numbers, ascending, as
// differences to the one before (the first to -1) less one, all as LEB128; then a byte of mass for
// each; at the end a checksum (u64, wire::BlockChecksum) of all before it. Numbers are
// little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace kvtier::sim {

struct AttentionGeometry {
  std::string model{};       // its name, as in its ModelSpec
  std::string provenance{};  // where the trace comes from, for people: printable ASCII
  uint32_t planes = 0;
  uint32_t block_tokens = 0;
  uint64_t prompt_tokens = 0;
  uint32_t steps = 0;  // each adds a token

  // Whole ones: the tokens behind them are no block yet.
  uint32_t BlocksAt(uint32_t step) const {
    return static_cast<uint32_t>((prompt_tokens + step) / block_tokens);
  }
  // The first step at whose start block `block` is whole.
  uint32_t BirthOf(uint32_t block) const {
    const uint64_t tokens = (uint64_t{block} + 1) * block_tokens;
    return tokens <= prompt_tokens ? 0 : static_cast<uint32_t>(tokens - prompt_tokens);
  }
  friend bool operator==(const AttentionGeometry& a, const AttentionGeometry& b) = default;
};

// Reads of step s and plane p are those numbered [first[s * planes + p], ... of the next).
struct AttentionTrace {
  AttentionGeometry geometry;
  std::vector<uint64_t> first;
  std::vector<uint32_t> blocks;  // ascending in each step and plane
  // How much of the plane's attention is on it: eighths of powers of two below the plane's most;
  // 255: that or less.
  std::vector<uint8_t> mass;

  size_t IndexOf(uint32_t step, uint32_t plane) const {
    return size_t{step} * geometry.planes + plane;
  }
  absl::Span<const uint32_t> BlocksOf(uint32_t step, uint32_t plane) const {
    const size_t at = IndexOf(step, plane);
    return absl::MakeConstSpan(blocks).subspan(first[at], first[at + 1] - first[at]);
  }
  absl::Span<const uint8_t> MassOf(uint32_t step, uint32_t plane) const {
    const size_t at = IndexOf(step, plane);
    return absl::MakeConstSpan(mass).subspan(first[at], first[at + 1] - first[at]);
  }
};

inline constexpr uint32_t kPlanesMax = 1024;
inline constexpr uint32_t kStepsMax = 1 << 20;
inline constexpr uint64_t kAttentionBlocksMax = 1 << 26;  // of all planes at the end
inline constexpr uint64_t kAttentionAccessesMax = 1 << 30;
inline constexpr size_t kAttentionFileBytesMax = size_t{4} << 30;
inline constexpr size_t kAttentionTextBytesMax = 1024;  // of the provenance
inline constexpr std::string_view kAttentionMagic = "KVTATTN\n";

// INVALID_ARGUMENT "PLACE: ..." names the field and its limit.
absl::Status CheckGeometry(const AttentionGeometry& geometry, const std::string& place);

// Writes step after step, plane after plane; the bytes are what Finish returns.
class AttentionTraceWriter {
 public:
  // `geometry` was checked.
  explicit AttentionTraceWriter(const AttentionGeometry& geometry);
  // The next step and plane: `blocks` ascending and all whole by then, `mass` one for each.
  void Add(absl::Span<const uint32_t> blocks, absl::Span<const uint8_t> mass);
  std::string Finish();

 private:
  std::string bytes_;
  uint64_t accesses_ = 0;
};

// INVALID_ARGUMENT "PLACE:OFFSET: ..." for anything that no writer wrote: another version, a number
// beyond its limit, a block that is not whole yet, an end that comes too early or too late, or
// another checksum. Allocates no more than the bytes can fill.
absl::StatusOr<AttentionTrace> DecodeAttentionTrace(std::string_view bytes,
                                                    const std::string& place);

// A file's, whole. Errors as above, and as trace_reader.h where it cannot be read.
absl::StatusOr<AttentionTrace> ReadAttentionTrace(const std::string& path);

// Whether the file begins as an attention trace does.
bool IsAttentionTrace(const std::string& path);

}  // namespace kvtier::sim
