// Keeps the copy figures from rotting: a small run has every field filled in and consistent, the
// JSON has the documented shape, and sizes that do not fit are refused. How good the figures are is
// not tested here: machines differ. And what rows of gaps print where no schedule was found.
#include "bench/copy_figures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "bench/bound_rows.h"
#include "bench/figure.h"
#include "tests/support/status_matchers.h"

namespace kvtier::bench {
namespace {

using test_support::StatusIs;
using ::testing::ElementsAre;
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
}

TEST(CopyFiguresTest, TheTextNamesAFigureOnceBeforeItsLinesAndOnceBeforeItsNotes) {
  const Figure figures[] = {
      {.name = "one", .value = 1.5, .unit = "ns", .page_bytes = 4096, .note = "small"},
      {.name = "two", .value = 2.5, .unit = "ns", .note = "no memory"},
      {.name = "one", .value = 3.5, .unit = "ns", .page_bytes = 2 << 20, .note = "huge"}};
  const std::vector<std::string> lines = absl::StrSplit(FiguresToText(figures), '\n');
  ASSERT_EQ(lines.size(), 8u);
  const auto words = [&](size_t line) {
    const std::vector<std::string> all = absl::StrSplit(lines[line], ' ', absl::SkipEmpty());
    return std::vector<std::string>(all.begin(), all.begin() + std::min<size_t>(4, all.size()));
  };
  EXPECT_THAT(words(0), ElementsAre("figure", "pages", "value", "p50"));
  EXPECT_THAT(words(1), ElementsAre("one", "4", "KiB", "1.500"));
  EXPECT_THAT(words(2), ElementsAre("2", "MiB", "3.500", "0.000"));
  EXPECT_THAT(words(3), ElementsAre("two", "-", "2.500", "0.000"));
  EXPECT_EQ(lines[4], "one: small");
  EXPECT_EQ(lines[5], "  in pages of 2 MiB: huge");
  EXPECT_EQ(lines[6], "two: no memory");
  EXPECT_EQ(lines[7], "");
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

TEST(BoundRowsTest, WithoutAScheduleThereIsNoGap) {
  const BoundProblem problem{.name = "small", .gap_wanted = 0.01};
  const BoundRow found{
      .problem = problem, .seed = 1, .lower_bound_s = 2, .best_feasible_s = 2.5, .gap = 0.25};
  const BoundRow none{.problem = problem, .seed = 2, .lower_bound_s = 2, .gap = -1};
  EXPECT_EQ(GapText(found), "25.000 %");
  EXPECT_EQ(GapText(none), "none");
  const std::vector<std::string> lines = absl::StrSplit(BoundRowsToText({found, none}), '\n');
  const auto words = [&](size_t line) {
    std::vector<std::string> all = absl::StrSplit(lines[line], ' ', absl::SkipEmpty());
    all.erase(all.begin() + 2, all.begin() + 5);  // blocks, phases, accesses
    all.erase(all.begin());                       // the problem
    all.resize(5);
    return all;
  };
  EXPECT_THAT(words(1), ElementsAre("1", "2", "2.5", "25.000", "%"));
  EXPECT_THAT(words(2), ElementsAre("2", "2", "none", "none", "1.000"));
  EXPECT_THAT(words(3), ElementsAre("worst", "2", "none", "none", "1.000")) << "of both";
  const auto rows = nlohmann::json::parse(BoundRowsToJson({found, none})).at("rows");
  EXPECT_EQ(rows.at(0).at("gap"), 0.25);
  EXPECT_TRUE(rows.at(1).at("gap").is_null() && rows.at(1).at("best_feasible_s").is_null());
}

}  // namespace
}  // namespace kvtier::bench
