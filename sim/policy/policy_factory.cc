#include "sim/policy/policy_factory.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sim/policy/attention_policies.h"
#include "sim/policy/future_policy.h"
#include "sim/policy/static_fill_policy.h"
#include "tiering/plan/lfu_policy.h"
#include "tiering/plan/lru_policy.h"
#include "tiering/plan/s3fifo_policy.h"

namespace kvtier::sim {
namespace {

template <typename Policy>
std::unique_ptr<PlacementPolicy> Online(AccessFuture*, const LookAhead&) {
  return std::make_unique<Policy>();
}
template <typename Policy>
std::unique_ptr<PlacementPolicy> Clairvoyant(AccessFuture* future, const LookAhead&) {
  return std::make_unique<Policy>(future);
}
std::unique_ptr<PlacementPolicy> LookingAhead(AccessFuture* future, const LookAhead& look_ahead) {
  return std::make_unique<LookAheadPolicy>(future, look_ahead);
}

struct Maker {
  const char* name;
  std::unique_ptr<PlacementPolicy> (*make)(AccessFuture*, const LookAhead&);
  bool knows_future = false;
};
constexpr Maker kMakers[] = {
    {"lru", Online<LruPolicy>},
    {"lfu", Online<LfuPolicy>},
    {"s3fifo", Online<S3FifoPolicy>},
    {"static", Online<StaticFillPolicy>},
    {"reactive", Clairvoyant<ReactivePolicy>},
    {"page", Clairvoyant<PagePolicy>, true},
    {kLookAheadName, LookingAhead, true},
    {"min", Clairvoyant<MinPolicy>, true},
    {"frequency", Clairvoyant<FrequencyPolicy>, true},
};

}  // namespace

absl::StatusOr<std::unique_ptr<PlacementPolicy>> MakePolicy(absl::string_view name,
                                                            AccessFuture* future,
                                                            const LookAhead& look_ahead) {
  for (const Maker& maker : kMakers) {
    if (name == maker.name) return maker.make(future, look_ahead);
  }
  return absl::NotFoundError(absl::StrCat(
      "policy `", name, "` is not known (known: ", absl::StrJoin(PolicyNames(), ", "), ")"));
}

bool KnowsFuture(absl::string_view name) {
  for (const Maker& maker : kMakers) {
    if (name == maker.name) return maker.knows_future;
  }
  return false;
}

std::vector<std::string> PolicyNames() {
  std::vector<std::string> names;
  for (const Maker& maker : kMakers) names.push_back(maker.name);
  return names;
}

}  // namespace kvtier::sim
