// Any bytes as an instance and a certificate: they are read or refused with a reason, what was read
// is written again as the same bytes, and what the verifier proves of them is a number.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "tests/support/bound/random_prices.h"
#include "tiering/base/check.h"
#include "tiering/bound/certificate.h"
#include "tiering/bound/instance_file.h"
#include "tiering/bound/naive_evaluation.h"
#include "tiering/bound/price_rounding.h"
#include "tiering/bound/verifier.h"

namespace kvtier::bound {
namespace {

// Work beyond this is for other tests.
constexpr uint64_t kBlockPhasesMax = 1 << 16;

void CheckReason(const absl::Status& status) {
  KVTIER_CHECK(!status.ok() && !status.message().empty());
  KVTIER_CHECK(absl::IsInvalidArgument(status) || absl::IsDataLoss(status) ||
               absl::IsFailedPrecondition(status));
}

uint64_t BlockPhases(const Instance& instance) {
  uint64_t sum = 0;
  for (size_t block = 0; block < instance.block_count(); ++block)
    sum += instance.death[block] - instance.birth[block];
  return sum;
}

// Equal shares, as they are rounded, prove no more than they are worth by the naive way.
void CheckBound(const Instance& instance) {
  Prices prices(instance.phase_count, instance.resources.size(), instance.tiers.size());
  std::fill(prices.share.begin(), prices.share.end(),
            1.0 / static_cast<double>(instance.resources.size()));
  const absl::StatusOr<Certificate> certificate = Certify(instance, prices);
  if (!certificate.ok()) return CheckReason(certificate.status());
  const absl::StatusOr<double> seconds = VerifiedSeconds(instance, *certificate);
  KVTIER_CHECK(seconds.ok());
  const Prices rounded = test_support::PricesOf(*certificate);
  const long double exact = EvaluateNaively(instance, rounded).bound_seconds;
  // Up to 2^16 sums of a long double's 64 bits.
  KVTIER_CHECK(*seconds <= exact * (1 + 1e-14L) && std::isfinite(*seconds));
}

void TryBoth(std::string_view instance_bytes, std::string_view certificate_bytes) {
  const absl::StatusOr<Certificate> certificate = ReadCertificate(certificate_bytes);
  if (certificate.ok()) {
    KVTIER_CHECK(CertificateBytes(*certificate) == certificate_bytes);
  } else {
    CheckReason(certificate.status());
  }
  const absl::StatusOr<Instance> instance = ReadInstance(instance_bytes);
  if (!instance.ok()) return CheckReason(instance.status());
  KVTIER_CHECK(InstanceBytes(*instance) == instance_bytes);
  if (BlockPhases(*instance) > kBlockPhasesMax) return;
  CheckBound(*instance);
  if (!certificate.ok()) return;
  const absl::StatusOr<double> seconds = VerifiedSeconds(*instance, *certificate);
  if (!seconds.ok()) CheckReason(seconds.status());
  const absl::StatusOr<__int128> proven = ProvenQuanta(*instance, *certificate);
  if (!proven.ok()) CheckReason(proven.status());
}

}  // namespace
}  // namespace kvtier::bound

// The first four bytes say how many that follow are the instance; the rest is the certificate.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint32_t length = 0;
  if (size < sizeof(length)) return 0;
  std::memcpy(&length, data, sizeof(length));
  const std::string_view rest(reinterpret_cast<const char*>(data) + sizeof(length),
                              size - sizeof(length));
  const size_t instance_size = std::min<size_t>(length, rest.size());
  kvtier::bound::TryBoth(rest.substr(0, instance_size), rest.substr(instance_size));
  return 0;
}
