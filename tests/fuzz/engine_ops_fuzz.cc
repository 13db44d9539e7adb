// Bytes as operations on an engine beside its naive model (tests/support/block_ops.h): every
// answer, event and byte that can be read is checked after each. The first byte chooses the policy,
// the second the world.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "absl/types/span.h"
#include "tests/support/block_ops.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kvtier::test_support;  // NOLINT(google-build-using-namespace)
  constexpr size_t kOpsMax = 400;
  constexpr PolicyChoice kPolicies[] = {PolicyChoice::kLru, PolicyChoice::kStaticSplit,
                                        PolicyChoice::kShuffle};
  Choices choices(absl::MakeConstSpan(data, size));
  OpWorldOptions options;
  options.policy = kPolicies[choices.Byte() % 3];
  options.seed = choices.Byte();
  options.copy_seed = options.seed;
  const auto ops = DrawOps(choices, kOpsMax);
  OpWorld world(options);
  const size_t performed = RunOps(world, ops);
  if (!world.failed()) return 0;
  for (size_t i = 0; i < performed; ++i) std::fprintf(stderr, "%s\n", ops[i]->ToString().c_str());
  std::fprintf(stderr, "%s\n", world.failure().c_str());
  std::abort();
}
