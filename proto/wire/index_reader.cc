#include "proto/wire/index_reader.h"

#include <algorithm>
#include <array>
#include <bit>

#include "absl/strings/str_format.h"

namespace kvtier::wire {
namespace {

// A bucket may be split under a reader; each further try needs another split.
constexpr int kTriesMax = 16;
// As many at once as callers usually have: the more, the less the rounds wait for each other.
constexpr size_t kGroup = 64;
// More than that of each row would push each other out of the cache.
constexpr uint32_t kPlanesAheadMax = 128;

bool Fits(uint64_t offset, uint64_t count, uint64_t each, uint64_t align, uint64_t total) {
  return offset % align == 0 && offset <= total && count <= (total - offset) / each;
}

}  // namespace

std::optional<IndexReader> IndexReader::Create(absl::Span<const std::byte> bytes,
                                               std::string& why) {
  if (bytes.size() < kIndexHeaderBytes) {
    why = absl::StrFormat("the index has %d bytes; its header alone has %d", bytes.size(),
                          kIndexHeaderBytes);
    return std::nullopt;
  }
  const auto* header = reinterpret_cast<const IndexHeader*>(bytes.data());
  if (header->magic != kIndexMagic) {
    why =
        absl::StrFormat("the index begins with %016x instead of %016x", header->magic, kIndexMagic);
    return std::nullopt;
  }
  if (header->major != kIndexMajor) {
    why = absl::StrFormat("the index has layout %d.%d; this client reads %d.x", header->major,
                          header->minor, kIndexMajor);
    return std::nullopt;
  }
  IndexReader reader;
  reader.header_ = header;
  reader.seed_ = header->hash_seed;
  reader.log_entries_ = header->log_entries;
  reader.buckets_max_ = header->buckets_max;
  reader.overflow_max_ = header->overflow_max;
  reader.lines_max_ = header->lines_max;
  const uint64_t total = bytes.size();
  const bool fits =
      header->total_bytes <= total && std::has_single_bit(header->log_entries) &&
      std::has_single_bit(header->buckets_max) && header->lines_max < uint64_t{1} << 32 &&
      Fits(header->log_offset, header->log_entries, sizeof(RelocationEntry), 64, total) &&
      Fits(header->buckets_offset, header->buckets_max, sizeof(IndexBucket), 64, total) &&
      Fits(header->overflow_offset, header->overflow_max, sizeof(IndexBucket), 64, total) &&
      Fits(header->rows_offset, header->lines_max, kLineBytes, 64, total);
  if (!fits) {
    why = absl::StrFormat("the index's regions do not fit into its %d bytes", total);
    return std::nullopt;
  }
  const auto at = [&](uint64_t offset) { return bytes.data() + offset; };
  reader.log_ = reinterpret_cast<const RelocationEntry*>(at(header->log_offset));
  reader.buckets_ = reinterpret_cast<const IndexBucket*>(at(header->buckets_offset));
  reader.overflow_ = reinterpret_cast<const IndexBucket*>(at(header->overflow_offset));
  reader.rows_ = at(header->rows_offset);
  return reader;
}

IndexReader::Row IndexReader::RowAt(uint64_t line) const {
  Row row;
  if (line >= lines_max_) return row;
  const auto* header = reinterpret_cast<const RowHeader*>(rows_ + line * kLineBytes);
  const uint64_t shape = header->shape.load(std::memory_order_relaxed);
  const auto planes = static_cast<uint16_t>(shape >> 32);
  if (RowLines(planes) > lines_max_ - line) return row;
  row.header = header;
  row.line = static_cast<uint32_t>(line);
  row.generation = static_cast<uint32_t>(header->identity.load(std::memory_order_relaxed) >> 32);
  row.planes = planes;
  return row;
}

bool IndexReader::Is(const Row& row, const ChunkKey& key, uint32_t model) {
  return row.header->key[0].load(std::memory_order_relaxed) == key.low() &&
         row.header->key[1].load(std::memory_order_relaxed) == key.high() &&
         (row.header->shape.load(std::memory_order_relaxed) >> 16 & 0xffff) == model;
}

IndexReader::Row IndexReader::FindInBucket(uint64_t number, uint64_t hash, const ChunkKey& key,
                                           uint32_t model) const {
  const auto tag = static_cast<uint32_t>(hash >> 32);
  const IndexBucket* bucket = &buckets_[number];
  for (uint32_t link = 0; link < kChainMax; ++link) {
    for (const std::atomic<uint64_t>& slot : bucket->entries) {
      // Acquire: the row was complete before its entry.
      const uint64_t entry = slot.load(std::memory_order_acquire);
      if (static_cast<uint32_t>(entry >> 32) != tag || static_cast<uint32_t>(entry) == 0) continue;
      const Row row = RowAt(static_cast<uint32_t>(entry) - 1);
      if (row && Is(row, key, model)) {
        return row;
      }
    }
    const uint64_t next = bucket->next.load(std::memory_order_acquire);
    if (next == 0 || next > overflow_max_) break;
    bucket = &overflow_[next - 1];
  }
  return Row();
}

IndexReader::Row IndexReader::Find(const ChunkKey& key, uint32_t model) const {
  return FindHashed(KeyHash(key, model, seed_), key, model);
}

IndexReader::Row IndexReader::FindHashed(uint64_t hash, const ChunkKey& key, uint32_t model) const {
  uint64_t count = header_->bucket_count.load(std::memory_order_acquire);
  for (int tries = 0; tries < kTriesMax; ++tries) {
    if (count == 0 || count > buckets_max_) return Row();
    const Row row = FindInBucket(BucketOf(hash, count), hash, key, model);
    if (row) return row;
    // An entry leaves a bucket that is split only after the count says where it is now.
    std::atomic_thread_fence(std::memory_order_acquire);
    const uint64_t now = header_->bucket_count.load(std::memory_order_acquire);
    if (now == count) return Row();
    count = now;
  }
  return Row();
}

// In rounds, so that the cache misses of all keys overlap: their buckets, then what those link to
// for the few that are not there, then what the caller wants of the rows that look right, and last
// the rows themselves. What was not found that way (under the tag of another key, or just being
// split) is looked for the long way.
template <typename Ahead>
void IndexReader::FindGroup(absl::Span<const ChunkKey> keys, uint32_t model, absl::Span<Row> rows,
                            Ahead ahead) const {
  std::array<uint64_t, kGroup> hashes;
  std::array<const IndexBucket*, kGroup> buckets;
  std::array<uint64_t, kGroup> lines;
  std::array<uint8_t, kGroup> open;  // keys whose bucket is to be looked at
  uint64_t count = header_->bucket_count.load(std::memory_order_acquire);
  if (count == 0 || count > buckets_max_) count = 1;  // a broken index
  for (size_t i = 0; i < keys.size(); ++i) {
    hashes[i] = KeyHash(keys[i], model, seed_);
    buckets[i] = &buckets_[BucketOf(hashes[i], count)];
    __builtin_prefetch(buckets[i]);
    open[i] = static_cast<uint8_t>(i);
  }
  size_t open_count = keys.size();
  for (uint32_t link = 0; link < kChainMax && open_count > 0; ++link) {
    size_t left = 0;
    for (size_t k = 0; k < open_count; ++k) {
      const size_t i = open[k];
      const uint64_t tag = hashes[i] >> 32;
      // Without branches: where in the bucket an entry is cannot be foreseen.
      uint64_t match = 0;
      for (const std::atomic<uint64_t>& slot : buckets[i]->entries) {
        const uint64_t entry = slot.load(std::memory_order_acquire);
        match = entry >> 32 == tag ? entry : match;
      }
      lines[i] = static_cast<uint32_t>(match) - uint64_t{1};
      if (lines[i] < lines_max_) {
        ahead(i, rows_ + lines[i] * kLineBytes);
        continue;
      }
      const uint64_t next = buckets[i]->next.load(std::memory_order_acquire);
      if (next == 0 || next > overflow_max_) continue;
      buckets[i] = &overflow_[next - 1];
      __builtin_prefetch(buckets[i]);
      open[left++] = static_cast<uint8_t>(i);
    }
    open_count = left;
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    rows[i] = RowAt(lines[i]);
    if (!rows[i] || !Is(rows[i], keys[i], model)) rows[i] = FindHashed(hashes[i], keys[i], model);
  }
}

void IndexReader::FindAll(absl::Span<const ChunkKey> keys, uint32_t model, absl::Span<Row> rows,
                          uint32_t planes_ahead) const {
  const uint64_t bytes_ahead =
      sizeof(RowHeader) + std::min(planes_ahead, kPlanesAheadMax) * sizeof(uint64_t);
  for (size_t first = 0; first < keys.size(); first += kGroup) {
    // Prefetching an address that is not mapped does nothing, so no check is needed.
    FindGroup(keys.subspan(first, kGroup), model, rows.subspan(first, kGroup),
              [bytes_ahead](size_t, const std::byte* row) {
                for (uint64_t at = 0; at < bytes_ahead; at += kLineBytes)
                  __builtin_prefetch(row + at);
              });
  }
}

void IndexReader::ResolveAll(absl::Span<const ChunkKey> keys, uint32_t model,
                             absl::Span<const uint32_t> planes,
                             absl::Span<ResidencyWord> words) const {
  std::array<Row, kGroup> rows;
  for (size_t first = 0; first < keys.size(); first += kGroup) {
    const absl::Span<const ChunkKey> some = keys.subspan(first, kGroup);
    FindGroup(some, model, absl::MakeSpan(rows), [&](size_t i, const std::byte* row) {
      __builtin_prefetch(row);
      __builtin_prefetch(row + sizeof(RowHeader) + planes[first + i] * sizeof(uint64_t));
    });
    for (size_t i = 0; i < some.size(); ++i) words[first + i] = Resolve(rows[i], planes[first + i]);
  }
}

IndexReader::Row IndexReader::At(uint64_t row_name) const {
  const Row row = RowAt(static_cast<uint32_t>(row_name));
  return row && row.generation == static_cast<uint32_t>(row_name >> 32) ? row : Row();
}

}  // namespace kvtier::wire
