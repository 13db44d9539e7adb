#include "tiering/share/index_buckets.h"

#include <array>

#include "tiering/base/check.h"
#include "tiering/share/index_layout.h"
#include "tiering/share/memory_order.h"

namespace kvtier {
namespace {

using wire::IndexBucket;

bool IsEmpty(const IndexBucket& bucket) {
  for (const auto& entry : bucket.entries) {
    if (entry.load(kRelaxed) != 0) return false;
  }
  return true;
}

}  // namespace

IndexBuckets::IndexBuckets(std::byte* index)
    : header_(reinterpret_cast<wire::IndexHeader*>(index)),
      buckets_(reinterpret_cast<IndexBucket*>(index + header_->buckets_offset)),
      overflow_(reinterpret_cast<IndexBucket*>(index + header_->overflow_offset)),
      rows_(index + header_->rows_offset) {
  header_->bucket_count.store(count_, kRelease);
}

uint64_t IndexBuckets::HashOf(uint32_t line) const {
  const auto& row = *reinterpret_cast<const wire::RowHeader*>(rows_ + line * wire::kLineBytes);
  const uint64_t low = row.key[0].load(kRelaxed), high = row.key[1].load(kRelaxed);
  const auto model = static_cast<uint32_t>(row.shape.load(kRelaxed) >> 16 & 0xffff);
  return wire::KeyHash(low, high, model, header_->hash_seed);
}

bool IndexBuckets::Append(IndexBucket& first, uint64_t entry) {
  IndexBucket* bucket = &first;
  for (uint32_t length = 1;; ++length) {
    for (auto& place : bucket->entries) {
      if (place.load(kRelaxed) != 0) continue;
      place.store(entry, kRelease);
      return true;
    }
    const uint64_t next = bucket->next.load(kRelaxed);
    if (next != 0) {
      bucket = &Overflow(next);
      continue;
    }
    if (length == wire::kChainMax) return false;
    break;
  }
  uint32_t number;
  if (!free_overflow_.empty()) {
    number = free_overflow_.back();
    free_overflow_.pop_back();
  } else if (overflow_end_ < header_->overflow_max) {
    number = overflow_end_++;
  } else {
    return false;
  }
  IndexBucket& added = overflow_[number];
  added.next.store(0, kRelaxed);
  added.entries[0].store(entry, kRelaxed);
  bucket->next.store(uint64_t{number} + 1, kRelease);
  return true;
}

bool IndexBuckets::Insert(uint32_t line, RetireOverflow retire) {
  if (size_ >= count_ * IndexLayout::kRowsPerBucket && count_ < header_->buckets_max) Split(retire);
  const uint64_t hash = HashOf(line);
  const auto tag = static_cast<uint32_t>(hash >> 32);
  if (!Append(buckets_[wire::BucketOf(hash, count_)], wire::PackEntry(tag, line))) return false;
  ++size_;
  return true;
}

bool IndexBuckets::Erase(uint32_t line, RetireOverflow retire) {
  const uint64_t hash = HashOf(line);
  const uint64_t wanted = wire::PackEntry(static_cast<uint32_t>(hash >> 32), line);
  IndexBucket& first = buckets_[wire::BucketOf(hash, count_)];
  for (IndexBucket* bucket = &first;;) {
    for (auto& entry : bucket->entries) {
      if (entry.load(kRelaxed) != wanted) continue;
      entry.store(0, kRelease);
      --size_;
      if (bucket != &first && IsEmpty(*bucket)) UnlinkEmpty(first, retire);
      return true;
    }
    const uint64_t next = bucket->next.load(kRelaxed);
    if (next == 0) return false;
    bucket = &Overflow(next);
  }
}

void IndexBuckets::UnlinkEmpty(IndexBucket& first, RetireOverflow retire) {
  for (IndexBucket* bucket = &first;;) {
    const uint64_t next = bucket->next.load(kRelaxed);
    if (next == 0) return;
    IndexBucket& after = Overflow(next);
    if (!IsEmpty(after)) {
      bucket = &after;
      continue;
    }
    // Its own link stays: a reader in it goes on to what follows.
    bucket->next.store(after.next.load(kRelaxed), kRelease);
    retire(static_cast<uint32_t>(next - 1));
  }
}

void IndexBuckets::Discard(IndexBucket& first) {
  for (IndexBucket* bucket = &first;;) {
    for (auto& entry : bucket->entries) entry.store(0, kRelaxed);
    const uint64_t next = bucket->next.load(kRelaxed);
    if (bucket != &first) bucket->next.store(0, kRelaxed);
    if (next == 0) break;
    FreeOverflow(static_cast<uint32_t>(next - 1));
    bucket = &Overflow(next);
  }
  first.next.store(0, kRelaxed);
}

void IndexBuckets::Split(RetireOverflow retire) {
  const uint64_t added = count_;
  IndexBucket& to = buckets_[added];
  IndexBucket& from = buckets_[added & (std::bit_ceil(added + 1) / 2 - 1)];
  std::array<std::atomic<uint64_t>*, kChainEntries> places;
  size_t in_chain = 0;
  // The rows first, all of them: their cache misses overlap.
  for (IndexBucket* bucket = &from;;) {
    for (auto& place : bucket->entries) {
      const auto line_plus_one = static_cast<uint32_t>(place.load(kRelaxed));
      if (line_plus_one == 0) continue;
      KVTIER_CHECK(in_chain < places.size());
      places[in_chain++] = &place;
      __builtin_prefetch(rows_ + uint64_t{line_plus_one - 1} * wire::kLineBytes);
    }
    const uint64_t next = bucket->next.load(kRelaxed);
    if (next == 0) break;
    bucket = &Overflow(next);
  }
  size_t moved = 0;
  for (size_t i = 0; i < in_chain; ++i) {
    const uint64_t entry = places[i]->load(kRelaxed);
    const uint64_t hash = HashOf(static_cast<uint32_t>(entry) - 1);
    if (wire::BucketOf(hash, added + 1) != added) continue;
    if (!Append(to, entry)) {  // no overflow bucket is left: another time
      Discard(to);
      return;
    }
    places[moved++] = places[i];
  }
  // From here on readers look in the new bucket; one that looked in the old one and misses what is
  // removed next sees the new count.
  ++count_;
  header_->bucket_count.store(count_, kRelease);
  for (size_t i = 0; i < moved; ++i) places[i]->store(0, kRelease);
  UnlinkEmpty(from, retire);
}

}  // namespace kvtier
