// The daemon's end of one tenant's index in shared memory: rows, the table that finds them, the log
// of moves, and the epochs under which lines are used again.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/wire/chunk_key.h"
#include "proto/wire/relocation_log.h"
#include "proto/wire/residency_word.h"
#include "proto/wire/section_protocol.h"
#include "proto/wire/shared_index.h"
#include "tiering/base/bytes.h"
#include "tiering/base/ids.h"
#include "tiering/base/paged_array.h"
#include "tiering/share/index_buckets.h"
#include "tiering/share/index_layout.h"
#include "tiering/share/line_allocator.h"

namespace kvtier {

// One writer; wire::IndexReader reads the same memory from any thread or process. Deterministic.
// Whatever it publishes is complete before it can be found.
class TenantShare {
 public:
  static constexpr uint32_t kNoLine = LineAllocator::kNone;

  struct Options {
    absl::Span<std::byte> memory;  // zeroed, aligned to 4 KiB, at least BytesFor; outlives it
    IndexLimits limits;
    uint64_t daemon_epoch = 0;
    uint64_t hash_seed = 0;
  };
  static Bytes BytesFor(const IndexLimits& limits);
  // INVALID_ARGUMENT with both numbers when the memory is too small or not aligned.
  static absl::StatusOr<std::unique_ptr<TenantShare>> Create(const Options& options);

  struct RowArgs {
    wire::ChunkKey key;
    ModelId model;
    uint16_t planes = 0;
    uint16_t token_count = 0;
    uint32_t parent = kNoLine;  // its line
    RowIndex row = kNoRow;      // the engine's
  };
  // A row without copies, which no key finds yet. kNoLine when no line is left.
  uint32_t AddRow(const RowArgs& args);
  // What a block has by now; zero words where there is no copy. With `log`, a new best copy is a
  // move for those who hold the old one.
  struct BlockWords {
    wire::ResidencyWord best, second;
    uint64_t checksum = 0;
  };
  void SetBlock(uint32_t line, uint32_t plane, const BlockWords& words, bool log);
  // From now on the key finds the row, or no longer. False when the table is full there: the row
  // goes on without, and Hide does nothing then.
  bool Show(uint32_t line);
  void Hide(uint32_t line);
  // The row is hidden and has no copies. Its name is no longer valid; its lines are used again when
  // no section can hold them.
  void RemoveRow(uint32_t line);

  // The row as clients name it, and back: kNoRow for whatever is not the name of a row.
  uint64_t NameOf(uint32_t line) const {
    return wire::PackRow(
        static_cast<uint32_t>(Header(line).identity.load(std::memory_order_relaxed) >> 32), line);
  }
  RowIndex RowOf(uint64_t name) const {
    const auto line = static_cast<uint32_t>(name);
    return line < lines_.end() && rows_[line] != kNoRow && NameOf(line) == name ? rows_[line]
                                                                                : kNoRow;
  }
  // Brings what RowOf reads into the cache.
  void Prefetch(uint64_t name) const {
    const auto line = static_cast<uint32_t>(name);
    if (line >= lines_.end()) return;
    __builtin_prefetch(&rows_[line]);
    __builtin_prefetch(&Header(line));
  }

  // Raised by retirements: of lines here, of slots by the engine.
  std::atomic<uint64_t>& retire_epoch() { return header_->retire_epoch; }
  // Lines or buckets wait for readers.
  bool waits() const { return !retired_.empty(); }
  size_t waiting() const { return retired_.size(); }
  // `oldest`: of the tenant's open sections, scanned after FenceBeforeScan.
  void Reclaim(uint64_t oldest);

  // Rows that keys find; those that were refused a line or an entry, ever.
  uint64_t shown() const { return buckets_.size(); }
  uint64_t refusals() const { return refusals_; }
  absl::Span<const std::byte> memory() const { return memory_; }
  // Own tables, and of the shared memory what was ever used.
  Bytes metadata_bytes() const;

 private:
  enum class Part : uint8_t { kRow, kOverflow };
  struct Retired {
    uint32_t number = 0;  // first line, or overflow bucket
    Part part = Part::kRow;
    uint32_t lines = 0;
  };

  explicit TenantShare(const Options& options);
  wire::RowHeader& Header(uint32_t line) const {
    return *reinterpret_cast<wire::RowHeader*>(lines_start_ + uint64_t{line} * wire::kLineBytes);
  }
  void RetireOverflow(uint32_t overflow) {
    retired_.Retire(header_->retire_epoch, {overflow, Part::kOverflow, 0});
  }

  absl::Span<std::byte> memory_;
  wire::IndexHeader* header_;
  std::byte* lines_start_;
  IndexBuckets buckets_;
  wire::RelocationWriter log_;
  LineAllocator lines_;
  PagedArray<RowIndex, 16384> rows_;  // by line; kNoRow where no row begins
  wire::RetiredQueue<Retired> retired_;
  uint64_t refusals_ = 0;
};

}  // namespace kvtier
