// Proves that ranges and lists of a plan become the values that the header says, that a value
// without a unit gets that of the last one, and that what is no axis is refused by its name.
#include "sim/plan_axis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/status_matchers.h"

namespace kvtier::sim {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kGib = 1 << 30;
constexpr uint64_t kGb = 1'000'000'000;

std::vector<uint64_t> Values(const std::string& text, uint32_t points = 5) {
  const auto axis = ParsePlanAxis(text, points);
  EXPECT_TRUE(axis.ok()) << text << ": " << axis.status();
  return axis.ok() ? axis->values : std::vector<uint64_t>();
}

TEST(PlanAxisTest, ListsAreTakenAsTheyStand) {
  EXPECT_THAT(Values("dram=64GiB,32GiB,64GiB"), ElementsAre(64 * kGib, 32 * kGib));
  EXPECT_THAT(Values("hbm=10,20,80GiB"), ElementsAre(10 * kGib, 20 * kGib, 80 * kGib));
  EXPECT_THAT(Values("link.pcie=50GB/s,25GB/s"), ElementsAre(50 * kGb, 25 * kGb));
  EXPECT_THAT(Values("dram=4096B"), ElementsAre(4096));
}

TEST(PlanAxisTest, RangesGrowByTheSameFactor) {
  EXPECT_THAT(Values("dram=64GiB..1TiB"),
              ElementsAre(64 * kGib, 128 * kGib, 256 * kGib, 512 * kGib, 1024 * kGib));
  EXPECT_THAT(Values("dram=64GiB..2TiB/6"),
              ElementsAre(64 * kGib, 128 * kGib, 256 * kGib, 512 * kGib, 1024 * kGib, 2048 * kGib));
  EXPECT_THAT(Values("hbm=10..80GiB", 4), ElementsAre(10 * kGib, 20 * kGib, 40 * kGib, 80 * kGib));
  EXPECT_THAT(Values("link.pcie=25..100GB/s/3"), ElementsAre(25 * kGb, 50 * kGb, 100 * kGb));
  EXPECT_THAT(Values("link.pcie=25..100GB/s", 3), ElementsAre(25 * kGb, 50 * kGb, 100 * kGb));
  EXPECT_THAT(Values("compute=1..4TFLOP/s/2"), ElementsAre(1000 * kGb, 4000 * kGb));
}

TEST(PlanAxisTest, ValuesBetweenAreRoundedAndStayBetween) {
  const std::vector<uint64_t> values = Values("dram=10GiB..13GiB/64", 5);
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(values[i] % (1 << 20), 0u);
    if (i > 0) {
      EXPECT_GT(values[i], values[i - 1]);
    }
  }
  EXPECT_EQ(values.front(), 10 * kGib);
  EXPECT_EQ(values.back(), 13 * kGib);
}

