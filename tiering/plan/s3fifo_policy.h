// S3-FIFO, by chunk, over all pools (Yang, Zhang, Qiu, Yue, Rashmi, "FIFO queues are all you need
// for cache eviction", SOSP 2023, algorithm 1).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "tiering/plan/ranked_policy.h"

namespace kvtier {

// New chunks come into a small queue, which has a tenth of the tenant's room. What leaves it was
// read twice or more meanwhile, and goes on in the main queue, or is dropped and remembered by its
// key: when it comes again soon, it comes into the main queue at once. As many bytes are remembered
// as the main queue has room for, whatever is in it. What leaves the main queue and was read
// meanwhile comes back into it, once for each time, up to three.
//
// Differs from the paper where a prefix is more than one object: a chunk with a child cannot be
// dropped, so a chunk lies behind its parent as it is committed, and one that comes up and is in
// use is put next to its leaf.
class S3FifoPolicy : public RankedPolicy {
 public:
  static std::unique_ptr<PlacementPolicy> Create() { return std::make_unique<S3FifoPolicy>(); }
  S3FifoPolicy() : RankedPolicy(2) {}

  const char* name() const override { return "s3fifo"; }
  void Bind(const PlacementView* view, BlockCatalog* table) override;

 private:
  static constexpr size_t kSmall = 0, kMain = 1;

  // Keys that left the small queue, oldest first. One that came again stays in the order until its
  // turn, and counts as none; of such there are at most as many as of the others, and 1,024 more.
  struct Ghost {
    struct Entry {
      uint64_t name;
      uint64_t number;
    };
    std::deque<Entry> order;
    absl::flat_hash_map<uint64_t, std::pair<uint64_t, int64_t>> entries;  // {number, bytes} by name
    int64_t bytes = 0;
    uint64_t next = 0;
  };

  size_t NewRank(RowIndex row) override;
  void Touched(RowIndex row) override;
  void Leaves(RowIndex row) override;
  size_t FirstRank(TenantId tenant) override;
  bool Spared(RowIndex row) override;

  int64_t ChunkBytes(RowIndex row) const;
  // Of one tenant, in all pools.
  int64_t Capacity(TenantId tenant) const;
  uint64_t NameOf(RowIndex row) const;
  uint32_t Reads(RowIndex row);
  void SetReads(RowIndex row, uint32_t reads);

  std::vector<int64_t> small_bytes_;  // by tenant
  std::vector<Ghost> ghosts_;         // by tenant
};

}  // namespace kvtier
