// Keeps the copy figures from rotting: a small run has every field filled in and consistent, the
// JSON has the documented shape, and sizes that do not fit are refused. How good the figures are is
// not tested here: machines differ.
#include "bench/copy_figures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "bench/figure.h"
#include "tests/support/status_matchers.h"

namespace kvtier::bench {
namespace {

using test_support::StatusIs;
using ::testing::HasSubstr;

CopyFigureOptions Small() { return {.region_bytes = MiB(4), .blocks_per_run = 4, .runs = 5}; }

TEST(CopyFiguresTest, SmallRunIsComplete) {
  ASSERT_OK_AND_ASSIGN(const std::vector<Figure> figures, CopyFigures(Small()));
  ASSERT_EQ(figures.size(), 2u);
  EXPECT_EQ(figures[0].name, "copy_verified");
  EXPECT_EQ(figures[1].name, "copy_plain");
  for (const Figure& figure : figures) {
    EXPECT_EQ(figure.unit, "GB/s");
    EXPECT_EQ(figure.runs, 5);
    EXPECT_GT(figure.value, 0);
    EXPECT_GE(figure.p50, figure.p99);
    EXPECT_GT(figure.ceiling, 0);
    EXPECT_GT(figure.ratio, 0);
    EXPECT_GE(figure.page_bytes, 4096);
    EXPECT_THAT(figure.note, HasSubstr("256 KiB"));
  }
}

TEST(CopyFiguresTest, JsonHasTheDocumentedShape) {
  const Figure figure{.name = "copy_plain",
                      .value = 1.5,
                      .p50 = 1.5,
                      .p99 = 1.25,
                      .unit = "GB/s",
                      .ceiling = 2,
                      .ratio = 0.75,
                      .runs = 3,
                      .page_bytes = 4096,
                      .note = "a \"note\""};
  const auto json = nlohmann::json::parse(FiguresToJson({&figure, 1}));
  ASSERT_EQ(json.at("figures").size(), 1u);
  const auto& entry = json.at("figures").at(0);
  EXPECT_EQ(entry.at("name"), "copy_plain");
  EXPECT_EQ(entry.at("value"), 1.5);
  EXPECT_EQ(entry.at("p50"), 1.5);
  EXPECT_EQ(entry.at("p99"), 1.25);
  EXPECT_EQ(entry.at("unit"), "GB/s");
  EXPECT_EQ(entry.at("ceiling"), 2);
  EXPECT_EQ(entry.at("ratio"), 0.75);
  EXPECT_EQ(entry.at("runs"), 3);
  EXPECT_EQ(entry.at("page_bytes"), 4096);
  EXPECT_EQ(entry.at("note"), "a \"note\"");
  EXPECT_THAT(FiguresToTable({&figure, 1}), HasSubstr("copy_plain"));
}

TEST(CopyFiguresTest, QuantilesAreOfTheSamples) {
  EXPECT_EQ(Quantile({3, 1, 2}, 0.5), 2);
  EXPECT_EQ(Quantile({3, 1, 2}, 0), 1);
  EXPECT_EQ(Quantile({3, 1, 2}, 1), 3);
  EXPECT_EQ(Quantile({7}, 0.99), 7);
}

TEST(CopyFiguresTest, SizesThatDoNotFitAreRefused) {
  CopyFigureOptions options = Small();
  options.block_bytes = Bytes(1000);
  EXPECT_THAT(CopyFigures(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1000")));
  options = Small();
  options.region_bytes = MiB(4) + KiB(4);
  EXPECT_THAT(CopyFigures(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("region")));
  options = Small();
  options.runs = 0;
  EXPECT_THAT(CopyFigures(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0 runs")));
  options = Small();
  options.region_bytes = GiB(1 << 20);
  EXPECT_THAT(CopyFigures(options),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("available")));
}

}  // namespace
}  // namespace kvtier::bench
