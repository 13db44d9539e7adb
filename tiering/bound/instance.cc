#include "tiering/bound/instance.h"

namespace kvtier::bound {

absl::Status Check(const Instance& instance) {
  if (instance.tiers.empty()) return absl::InvalidArgumentError("an instance needs a tier");
  return absl::OkStatus();
}

}  // namespace kvtier::bound
