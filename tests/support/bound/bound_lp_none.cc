// Stands in where Clp is not installed.
#include "tests/support/bound/bound_lp.h"

namespace kvtier::test_support {

bool HaveClp() { return false; }

absl::StatusOr<double> SolveLp(const bound::Instance&, LpMethod) {
  return absl::UnimplementedError("built without coinor-libclp-dev");
}

absl::StatusOr<double> WriteLp(const bound::Instance&, const std::string&) {
  return absl::UnimplementedError("built without coinor-libclp-dev");
}

}  // namespace kvtier::test_support
