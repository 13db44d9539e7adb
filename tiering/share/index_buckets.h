// The daemon's end of a tenant's hash table in shared memory: linear hashing, a bucket at a time,
// while clients read it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "proto/wire/shared_index.h"

namespace kvtier {

// One writer; readers (wire::IndexReader) at any time. A reader finds what is in it throughout its
// search; an entry never moves within its chain, and one that is split off is in both places until
// `bucket_count` says so. Rows are named by their first line; key and model are read from there.
class IndexBuckets {
 public:
  // An overflow bucket is out of its chain: readers may still be in it, so it is given back
  // (FreeOverflow) only when no section can hold it.
  using RetireOverflow = absl::FunctionRef<void(uint32_t overflow)>;

  // `index` is the start of the memory, whose header is filled in. Nothing is in the table.
  explicit IndexBuckets(std::byte* index);

  // The row's header is written. False when its chain has kChainMax full buckets, or no overflow
  // bucket is left: then it is not in the table.
  bool Insert(uint32_t line, RetireOverflow retire);
  // False when it is not there.
  bool Erase(uint32_t line, RetireOverflow retire);
  void FreeOverflow(uint32_t overflow) { free_overflow_.push_back(overflow); }

  uint64_t size() const { return size_; }
  uint64_t bucket_count() const { return count_; }
  // Overflow buckets that are in chains or retired.
  uint64_t overflow_used() const { return overflow_end_ - free_overflow_.size(); }

 private:
  static constexpr size_t kChainEntries = wire::kChainMax * wire::IndexBucket::kEntries;

  uint64_t HashOf(uint32_t line) const;
  // Puts an entry into the first free place of a chain, which may get one more bucket.
  bool Append(wire::IndexBucket& first, uint64_t entry);
  void Split(RetireOverflow retire);
  // Takes overflow buckets without entries out of the chain.
  void UnlinkEmpty(wire::IndexBucket& first, RetireOverflow retire);
  // Empties a chain that no reader has reached.
  void Discard(wire::IndexBucket& first);
  wire::IndexBucket& Overflow(uint64_t link) { return overflow_[link - 1]; }

  wire::IndexHeader* header_;
  wire::IndexBucket* buckets_;
  wire::IndexBucket* overflow_;
  const std::byte* rows_;
  uint64_t count_ = 1;  // as in the header
  uint64_t size_ = 0;
  uint32_t overflow_end_ = 0;  // from here on never used
  std::vector<uint32_t> free_overflow_;
};

}  // namespace kvtier
