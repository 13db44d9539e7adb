// Small traces, machines and models for simulations and bounds, drawn from a seed.
#pragma once

#include <cstdint>
#include <string>

#include "sim/machine.h"
#include "sim/model_spec.h"
#include "sim/placement_problem.h"

namespace kvtier::test_support {

struct SmallScenario {
  std::string text;  // what it is, for failures
  sim::Machine machine;
  sim::ModelSpec model;
  sim::AnyTrace trace;
  sim::ProblemOptions problem;
};

// Prompts of a few chunks that share prefixes, or a sequence of some dozen blocks in a few planes;
// on each of the machines that come with kvtier, with tiers of a few blocks, and rates such that
// any of its resources may be what binds.
SmallScenario MakeSmallScenario(uint64_t seed);

}  // namespace kvtier::test_support
