// The seed of a random test: KVTIER_TEST_SEED, or the test's own; printed, so that a failure can be
// run again.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>

namespace kvtier::test_support {

inline uint64_t TestSeed(uint64_t otherwise) {
  const char* const given = std::getenv("KVTIER_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : otherwise;
  std::cout << "KVTIER_TEST_SEED=" << seed << "\n";
  return seed;
}

}  // namespace kvtier::test_support
