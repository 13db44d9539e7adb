// Reading blocks where they lie, without a copy and without asking the daemon: read sections, and
// tables of addresses that are kept over many of them. For a client that shares memory with its
// daemon (Client::transport()); everybody else uses Client::Get.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kvtier/types.h"

namespace kvtier {

class Model;

struct BlockId {
  uint32_t chunk = 0;  // within the lease
  uint32_t plane = 0;
};

// Where a block lies. The bytes are read-only, do not change, and may be read until the section
// ends; so long `pool` is valid, too.
struct BlockView {
  const void* data = nullptr;  // null: there is none; `code` says why
  size_t bytes = 0;            // the plane's bytes_per_chunk
  std::string_view pool{};     // "hbm:0"
  // NOT_FOUND: no such block, or no copy of it; DATA_LOSS: no copy has its checksum, the daemon
  // drops them; UNAVAILABLE, RESOURCE_EXHAUSTED: its memory could not be mapped. Client::Get still
  // reads what is not DATA_LOSS.
  absl::StatusCode code = absl::StatusCode::kNotFound;
};

// While it is open, what was resolved in it stays where it is: the daemon may move a block, but
// does not use the place it was in for anything else. Keep it short (a step of a decode): the
// daemon refuses new leases to a client with a section open longer than its limits.section_ms_max.
//
// Entering and leaving take no lock and no system call, and so does resolving, but for the first
// block in a segment of memory that was not mapped before, and for copies with a wrong checksum.
// Use one from one thread at a time, and end it before its Client ends; many may be open at once.
// Should the daemon end or restart meanwhile, what was resolved stays readable.
class ReadSection {
 public:
  static constexpr uint32_t kTimelineWords = 256;

  ReadSection(ReadSection&& other) noexcept;
  ReadSection& operator=(ReadSection&& other) noexcept;
  ~ReadSection() { Leave(); }

  // Finds blocks of a lease; as many views as blocks. Blocks fail one by one (BlockView::code);
  // returns how many have an address. NOT_FOUND: no such lease; INVALID_ARGUMENT: a block that the
  // lease or the model does not have; FAILED_PRECONDITION: the section has ended, or is of an
  // earlier daemon than the lease.
  absl::StatusOr<size_t> Resolve(LeaseHandle lease, absl::Span<const BlockId> blocks,
                                 absl::Span<BlockView> views);
  // All planes of one chunk of a lease, in order; as many views as the model has planes.
  absl::StatusOr<size_t> ResolveChunk(LeaseHandle lease, uint32_t chunk,
                                      absl::Span<BlockView> views);
  // By key, without a lease. Views of the first key's planes, then of the next key's; `planes`
  // empty: all.
  absl::StatusOr<size_t> ResolveKeys(const Model& model, absl::Span<const Key> keys,
                                     absl::Span<const uint32_t> planes,
                                     absl::Span<BlockView> views);

  // A word in memory shared with the daemon that ends sections from anywhere, as a GPU kernel does:
  // its values must only rise. `timeline` is below kTimelineWords. Stays mapped until every section
  // of this daemon's epoch has ended.
  std::atomic<uint64_t>* timeline_word(uint32_t timeline) const;
  // Leaves, but the section lasts until the word's value is at least `value` (48 bits; it may be
  // already). INVALID_ARGUMENT: a number beyond these limits, and the section stays open.
  absl::Status EndAt(uint32_t timeline, uint64_t value);

  void Leave();
  bool open() const { return place_ != nullptr; }

 private:
  friend class ClientCore;
  friend class BlockTable;
  ReadSection(class ClientCore* core, struct SectionPlace* place) : core_(core), place_(place) {}
  absl::StatusOr<std::shared_ptr<class LeaseRecord>> LeaseOf(LeaseHandle lease) const;
  template <typename Wanted>
  size_t Find(size_t count, Wanted wanted, absl::Span<BlockView> views);

  class ClientCore* core_;
  struct SectionPlace* place_;  // null: left
};

// The addresses of a lease's blocks, kept over sections: brought up to date at the cost of what
// moved, not of what is there. Not thread-safe.
class BlockTable {
 public:
  // Of all chunks of the lease and the given planes (empty: all of the model's).
  BlockTable(LeaseHandle lease, std::vector<uint32_t> planes);
  BlockTable(BlockTable&&) noexcept;
  BlockTable& operator=(BlockTable&&) noexcept;
  ~BlockTable();

  // Makes all addresses valid for this section; until the next call they must be used within it.
  // Returns how many blocks are elsewhere than at the last call (at the first: 0). Errors: as
  // ReadSection::Resolve. After a restart of the daemon the lease is gone, and so is the table.
  absl::StatusOr<size_t> Update(ReadSection& section);

  // Since the last Update: chunk by chunk, in each the planes in their order.
  absl::Span<const BlockView> views() const { return views_; }
  // `plane_index` counts the table's planes.
  const BlockView& view(uint32_t chunk, uint32_t plane_index) const {
    return views_[size_t{chunk} * planes_.size() + plane_index];
  }
  const std::vector<uint32_t>& planes() const { return planes_; }
  // Where there is no address (BlockView::code) at the last Update.
  size_t missing() const { return missing_; }

 private:
  absl::Status Begin(const class LeaseRecord& lease);
  size_t Resolve(ReadSection& section, const class LeaseRecord& lease);

  LeaseHandle lease_;
  std::vector<uint32_t> planes_;
  std::vector<BlockView> views_;
  size_t missing_ = 0;
  std::unique_ptr<struct BlockTableState> state_;
};

}  // namespace kvtier
