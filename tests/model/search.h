// Looks at all runs of a setup, and says what was found and in how many states.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>

#include "tests/model/stepper.h"

namespace kvtier {

struct SearchResult {
  std::string found;  // the check that failed; "holds" when none did
  std::string trail;  // the steps that led to it, and the number of states
};

inline SearchResult Search(std::function<Stepper::Setup()> setup) {
  constexpr size_t kStatesMax = 4'000'000;
  Stepper stepper(std::move(setup));
  const bool holds = stepper.Explore(kStatesMax);
  const std::string states = std::to_string(stepper.states());
  std::printf("%s states\n", states.c_str());
  ::testing::Test::RecordProperty("states", states);
  SearchResult result{stepper.failure(), stepper.trail() + states + " states\n"};
  if (result.found.empty()) result.found = holds ? "holds" : "more states than are looked at";
  return result;
}

}  // namespace kvtier
