// What the tests of the engine's rules share: simulated pools with real bytes, and one attached
// caller.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/block_content.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_models.h"

namespace kvtier::test_support {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Code = absl::StatusCode;

inline const wire::ChunkKey kNoParent{};

inline std::vector<wire::ChunkKey> Keys(uint64_t first, size_t count) {
  std::vector<wire::ChunkKey> keys;
  for (size_t i = 0; i < count; ++i) keys.push_back(NumberedKey(first + i));
  return keys;
}

inline std::vector<EventKind> KindsOf(const std::vector<Event>& events) {
  std::vector<EventKind> kinds;
  for (const Event& event : events) kinds.push_back(event.kind);
  return kinds;
}

// What Reserve is asked for.
inline ReserveArgs Chunks(ModelId model, uint32_t count = 1, const wire::ChunkKey& parent = {},
                          std::vector<PlaneIndex> planes = {}) {
  ReserveArgs args;
  args.model = model;
  args.parent = parent;
  args.chunk_count = count;
  args.planes = std::move(planes);
  return args;
}

inline PlaneIndex Plane(int number) { return PlaneIndex(static_cast<uint16_t>(number)); }

class EngineRules : public ::testing::Test {
 protected:
  EngineRules() : EngineRules(EngineFixtureOptions()) {}
  explicit EngineRules(EngineFixtureOptions options) : fixture(std::move(options)) {
    caller = fixture.Attach();
  }

  Engine& engine() { return fixture.engine(); }

  EngineFixture fixture;
  Caller caller;
};

inline EngineFixtureOptions WithPolicy(PolicyChoice policy) {
  EngineFixtureOptions options;
  options.policy = policy;
  return options;
}

}  // namespace kvtier::test_support
