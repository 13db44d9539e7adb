#include "tiering/bound/certificate.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/strings/str_format.h"
#include "tiering/bound/byte_cursor.h"

namespace kvtier::bound {
namespace {

constexpr std::string_view kCertificateMagic = "KVTIERCB";
constexpr uint32_t kCertificateVersion = 1;

template <typename T>
void Append(std::string& bytes, const T* values, size_t count) {
  if (count != 0) bytes.append(reinterpret_cast<const char*>(values), count * sizeof(T));
}

wire::Sha256Digest DigestOf(std::string_view bytes) {
  wire::Sha256 hash;
  hash.Raw(bytes.data(), bytes.size());
  return hash.Finish();
}

}  // namespace

std::string CertificateBytes(const Certificate& certificate) {
  std::string bytes(kCertificateMagic);
  Append(bytes, &kCertificateVersion, 1);
  Append(bytes, certificate.instance_digest.data(), certificate.instance_digest.size());
  Append(bytes, &certificate.quanta_per_second, 1);
  for (const uint32_t count :
       {certificate.phase_count, certificate.resource_count, certificate.tier_count})
    Append(bytes, &count, 1);
  const auto low = static_cast<uint64_t>(certificate.claimed_quanta);
  const auto high = static_cast<int64_t>(certificate.claimed_quanta >> 64);
  Append(bytes, &low, 1);
  Append(bytes, &high, 1);
  Append(bytes, certificate.share.data(), certificate.share.size());
  Append(bytes, certificate.room.data(), certificate.room.size());
  const wire::Sha256Digest checksum = DigestOf(bytes);
  Append(bytes, checksum.data(), checksum.size());
  return bytes;
}

absl::StatusOr<Certificate> ReadCertificate(std::string_view bytes) {
  ByteCursor in(bytes);
  if (in.TakeText(kCertificateMagic.size(), "bytes of the file's kind") != kCertificateMagic)
    return absl::InvalidArgumentError("at byte 0: this is no certificate");
  const auto version = in.Take<uint32_t>("version");
  if (in.status().ok() && version != kCertificateVersion)
    return absl::InvalidArgumentError(
        absl::StrFormat("at byte 8: version %d of the certificate; this program reads %d", version,
                        kCertificateVersion));
  Certificate certificate;
  certificate.instance_digest = in.Take<wire::Sha256Digest>("digest");
  certificate.quanta_per_second = in.Take<uint64_t>("quanta per second");
  certificate.phase_count = in.Take<uint32_t>("phases");
  certificate.resource_count = in.Take<uint32_t>("resources");
  certificate.tier_count = in.Take<uint32_t>("tiers");
  const auto low = in.Take<uint64_t>("claimed bound");
  const auto high = in.Take<int64_t>("claimed bound");
  certificate.claimed_quanta =
      static_cast<__int128>(static_cast<unsigned __int128>(high) << 64 | low);
  certificate.share = in.TakeArray<uint64_t>(
      uint64_t{certificate.phase_count} * certificate.resource_count, "shares");
  certificate.room = in.TakeArray<uint64_t>(
      uint64_t{certificate.phase_count} * certificate.tier_count, "prices of room");
  const size_t covered = in.position();
  const auto checksum = in.Take<wire::Sha256Digest>("checksum");
  if (in.left() != 0) in.Fail(absl::StrFormat("%d bytes more than there should be", in.left()));
  if (!in.status().ok()) return in.status();
  if (checksum != DigestOf(bytes.substr(0, covered)))
    return absl::DataLossError("the certificate's checksum is not that of its bytes");
  return certificate;
}

}  // namespace kvtier::bound
