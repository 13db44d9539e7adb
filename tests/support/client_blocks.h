// Chunks whose bytes follow from their keys, stored and read back through the client library:
// whoever reads can tell whether it was handed the block it asked for, whole. No gtest: helper
// programs use this as well.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kvtier/client.h"

namespace kvtier::test_support {

// Three planes of unequal size, none a multiple of the checksum's 4 KiB pieces; one spans several.
ModelGeometry UnequalModel(absl::string_view name = "unequal");
// The same of two ranks: the last plane is rank 1's, the others are rank 0's.
ModelGeometry RankedModel();

// `count` tokens that follow from `seed`; a longer list starts with the shorter one.
std::vector<uint32_t> ChainTokens(uint64_t seed, size_t count);
// Keys of `chunks` chunks of those tokens; the last one has `tail_tokens` tokens (0: it is full).
std::vector<Key> ChainKeys(const Model& model, uint64_t seed, size_t chunks,
                           uint32_t tail_tokens = 0);

std::vector<std::byte> BlockBytes(const Key& key, uint32_t plane, uint64_t bytes);

std::string KeyHex(const Key& key);
// INVALID_ARGUMENT unless it is 32 hexadecimal digits.
absl::StatusOr<Key> KeyFromHex(absl::string_view hex);

// Chunks `first` to `first + count - 1` of a chain. The chain's keys outlive it.
struct ChainPart {
  absl::Span<const Key> keys;
  size_t first = 0;
  size_t count = 0;
  uint32_t tail_tokens = 0;  // of the last key of the chain; 0: it is full

  Key parent() const { return first == 0 ? Key{} : keys[first - 1]; }
};

absl::StatusOr<ReservationHandle> ReserveChunks(Client& client, const Model& model,
                                                const ChainPart& part);
// Puts the blocks number `begin` to `end - 1` of the part, counted plane by plane within chunk by
// chunk, each scattered over three pieces of memory.
absl::Status PutBlocks(Client& client, const Model& model, ReservationHandle reservation,
                       const ChainPart& part, size_t begin, size_t end);
// Commits the part's first `count` chunks; `planes` empty: all.
absl::StatusOr<std::vector<CommitResult>> CommitChunks(Client& client, const Model& model,
                                                       ReservationHandle reservation,
                                                       const ChainPart& part, size_t count,
                                                       const std::vector<uint32_t>& planes = {});
// All of it: reserve, put, commit.
absl::StatusOr<std::vector<CommitResult>> StoreChunks(Client& client, const Model& model,
                                                      const ChainPart& part);

// Compares every block of the lease's chunks `first` to `end - 1` where it lies. INTERNAL where it
// has other bytes than its own.
absl::Status CompareInPlace(ReadSection& section, const Model& model, LeaseHandle lease,
                            absl::Span<const Key> keys, uint32_t first, uint32_t end);
// As ReadChunks, but in place, in one read section.
absl::StatusOr<uint32_t> ReadChunksInPlace(Client& client, const Model& model,
                                           absl::Span<const Key> keys);

// Leases the longest known prefix of `keys`, reads every block of it and releases the lease.
// Returns how many chunks matched; INTERNAL where a block has other bytes than its own.
absl::StatusOr<uint32_t> ReadChunks(Client& client, const Model& model, absl::Span<const Key> keys);
// The same on a lease that is held already, for the first `chunks` chunks.
absl::Status ReadLease(Client& client, const Model& model, LeaseHandle lease,
                       absl::Span<const Key> keys, uint32_t chunks);

}  // namespace kvtier::test_support
