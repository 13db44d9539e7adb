#include "tiering/block/block_index.h"

#include <new>

#include "tiering/base/check.h"

namespace kvtier {
namespace {

constexpr std::align_val_t kBucketAlignment{64};

}  // namespace

void BlockIndex::Buckets::FreePage::operator()(Page* page) const {
  ::operator delete(page, kBucketAlignment);
}

BlockIndex::Bucket& BlockIndex::Buckets::Add() {
  if (count_ % kPageBuckets == 0) {
    // Buckets are set up one by one, so that memory is touched only as it is needed.
    pages_.emplace_back(static_cast<Page*>(::operator new(sizeof(Page), kBucketAlignment)));
  }
  Bucket* const bucket = new (&(*this)[count_]) Bucket{};
  bucket->next = kNone;
  ++count_;
  return *bucket;
}

BlockIndex::BlockIndex() { buckets_.Add(); }

BlockIndex::~BlockIndex() = default;

uint32_t BlockIndex::BeginSplit(Bucket& part) {
  const uint32_t added = buckets_.count();
  KVTIER_CHECK(added < kNone);
  if (added > mask_) mask_ = mask_ << 1 | 1;
  buckets_.Add();
  Bucket& from = buckets_[added & mask_ >> 1];
  part = from;
  from = Bucket{};
  from.next = kNone;
  return part.next;
}

uint32_t BlockIndex::TakeOverflow(uint32_t index, Bucket& part) {
  Bucket& bucket = overflow_[index];
  part = bucket;
  bucket.next = unused_overflow_;
  unused_overflow_ = index;
  return part.next;
}

void BlockIndex::Append(Bucket& first, uint8_t tag, RowIndex row) {
  Bucket* bucket = &first;
  uint32_t at = RowsIn(*bucket);
  if (at == kRowsPerBucket && first.next != kNone) {
    bucket = &overflow_[first.next];
    at = RowsIn(*bucket);
  }
  if (at == kRowsPerBucket) {
    uint32_t index = unused_overflow_;
    if (index != kNone) {
      unused_overflow_ = overflow_[index].next;
    } else {
      index = overflow_.count();
      KVTIER_CHECK(index < kNone);
      overflow_.Add();
    }
    bucket = &overflow_[index];
    *bucket = Bucket{};
    bucket->next = first.next;
    first.next = index;
    at = 0;
  }
  bucket->tags[at] = tag;
  bucket->rows[at] = row;
}

void BlockIndex::Erase(uint64_t hash, RowIndex row) {
  const uint8_t tag = TagOf(hash);
  Bucket& first = buckets_[PlaceOf(hash)];
  Bucket* bucket = &first;
  uint32_t at = kRowsPerBucket;
  for (;;) {
    for (uint32_t matches = Matches(*bucket, tag); matches != 0; matches &= matches - 1) {
      at = static_cast<uint32_t>(std::countr_zero(matches));
      if (bucket->rows[at] == row) break;
      at = kRowsPerBucket;
    }
    if (at < kRowsPerBucket) break;
    KVTIER_CHECK(bucket->next != kNone && "the row is not in the index");
    bucket = &overflow_[bucket->next];
  }
  // The last row of the bucket that may have room takes its place.
  const uint32_t last_index = first.next;
  Bucket& last = last_index == kNone ? first : overflow_[last_index];
  const uint32_t last_at = RowsIn(last) - 1;
  bucket->tags[at] = last.tags[last_at];
  bucket->rows[at] = last.rows[last_at];
  last.tags[last_at] = 0;
  if (last_at == 0 && last_index != kNone) {
    first.next = last.next;
    last.next = unused_overflow_;
    unused_overflow_ = last_index;
  }
  --size_;
}

Bytes BlockIndex::metadata_bytes() const {
  return Bytes(static_cast<int64_t>(sizeof(*this) + buckets_.bytes() + overflow_.bytes()));
}

}  // namespace kvtier
