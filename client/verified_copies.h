// Which copies of blocks this client has hashed and found right.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "client/mapping.h"
#include "proto/wire/residency_word.h"

namespace kvtier {

// Thread-safe, without locks. A table of fixed size in which a copy is remembered by 64 bits of
// hash: two that share them are one in 10^19 pairs. Where its bucket is full an older copy is
// forgotten, and verified again when it is met: so it may be asked for more than it can hold.
class VerifiedCopies {
 public:
  // Rounded up to a power of two, at least one bucket. Room is taken as it is used.
  static absl::StatusOr<VerifiedCopies> Create(uint64_t copies_max) {
    const uint64_t entries = std::bit_ceil(copies_max < kWays ? kWays : copies_max);
    auto memory = Mapping::Anonymous(entries * sizeof(std::atomic<uint64_t>));
    if (!memory.ok()) return memory.status();
    return VerifiedCopies(*std::move(memory), entries / kWays);
  }

  // Of a plane of a row, where it lies.
  static uint64_t HashOf(uint64_t row_name, uint32_t plane, wire::ResidencyWord word) {
    uint64_t x = Mix(row_name + 0x9e3779b97f4a7c15u * (uint64_t{plane} + 1));
    x = Mix(x ^ word.bits());
    return x == 0 ? 1 : x;
  }
  void Prefetch(uint64_t hash) const { __builtin_prefetch(Bucket(hash)); }
  bool Contains(uint64_t hash) const {
    const std::atomic<uint64_t>* const bucket = Bucket(hash);
    bool found = false;
    for (size_t way = 0; way < kWays; ++way) {
      found |= bucket[way].load(std::memory_order_relaxed) == hash;
    }
    return found;
  }
  void Insert(uint64_t hash) {
    std::atomic<uint64_t>* const bucket = Bucket(hash);
    for (size_t way = 0; way < kWays; ++way) {
      uint64_t empty = 0;
      if (bucket[way].compare_exchange_strong(empty, hash, std::memory_order_relaxed)) return;
      if (empty == hash) return;
    }
    bucket[(hash >> 59) % kWays].store(hash, std::memory_order_relaxed);
  }

 private:
  static constexpr size_t kWays = 8;  // a cache line

  VerifiedCopies(Mapping memory, uint64_t buckets)
      : memory_(std::move(memory)), mask_(buckets - 1) {}
  static uint64_t Mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  std::atomic<uint64_t>* Bucket(uint64_t hash) const {
    return reinterpret_cast<std::atomic<uint64_t>*>(memory_.data()) + (hash & mask_) * kWays;
  }

  Mapping memory_;
  uint64_t mask_;
};

}  // namespace kvtier
