// Plain types of the kvtier client library.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace kvtier {

enum class PlaneType : uint8_t {
  kAttention = 1,  // every chunk of a prefix is needed to go on from it
  kWindow = 2,     // only the chunks that hold the last window_tokens tokens
  kState = 3,      // only the last chunk
  kIndex = 4,      // never needed
};

struct PlaneGeometry {
  std::string name{};  // unique within the model: "layer.3.k"
  uint32_t layer = 0;
  PlaneType type = PlaneType::kAttention;
  int rank = -1;  // tensor-parallel rank; -1: replicated, stored once
  uint64_t bytes_per_chunk = 0;
  bool required = true;        // a chunk is visible once all required planes are committed
  uint32_t window_tokens = 0;  // of kWindow
};

struct RecomputeTime {
  uint64_t context_tokens = 0;
  double seconds = 0;
};

struct ModelGeometry {
  std::string name{};
  std::string revision{};
  std::string data_type{};
  std::string layout_version{};
  std::string salt{};
  uint32_t chunk_tokens = 0;
  std::vector<PlaneGeometry> planes{};
  std::vector<RecomputeTime> recompute{};
};

// 128-bit chunk key. The zero key stands for "no parent".
using Key = std::array<uint8_t, 16>;

// Handles of the daemon; they end with its epoch. 0 is none.
using ReservationHandle = uint64_t;
using LeaseHandle = uint64_t;

struct ConstBuffer {
  const void* data = nullptr;
  size_t bytes = 0;
};
struct MutableBuffer {
  void* data = nullptr;
  size_t bytes = 0;
};

// One block to store: the pieces, in order, make up the plane's bytes_per_chunk bytes.
struct BlockSource {
  uint32_t chunk = 0;  // within the reservation
  uint32_t plane = 0;
  std::vector<ConstBuffer> pieces{};
};

// One block to fetch into the caller's memory: the pieces, in order, take the plane's
// bytes_per_chunk bytes.
struct BlockDestination {
  uint32_t chunk = 0;  // within the lease
  uint32_t plane = 0;
  std::vector<MutableBuffer> pieces{};
};

// What became of one block of a Get. The bytes of a failed block are undefined.
struct BlockResult {
  absl::Status status{};  // DATA_LOSS: checksum mismatch, the daemon dropped that copy; NOT_FOUND:
                          // no such plane
  std::string pool{};     // where the bytes came from
};

struct GetResult {
  std::vector<BlockResult> blocks{};  // in the order of the request
  std::map<std::string, uint64_t> bytes_by_pool{};
  bool all_ok = false;
  uint64_t blocks_in_place = 0;  // of those that came: copied from shared memory, not streamed
};

enum class CommitResult : uint8_t { kCommitted, kPartial, kAlreadyExists };

struct ChunkCommit {
  uint32_t chunk = 0;  // within the reservation; commit in order
  Key key{};
  uint32_t token_count = 0;        // 1 .. chunk_tokens
  std::vector<uint32_t> planes{};  // empty: all reserved ones
};

struct Match {
  uint32_t chunks = 0;  // how many of the keys can be used
  LeaseHandle lease = 0;
  absl::Duration lease_ttl{};
};

struct ReadReport {
  uint32_t plane = 0;
  uint32_t steps = 0;
  std::vector<double> mass{};  // per chunk of the lease: mean attention mass per step, 0 to 1
};

enum class Priority : uint8_t { kNormal, kLow, kHigh };
struct WriteHints {
  Priority priority = Priority::kNormal;
  absl::Duration keep{};  // wish to keep for this long
  bool do_not_store = false;
};

struct WatchEvent {
  enum class Kind : uint8_t { kCommitted = 1, kDropped, kForgotten, kMoved, kLost, kGap };
  uint64_t sequence = 0;
  Kind kind = Kind::kCommitted;
  Key key{};
  uint32_t plane = 0;
  std::string pool{};
};

}  // namespace kvtier
