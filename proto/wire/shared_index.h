// Layout of a tenant's index in shared memory: what a client can look up without asking.
//
// One memfd, written by the daemon alone, mapped read-only by the tenant's clients: a header page,
// the relocation log (relocation_log.h), buckets, rows. All fields are little-endian and atomic
// where they change; the header says where each region is. docs/shared_memory.md has the protocol.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "proto/wire/chunk_key.h"

namespace kvtier::wire {

// "kvtierix", little-endian.
inline constexpr uint64_t kIndexMagic = 0x786972656974766b;
// Another major is refused by name; a higher minor only adds.
inline constexpr uint32_t kIndexMajor = 1;
inline constexpr uint32_t kIndexMinor = 0;

inline constexpr uint64_t kIndexHeaderBytes = 4096;
inline constexpr uint64_t kLineBytes = 64;

struct alignas(64) IndexHeader {
  // Fixed before any client maps it.
  uint64_t magic;
  uint32_t major;
  uint32_t minor;
  uint64_t daemon_epoch;                   // as in AttachReply
  uint64_t hash_seed;                      // of KeyHash; the tenant's own
  uint64_t log_offset, log_entries;        // a power of two
  uint64_t buckets_offset, buckets_max;    // linear hashing grows up to a power of two
  uint64_t overflow_offset, overflow_max;  // further buckets of full chains
  uint64_t rows_offset, lines_max;         // lines of kLineBytes
  uint64_t total_bytes;
  uint8_t reserved[19 * 8];

