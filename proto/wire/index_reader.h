// Looks rows up in a tenant's shared index (shared_index.h). No locks, no system calls; a reader
// never waits for the daemon, whatever became of it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/types/span.h"
#include "proto/wire/chunk_key.h"
#include "proto/wire/relocation_log.h"
#include "proto/wire/residency_word.h"
#include "proto/wire/section_protocol.h"
#include "proto/wire/shared_index.h"

namespace kvtier::wire {

// Thread-safe. The mapping outlives it. Every number that comes out of the shared memory is checked
// against the sizes that Create found, so a broken index gives misses and never a bad access.
class IndexReader {
 public:
  // Nothing, and why, when `bytes` are no index of this layout: too short, another magic or major
  // (both named), or regions that do not fit.
  static std::optional<IndexReader> Create(absl::Span<const std::byte> bytes, std::string& why);

  // Inside a section, all of these: rows are used again like slots.
  struct Row {
    const RowHeader* header = nullptr;  // null: not found
    uint32_t line = 0;
    uint32_t generation = 0;
    uint16_t planes = 0;
    explicit operator bool() const { return header != nullptr; }
    // `plane` below planes.
    RowPlane<const std::atomic<uint64_t>> plane(uint32_t plane) const {
      return PlaneOf(header, planes, plane);
    }
    uint64_t name() const { return PackRow(generation, line); }
  };
  // Only whole chunks are in the index: a row that is found was visible a moment ago.
  Row Find(const ChunkKey& key, uint32_t model) const;
  // Many at once, so that cache misses overlap. As many rows as keys. Whoever goes on to read all
  // planes of the rows says how many that are: these are brought into the cache, too.
  void FindAll(absl::Span<const ChunkKey> keys, uint32_t model, absl::Span<Row> rows,
               uint32_t planes_ahead = 0) const;
  // The best copy of block planes[i] of the chunk keys[i], or zero; as many of each.
  void ResolveAll(absl::Span<const ChunkKey> keys, uint32_t model,
                  absl::Span<const uint32_t> planes, absl::Span<ResidencyWord> words) const;
  // By name (a lease's rows, a parent's); not found when the generation is another by now.
  Row At(uint64_t row_name) const;

  // Has the processor fetch what At and Resolve of a plane will read.
  void Prefetch(uint64_t row_name, uint32_t plane) const {
    const uint64_t line = static_cast<uint32_t>(row_name);
    if (line >= lines_max_) return;
    const std::byte* const row = rows_ + line * kLineBytes;
    __builtin_prefetch(row);
    __builtin_prefetch(row + sizeof(RowHeader) + uint64_t{plane} * sizeof(uint64_t));
  }

  // Best copy of a block; zero where there is none, also beyond the row's planes.
  static ResidencyWord Resolve(const Row& row, uint32_t plane) {
    if (plane >= row.planes) return ResidencyWord();
    return ResidencyWord(ResolveWord(row.plane(plane).best));
  }

  const IndexHeader& header() const { return *header_; }
  const std::atomic<uint64_t>& retire_epoch() const { return header_->retire_epoch; }
  RelocationReader NewRelocationReader() const {
    return RelocationReader(log_, log_entries_, &header_->log_end);
  }

 private:
  IndexReader() = default;
  Row RowAt(uint64_t line) const;
  static bool Is(const Row& row, const ChunkKey& key, uint32_t model);
  Row FindHashed(uint64_t hash, const ChunkKey& key, uint32_t model) const;
  // Calls ahead(i, row) with where the row of keys[i] may be.
  template <typename Ahead>
  void FindGroup(absl::Span<const ChunkKey> keys, uint32_t model, absl::Span<Row> rows,
                 Ahead ahead) const;
  Row FindInBucket(uint64_t bucket, uint64_t hash, const ChunkKey& key, uint32_t model) const;

  const IndexHeader* header_ = nullptr;
  const RelocationEntry* log_ = nullptr;
  const IndexBucket* buckets_ = nullptr;
  const IndexBucket* overflow_ = nullptr;
  const std::byte* rows_ = nullptr;
  uint64_t log_entries_ = 0, buckets_max_ = 0, overflow_max_ = 0, lines_max_ = 0, seed_ = 0;
};

}  // namespace kvtier::wire
