// Prices as integers and the bound they prove, as a file that another program can check.
//
// All integers are little-endian. In order:
//   8 bytes "KVTIERCB", u32 version (1)
//   32 bytes digest of the instance (instance_file.h)
//   u64 quanta per second
//   u32 phases, u32 resources, u32 tiers
//   u64 and i64: low and high half of the claimed bound, in quanta
//   u64 shares for phases x resources, in units of 2^-40
//   u64 room for phases x tiers, in units of 2^-32 quanta a byte
//   32 bytes SHA-256 of all before
// and nothing more. verifier.h says what the numbers mean and how the bound follows.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/wire/sha256.h"

namespace kvtier::bound {

inline constexpr int kShareBits = 40;  // shares of a phase sum to at most 2^40
inline constexpr int kRoomBits = 32;
inline constexpr uint64_t kQuantaPerSecondMax = uint64_t{1} << 54;
inline constexpr uint64_t kRoomMax = uint64_t{1} << 60;

// Plain data; what is in it is for the verifier to judge.
struct Certificate {
  wire::Sha256Digest instance_digest{};
  uint64_t quanta_per_second = 0;
  uint32_t phase_count = 0;
  uint32_t resource_count = 0;
  uint32_t tier_count = 0;
  __int128 claimed_quanta = 0;
  std::vector<uint64_t> share;  // [phase][resource]
  std::vector<uint64_t> room;   // [phase][tier]
  friend bool operator==(const Certificate& a, const Certificate& b) = default;
};

std::string CertificateBytes(const Certificate& certificate);

// INVALID_ARGUMENT names the byte where it is not a file of this kind; DATA_LOSS if it is one whose
// checksum is not that of its bytes. Memory stays in proportion to the file's size.
absl::StatusOr<Certificate> ReadCertificate(std::string_view bytes);

}  // namespace kvtier::bound
