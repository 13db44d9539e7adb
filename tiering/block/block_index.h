// Key → row, by linear hashing over buckets of one cache line, so that it grows a bucket at a time:
// no pause, and memory in proportion to what is in it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "tiering/base/bytes.h"
#include "tiering/base/ids.h"

namespace kvtier {

// Linear hashing (Litwin, "Linear hashing: a new tool for file and table addressing", VLDB 1980):
// with n buckets a hash belongs to bucket hash mod 2^k, for the smallest 2^k >= n, or mod 2^(k-1)
// if that bucket does not exist yet; bucket n is made by splitting bucket n - 2^(k-1).
//
// Stores rows only, with an 8-bit tag of the hash beside each; the caller compares keys in its
// rows, so a lookup costs about one cache miss here and one in the row. A bucket is 64 bytes: 12
// tags, 12 rows, a link to an overflow bucket. Low bits of the hash choose the bucket and its
// highest eight are the tag, so both must be well mixed; hashes that collide cost time, nothing
// else. Not thread-safe; no deletion tombstones. It does not shrink. At most 2^32 - 1 rows; at 10 M
// rows at most 9 bytes a row.
class BlockIndex {
 public:
  BlockIndex();
  ~BlockIndex();
  BlockIndex(const BlockIndex&) = delete;
  BlockIndex& operator=(const BlockIndex&) = delete;

  // Calls `equal(row)` for rows with this tag until it returns true; kNoRow when none does.
  template <typename Equal>
  RowIndex Find(uint64_t hash, Equal&& equal) const {
    const uint8_t tag = TagOf(hash);
    for (const Bucket* bucket = &buckets_[PlaceOf(hash)];;) {
      for (uint32_t matches = Matches(*bucket, tag); matches != 0; matches &= matches - 1) {
        const RowIndex row = bucket->rows[std::countr_zero(matches)];
        if (equal(row)) return row;
      }
      if (bucket->next == kNone) return kNoRow;
      bucket = &overflow_[bucket->next];
    }
  }

  // Brings the bucket of `hash` into the cache.
  void Prefetch(uint64_t hash) const { __builtin_prefetch(&buckets_[PlaceOf(hash)]); }

  // `row` must not be in the index. `hash_of(row)` gives the hash of any row in the index (for
  // splitting buckets); it is not called for `row` itself before it is in.
  template <typename HashOf>
  void Insert(uint64_t hash, RowIndex row, HashOf&& hash_of) {
    if (NeedsSplit()) Split(hash_of);
    Append(buckets_[PlaceOf(hash)], TagOf(hash), row);
    ++size_;
  }

  // The row must be in the index under this hash, else it aborts.
  void Erase(uint64_t hash, RowIndex row);

  uint64_t size() const { return size_; }
  // As allocated.
  Bytes metadata_bytes() const;

 private:
  static constexpr uint32_t kRowsPerBucket = 12;
  static constexpr uint32_t kNone = 0xffffffffu;
  // A bucket is split when rows and memory would otherwise be further apart. Measured at 1 to 16 M
  // rows: see bench/index_and_slots_bench.cc. Less than this makes longer chains, more makes
  // half-empty buckets.
  static constexpr double kBytesPerRow = 8.75;

  // Rows fill a bucket from the front; tag 0 is no row. Of a chain, only the bucket behind the
  // first one may have room (the first one itself when it is alone), so inserting does not walk the
  // chain.
  struct alignas(64) Bucket {
    uint8_t tags[kRowsPerBucket];
    RowIndex rows[kRowsPerBucket];
    uint32_t next;  // in overflow_
  };
  static_assert(sizeof(Bucket) == 64);