  // Each on a line of its own: read and written at different rates.
  // Raised by each retirement. Release; readers acquire.
  alignas(64) std::atomic<uint64_t> retire_epoch;
  // Entries ever appended to the relocation log. Release; readers acquire.
  alignas(64) std::atomic<uint64_t> log_end;
  // Buckets in use: at least 1. Release after a new bucket is filled and before the old one is
  // emptied.
  alignas(64) std::atomic<uint64_t> bucket_count;
};
static_assert(sizeof(std::atomic<uint64_t>) == 8 && std::atomic<uint64_t>::is_always_lock_free);
static_assert(offsetof(IndexHeader, magic) == 0 && offsetof(IndexHeader, major) == 8 &&
              offsetof(IndexHeader, minor) == 12 && offsetof(IndexHeader, daemon_epoch) == 16 &&
              offsetof(IndexHeader, hash_seed) == 24 && offsetof(IndexHeader, log_offset) == 32 &&
              offsetof(IndexHeader, log_entries) == 40 &&
              offsetof(IndexHeader, buckets_offset) == 48 &&
              offsetof(IndexHeader, buckets_max) == 56 &&
              offsetof(IndexHeader, overflow_offset) == 64 &&
              offsetof(IndexHeader, overflow_max) == 72 &&
              offsetof(IndexHeader, rows_offset) == 80 && offsetof(IndexHeader, lines_max) == 88 &&
              offsetof(IndexHeader, total_bytes) == 96);
static_assert(offsetof(IndexHeader, retire_epoch) == 256);
static_assert(offsetof(IndexHeader, log_end) == 320);
static_assert(offsetof(IndexHeader, bucket_count) == 384);
static_assert(sizeof(IndexHeader) == 448 && sizeof(IndexHeader) <= kIndexHeaderBytes);

// One cache line. An entry is one word, so no reader ever sees half of one or waits for a writer:
//   63..32 tag: the hash's upper half    31..0 row's first line + 1
// Zero: empty. Release once the row is complete; readers acquire. Entries are in no order.
struct alignas(64) IndexBucket {
  static constexpr size_t kEntries = 7;
  std::atomic<uint64_t> entries[kEntries];
  // Number + 1 of the overflow bucket that goes on with this one; 0: none. Chains have at most
  // kChainMax buckets, the first included.
  std::atomic<uint64_t> next;
};
static_assert(sizeof(IndexBucket) == 64 && offsetof(IndexBucket, next) == 56);
inline constexpr uint32_t kChainMax = 8;

constexpr uint64_t PackEntry(uint32_t tag, uint32_t line) {
  return uint64_t{tag} << 32 | (line + 1);
}

// The bucket of a hash, when there are `count` of them (linear hashing, Litwin 1980).
constexpr uint64_t BucketOf(uint64_t hash, uint64_t count) {
  const uint64_t low = static_cast<uint32_t>(hash);
  const uint64_t mask = std::bit_ceil(count);
  const uint64_t bucket = low & (mask - 1);
  return bucket < count ? bucket : bucket & (mask / 2 - 1);
}

// A row: this header, then of all of the model's planes the best copies, then the second ones, then
// the checksums, a word each; a whole number of lines. Who reads all planes of a chunk needs the
// best copies only, and finds them side by side.
struct RowHeader {
  std::atomic<uint64_t> key[2];  // ChunkKey::low and high; relaxed: published by the entry
  // Generation above, parent's first line + 1 below (0: none). Release when the row goes; readers
  // are inside a section, where relaxed is enough: its lines stay the row's.
  std::atomic<uint64_t> identity;
  // 16 bits each, from above: token count, planes, model, flags (kRowVisible). Planes and model are
  // relaxed, like the key; the flag is the daemon's.
  std::atomic<uint64_t> shape;
};
static_assert(sizeof(RowHeader) == 32 && offsetof(RowHeader, identity) == 16 &&
              offsetof(RowHeader, shape) == 24);
inline constexpr uint64_t kRowVisible = 1;

constexpr uint64_t PackIdentity(uint32_t generation, uint32_t parent_line_plus_one) {
  return uint64_t{generation} << 32 | parent_line_plus_one;
}
constexpr uint64_t PackShape(uint16_t tokens, uint16_t planes, uint16_t model, uint16_t flags) {
  return uint64_t{tokens} << 48 | uint64_t{planes} << 32 | uint64_t{model} << 16 | flags;
}

// The words of one plane. `Word` is std::atomic<uint64_t>, for readers const.
template <typename Word>
struct RowPlane {
  Word& best;      // ResidencyWord; release, readers acquire
  Word& second;    // likewise
  Word& checksum;  // of both; written before a word that has it
};
inline constexpr uint64_t kPlaneBytes = 3 * sizeof(std::atomic<uint64_t>);

// `plane` below `planes`, which is the row's.
inline RowPlane<std::atomic<uint64_t>> PlaneOf(RowHeader* row, uint32_t planes, uint32_t plane) {
  auto* words = reinterpret_cast<std::atomic<uint64_t>*>(row + 1);
  return {words[plane], words[planes + plane], words[2 * planes + plane]};
}
inline RowPlane<const std::atomic<uint64_t>> PlaneOf(const RowHeader* row, uint32_t planes,
                                                     uint32_t plane) {
  const auto* words = reinterpret_cast<const std::atomic<uint64_t>*>(row + 1);
  return {words[plane], words[planes + plane], words[2 * planes + plane]};
}

// Lines that a row of so many planes takes.
constexpr uint64_t RowLines(uint64_t planes) {
  return (sizeof(RowHeader) + planes * kPlaneBytes + kLineBytes - 1) / kLineBytes;
}

// A row as clients and reports name it: generation above, first line below.
constexpr uint64_t PackRow(uint32_t generation, uint32_t line) {
  return uint64_t{generation} << 32 | line;
}

// Where a key of a model is looked for. Seeded, so that nobody outside the tenant can choose keys
// that meet in one bucket.
constexpr uint64_t KeyHash(uint64_t low, uint64_t high, uint32_t model, uint64_t seed) {
  uint64_t x = low ^ seed;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x ^= high + (uint64_t{model} + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}
inline uint64_t KeyHash(const ChunkKey& key, uint32_t model, uint64_t seed) {
  return KeyHash(key.low(), key.high(), model, seed);
}

}  // namespace kvtier::wire
