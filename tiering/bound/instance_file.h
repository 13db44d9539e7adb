// An instance as bytes: to be kept, to be checked by other programs, and to be told apart from
// others.
//
// All integers are little-endian. In order:
//   8 bytes "KVTIERPI", u32 version (1)
//   u32 tiers, u32 resources, u32 compute resource (255: none), u32 tables, u32 classes,
//   u32 phases, u64 blocks, u64 accesses
//   each tier: u64 capacity in bytes, u32 length of its name, the name
//   each resource: u64 units per second, u32 length of its name, the name
//   each table: u32 states, u32 most accesses in a phase, a byte for each state's tier set; then
//     for accesses, for state before, for state after: u32 options, and each option as u16 units
//     of each resource for a byte and u16 recomputations
//   each class: u64 bytes, u64 units to recompute it, u32 table, u32 start states
//   base loads: u64 for phases x resources
//   u32 class of each block, u32 births, u32 deaths, u64 first accesses (one more than blocks),
//   u32 phase of each access
// and nothing more. An instance has one form, so that its digest is the file's SHA-256.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "proto/wire/sha256.h"
#include "tiering/bound/instance.h"

namespace kvtier::bound {

// Hands the file's bytes to `sink`, a piece at a time. The instance passed Check.
void WriteInstance(const Instance& instance, absl::FunctionRef<void(std::string_view)> sink);
std::string InstanceBytes(const Instance& instance);

// INVALID_ARGUMENT names the byte where it is not a file of this kind, or what Check found. Memory
// stays in proportion to the file's size, whatever counts it declares.
absl::StatusOr<Instance> ReadInstance(std::string_view bytes);

// Tells instances apart; it does not say who made them.
wire::Sha256Digest InstanceDigest(const Instance& instance);

}  // namespace kvtier::bound