  // Buckets by number, in pages that never move.
  class Buckets {
   public:
    Bucket& operator[](uint32_t i) { return pages_[i / kPageBuckets]->buckets[i % kPageBuckets]; }
    const Bucket& operator[](uint32_t i) const {
      return pages_[i / kPageBuckets]->buckets[i % kPageBuckets];
    }
    uint32_t count() const { return count_; }
    // The new last bucket, empty.
    Bucket& Add();
    size_t bytes() const {
      return pages_.size() * sizeof(Page) + pages_.capacity() * sizeof(pages_[0]);
    }

   private:
    static constexpr uint32_t kPageBuckets = 1024;
    struct Page {
      Bucket buckets[kPageBuckets];
    };
    struct FreePage {
      void operator()(Page* page) const;
    };
    std::vector<std::unique_ptr<Page, FreePage>> pages_;
    uint32_t count_ = 0;
  };

  static uint8_t TagOf(uint64_t hash) {
    const uint8_t tag = static_cast<uint8_t>(hash >> 56);
    return tag == 0 ? 1 : tag;
  }
  uint32_t PlaceOf(uint64_t hash) const {
    const uint32_t place = static_cast<uint32_t>(hash) & mask_;
    return place < buckets_.count() ? place : place & mask_ >> 1;
  }

  // Bit i: tag i of the bucket equals `tag`.
  static uint32_t Matches(const Bucket& bucket, uint8_t tag) {
    static_assert(std::endian::native == std::endian::little);
    uint64_t low;
    uint32_t high;
    std::memcpy(&low, bucket.tags, sizeof(low));
    std::memcpy(&high, bucket.tags + sizeof(low), sizeof(high));
    return MatchBits(low, tag) | (MatchBits(high, tag) << 8 & 0xfff);
  }
  // Bit i: byte i of `tags` equals `tag`.
  static uint32_t MatchBits(uint64_t tags, uint8_t tag) {
    constexpr uint64_t kLow = 0x7f7f7f7f7f7f7f7full;
    const uint64_t differ = tags ^ 0x0101010101010101ull * tag;
    // The high bit of a byte is set where the byte of `differ` is zero; no carry leaves a byte.
    const uint64_t zero = ~(((differ & kLow) + kLow) | differ | kLow);
    // Gathers the eight high bits in the highest byte.
    return static_cast<uint32_t>((zero >> 7) * 0x0102040810204080ull >> 56);
  }
  static uint32_t RowsIn(const Bucket& bucket) {
    return static_cast<uint32_t>(std::countr_zero(Matches(bucket, 0) | 1u << kRowsPerBucket));
  }

  bool NeedsSplit() const {
    return static_cast<double>(size_ + 1) * kBytesPerRow >=
           static_cast<double>((uint64_t{buckets_.count()} + overflow_.count() + 1) *
                               sizeof(Bucket));
  }

  // Moves the rows that belong to the next bucket there.
  template <typename HashOf>
  void Split(HashOf& hash_of) {
    Bucket part;
    uint32_t next = BeginSplit(part);
    for (;;) {
      // The rows' hashes first, all of them: their cache misses overlap.
      uint64_t hashes[kRowsPerBucket];
      const uint32_t count = RowsIn(part);
      for (uint32_t i = 0; i < count; ++i) hashes[i] = hash_of(part.rows[i]);
      for (uint32_t i = 0; i < count; ++i)
        Append(buckets_[PlaceOf(hashes[i])], part.tags[i], part.rows[i]);
      if (next == kNone) return;
      next = TakeOverflow(next, part);
    }
  }
  // Adds a bucket, empties the one it comes from into `part` and returns what was linked behind
  // that.
  uint32_t BeginSplit(Bucket& part);
  // Copies an overflow bucket into `part`, gives it back and returns what was linked behind it.
  uint32_t TakeOverflow(uint32_t index, Bucket& part);
  void Append(Bucket& first, uint8_t tag, RowIndex row);

  Buckets buckets_;
  uint32_t mask_ = 0;  // 2^k - 1
  uint64_t size_ = 0;
  Buckets overflow_;
  uint32_t unused_overflow_ = kNone;  // linked by `next`
};

}  // namespace kvtier
