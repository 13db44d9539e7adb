// The best bound there is, from a general solver of linear programs: what this one's is held to.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "tiering/bound/instance.h"

namespace kvtier::test_support {

enum class LpMethod { kAutomatic, kDual, kPrimal, kBarrier };

// Whether tests were built with Clp; where they are not, the functions below say UNIMPLEMENTED.
bool HaveClp();

// The least seconds when bytes of a block may be in different states and take different options:
// a block's parts on the edges of its state graph are a unit flow, tiers' room and resources' time
// are rows, and the sum of phases' times is what is made least. The largest dual bound equals it
// (Geoffrion). For some ten thousand rows: blocks x phases x states.
absl::StatusOr<double> SolveLp(const bound::Instance& instance, LpMethod method);

// The same program in a file that other solvers read. Its optimum times the result is in seconds.
absl::StatusOr<double> WriteLp(const bound::Instance& instance, const std::string& path);

}  // namespace kvtier::test_support
