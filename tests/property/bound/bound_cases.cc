// Writes small instances with certificates, right and wrong ones, and what the verifier says of
// them: bound_cases FOLDER COUNT SEED. In FOLDER: N.instance, N.certificate, and verdicts, a line
// each: the number, the quanta proven or "none", and "holds" or "refused".
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/numeric/int128.h"
#include "tests/support/bound/random_instance.h"
#include "tests/support/bound/random_prices.h"
#include "tiering/base/rng.h"
#include "tiering/bound/instance_file.h"
#include "tiering/bound/price_rounding.h"
#include "tiering/bound/verifier.h"

namespace kvtier::bound {
namespace {

// Every other certificate is left as it is.
void Change(Certificate& certificate, Rng& rng) {
  switch (rng.Below(12)) {
    case 0:
      certificate.claimed_quanta += 1;
      break;
    case 1:
      certificate.claimed_quanta -= static_cast<__int128>(rng.Below(1000)) << 60;
      break;
    case 2:
      certificate.share[rng.Below(certificate.share.size())] ^= uint64_t{1}
                                                                << rng.Below(kShareBits + 1);
      break;
    case 3:
      certificate.room[rng.Below(certificate.room.size())] ^= uint64_t{1} << rng.Below(50);
      break;
    case 4:
      certificate.quanta_per_second -= rng.Below(certificate.quanta_per_second);
      break;
    case 5:
      certificate.instance_digest[rng.Below(32)] ^= 1;
      break;
    default:
      break;
  }
}

int Write(const std::string& folder, uint64_t count, uint64_t seed) {
  Rng rng(seed);
  std::ofstream verdicts(folder + "/verdicts");
  for (uint64_t i = 0; i < count; ++i) {
    // Few of sixteen states, which take long one by one.
    const bool four = i % 30 == 17;
    const test_support::BoundModel model =
        four ? test_support::BoundModel::kFourTiers
             : test_support::kBoundModels[i % test_support::kBoundModels.size()];
    // Now and then classes of many blocks that live through more phases than a window of the
    // verifier has.
    test_support::RandomSize size{8, 12};
    if (i % 120 < 6) size = {40, 600};
    if (four) size = {4, 12};
    Instance instance = test_support::RandomInstance(model, size, rng);
    // Numbers as machines have them, so that integers of the usual size are tried.
    const uint64_t bytes_scale = 1 + rng.Below(uint64_t{1} << 20);
    const uint64_t rate_scale = 1 + rng.Below(uint64_t{1} << 38);
    for (BlockClass& block_class : instance.classes) {
      block_class.bytes *= bytes_scale;
      block_class.recompute_units *= rate_scale / 1000 + 1;
    }
    for (Tier& tier : instance.tiers) tier.capacity_bytes *= bytes_scale;
    for (Resource& resource : instance.resources) resource.units_per_second *= rate_scale;
    for (uint64_t& load : instance.base_load) load *= bytes_scale;
    const absl::StatusOr<Certificate> made =
        Certify(instance, test_support::SearchPrices(instance, 50, rng));
    if (!made.ok()) return std::fprintf(stderr, "%s\n", made.status().ToString().c_str()), 1;
    Certificate certificate = *made;
    Change(certificate, rng);
    const std::string name = folder + "/" + std::to_string(i);
    std::ofstream(name + ".instance", std::ios::binary) << InstanceBytes(instance);
    std::ofstream(name + ".certificate", std::ios::binary) << CertificateBytes(certificate);
    const absl::StatusOr<__int128> proven = ProvenQuanta(instance, certificate);
    verdicts << i << ' ';
    if (proven.ok()) {
      verdicts << absl::int128(*proven);
    } else {
      verdicts << "none";
    }
    verdicts << (VerifiedSeconds(instance, certificate).ok() ? " holds\n" : " refused\n");
  }
  return verdicts.good() ? 0 : 1;
}

}  // namespace
}  // namespace kvtier::bound

int main(int argc, char** argv) {
  if (argc != 4) return std::fputs("usage: bound_cases FOLDER COUNT SEED\n", stderr), 2;
  return kvtier::bound::Write(argv[1], std::strtoull(argv[2], nullptr, 10),
                              std::strtoull(argv[3], nullptr, 10));
}