TEST(PlanAxisTest, LoadsAreWholeNumbers) {
  EXPECT_THAT(Values("load=1..4", 2), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(Values("load=3..9", 2), ElementsAre(3, 4, 5, 6, 7, 8, 9));
  EXPECT_THAT(Values("load=1..64/4"), ElementsAre(1, 4, 16, 64));
  EXPECT_THAT(Values("load=3..4/9"), ElementsAre(3, 4));
}

TEST(PlanAxisTest, RangesOfManyAxesHaveFewerValues) {
  const auto sizes = [](const std::vector<std::string>& texts, uint32_t points) {
    const auto axes = ParsePlanAxes(texts, points, 256);
    EXPECT_TRUE(axes.ok()) << axes.status();
    std::vector<size_t> found;
    for (size_t i = 0; axes.ok() && i < axes->size(); ++i)
      found.push_back((*axes)[i].values.size());
    return found;
  };
  const std::string dram = "dram=64GiB..1TiB", link = "link.pcie=25..100GB/s";
  const std::string compute = "compute=500..1000TFLOP/s", load = "load=1..4";
  EXPECT_THAT(sizes({dram}, 0), ElementsAre(5));
  EXPECT_THAT(sizes({dram, link}, 0), ElementsAre(5, 5));
  EXPECT_THAT(sizes({dram, link, compute}, 0), ElementsAre(3, 3, 3));
  EXPECT_THAT(sizes({dram, link, compute, load}, 0), ElementsAre(3, 3, 3, 4));
  EXPECT_THAT(sizes({dram, link, compute, "load=1..20"}, 0), ElementsAre(2, 2, 2, 20));
  // What is said is done, whether there is room for it or not.
  EXPECT_THAT(sizes({dram, link, compute, load}, 5), ElementsAre(5, 5, 5, 4));
  EXPECT_THAT(sizes({"dram=64GiB..1TiB/9", link, compute, load}, 0), ElementsAre(9, 2, 2, 4));
  EXPECT_THAT(sizes({"dram=1GiB..2GiB/64", "load=1..9"}, 0), ElementsAre(64, 9));
  EXPECT_FALSE(ParsePlanAxes({dram, "link.pcie=fast"}, 0, 256).ok());
}

TEST(PlanAxisTest, OverridesSetTheValue) {
  EXPECT_EQ(ParsePlanAxis("dram=1GiB", 5)->Override(7), "dram=7B");
  EXPECT_EQ(ParsePlanAxis("link.pcie=1GB/s", 5)->Override(kGb), "link.pcie=1000000000B/s");
  EXPECT_EQ(ParsePlanAxis("compute=1TFLOP/s", 5)->Override(kGb), "compute=1000000000FLOP/s");
  EXPECT_TRUE(ParsePlanAxis("load=1", 5)->is_load());
}

TEST(PlanAxisTest, WhatIsNoneIsRefusedByName) {
  const std::pair<const char*, const char*> wrong[] = {
      {"", "NAME=VALUES"},
      {"dram", "NAME=VALUES"},
      {"=1GiB", "NAME=VALUES"},
      {"dram=", "NAME=VALUES"},
      {"dram=many", "--vary dram is \"many\""},
      {"dram=1GiB,", "--vary dram is \"\""},
      {"dram=64..256", "--vary dram is \"256\", without a unit; 256GiB is a size"},
      {"dram=16..64GiB:2", "--vary dram is \"64GiB:2\""},
      {"dram=0", "--vary dram is \"0\""},
      {"dram=-1GiB", "--vary dram"},
      {"dram=2PiB", "--vary dram is \"2PiB\""},
      {"dram=nan", "--vary dram is \"nan\""},
      {"dram=1GiB..", "--vary dram"},
      {"dram=..1GiB", "--vary dram"},
      {"dram=2GiB..1GiB", "the second has to be the larger one"},
      {"dram=1GiB..1GiB", "the second has to be the larger one"},
      {"dram=1GiB..2GiB/1", "has \"1\" values; 2 to 64"},
      {"dram=1GiB..2GiB/65", "has \"65\" values; 2 to 64"},
      {"dram=1GiB..2GiB/99999999999", "values; 2 to 64"},
      {"dram=1GiB..2GiB/", "--vary dram"},
      {"link.pcie=50GiB", "--vary link.pcie is \"50GiB\"; a rate"},
      {"model.weight_bytes=1GB", "--vary model.weight_bytes is the model's"},
      {"load=0", "--vary load is \"0\""},
      {"load=65", "--vary load is \"65\""},
      {"load=1.5", "--vary load is \"1.5\""},
  };
  for (const auto& [text, wanted] : wrong) {
    const auto axis = ParsePlanAxis(text, 5);
    ASSERT_FALSE(axis.ok()) << text;
    EXPECT_THAT(std::string(axis.status().message()), HasSubstr(wanted)) << text;
  }
  std::string many = "dram=1B";
  for (int i = 2; i < 70; ++i) many += "," + std::to_string(i);
  EXPECT_FALSE(ParsePlanAxis(many, 5).ok());
}

}  // namespace
}  // namespace kvtier::sim
