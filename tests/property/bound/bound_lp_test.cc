// Proves by a general solver of linear programs what the bound is worth: on small problems of every
// kind no prices give more than the program's optimum, and that is not above the best schedule. A
// second solver agrees with the first.
#include "tests/support/bound/bound_lp.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/bound/brute_force.h"
#include "tests/support/bound/random_instance.h"
#include "tests/support/bound/random_prices.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"
#include "tiering/bound/naive_evaluation.h"

namespace kvtier::bound {
namespace {

using test_support::BoundModel;
using test_support::IsOk;
using test_support::LpMethod;

constexpr double kTolerance = 1e-6;  // Clp's own is 1e-7 on what it calls feasible

class BoundLpTest : public ::testing::TestWithParam<BoundModel> {
 protected:
  void SetUp() override {
    if (!test_support::HaveClp()) GTEST_SKIP() << "built without coinor-libclp-dev";
  }
};

TEST_P(BoundLpTest, LiesBetweenAllPricesAndTheBestSchedule) {
  Rng rng(test_support::TestSeed(4000 + static_cast<uint64_t>(GetParam())));
  double sum = 0, tight = 0, found = 0;
  int positive = 0;
  for (int i = 0; i < 80; ++i) {
    SCOPED_TRACE(i);
    const Instance instance = test_support::RandomInstance(GetParam(), {}, rng);
    const absl::StatusOr<double> lp = test_support::SolveLp(instance, LpMethod::kAutomatic);
    ASSERT_THAT(lp, IsOk());
    const double least = test_support::LeastSeconds(instance);
    ASSERT_LE(*lp, least + kTolerance * (1 + least));
    const double limit = *lp + kTolerance * (1 + *lp);
    for (int trial = 0; trial < 40; ++trial)
      ASSERT_LE(EvaluateNaively(instance, test_support::RandomPrices(instance, rng)).bound_seconds,
                limit);
    const Prices good = test_support::SearchPrices(instance, 1500, rng);
    const auto bound = static_cast<double>(EvaluateNaively(instance, good).bound_seconds);
    ASSERT_LE(bound, limit);
    if (*lp == 0) continue;
    ++positive;
    sum += *lp / least;
    found += bound / *lp;
    tight += *lp > least * (1 - kTolerance) ? 1 : 0;
  }
  ASSERT_GT(positive, 40);
  std::cout << test_support::NameOf(GetParam()) << ": program/best " << sum / positive
            << " on average, equal in " << tight / positive << "; found prices/program "
            << found / positive << "\n";
  EXPECT_GT(found / positive, 0.9);
}

TEST_P(BoundLpTest, AllMethodsAgree) {
  Rng rng(test_support::TestSeed(5000 + static_cast<uint64_t>(GetParam())));
  for (int i = 0; i < 10; ++i) {
    const Instance instance =
        test_support::RandomInstance(GetParam(), {.blocks_max = 10, .phases_max = 10}, rng);
    const absl::StatusOr<double> one = test_support::SolveLp(instance, LpMethod::kAutomatic);
    ASSERT_THAT(one, IsOk());
    for (const LpMethod method : {LpMethod::kDual, LpMethod::kPrimal, LpMethod::kBarrier}) {
      const absl::StatusOr<double> other = test_support::SolveLp(instance, method);
      ASSERT_THAT(other, IsOk());
      ASSERT_NEAR(*one, *other, 1e-5 * (1 + *one)) << "method " << static_cast<int>(method);
    }
  }
}

// The number behind "Objective:" in a report of glpsol.
double ObjectiveIn(const std::string& report) {
  std::ifstream file(report);
  for (std::string line; std::getline(file, line);) {
    const size_t at = line.find(" = ");
    if (line.rfind("Objective:", 0) == 0 && at != std::string::npos)
      return std::strtod(line.c_str() + at + 3, nullptr);
  }
  return NAN;
}

TEST_P(BoundLpTest, GlpsolAgrees) {
  if (std::system("command -v glpsol >/dev/null") != 0) GTEST_SKIP() << "no glpsol (glpk-utils)";
  Rng rng(test_support::TestSeed(6000 + static_cast<uint64_t>(GetParam())));
  const test_support::TempDir folder;
  for (int i = 0; i < 3; ++i) {
    const Instance instance =
        test_support::RandomInstance(GetParam(), {.blocks_max = 10, .phases_max = 10}, rng);
    const std::string program = folder.path() + "/program.mps", report = folder.path() + "/report";
    const absl::StatusOr<double> unit = test_support::WriteLp(instance, program);
    ASSERT_THAT(unit, IsOk());
    const std::string command =
        absl::StrCat("glpsol --freemps '", program, "' -o '", report, "' >/dev/null");
    ASSERT_EQ(std::system(command.c_str()), 0);
    const absl::StatusOr<double> lp = test_support::SolveLp(instance, LpMethod::kAutomatic);
    ASSERT_THAT(lp, IsOk());
    ASSERT_NEAR(ObjectiveIn(report) * *unit, *lp, 1e-5 * (1 + *lp));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, BoundLpTest, ::testing::ValuesIn(test_support::kBoundModels));

}  // namespace
}  // namespace kvtier::bound
