// Proves that a log line keeps its form whatever a client puts into a field, and that a tenant can
// cause so many lines and no more.
#include "daemon/log.h"

#include <gtest/gtest.h>

namespace kvtier::log {
namespace {

TEST(Log, TextQuotesWhatIsNotPlain) {
  EXPECT_EQ(FormatLine(false, "T", Level::kInfo, "session attached",
                       {{"session", 7}, {"client", "a b=\"c\"\n"}, {"x", ""}}),
            "T info session attached session=7 client=\"a b=\\\"c\\\"\\u000a\" x=\"\"");
}

TEST(Log, JsonIsOneObjectALine) {
  EXPECT_EQ(FormatLine(true, "T", Level::kWarn, "refused",
                       {{"uid", 5u},
                        {"pid", -1},
                        {"why", "\"\\\n"},
                        {"bound", true},
                        {"word", "true"},
                        {"s", absl::OkStatus()}}),
            "{\"time\":\"T\",\"level\":\"warn\",\"event\":\"refused\",\"uid\":5,\"pid\":-1,\"why\":"
            "\"\\\"\\\\\\u000a\",\"bound\":true,\"word\":\"true\",\"s\":\"OK\"}");
}

TEST(LineBudget, ABurstThenSoManyASecondAndTheRestIsCounted) {
  LineBudget budget;
  absl::Time now = absl::UnixEpoch();
  uint64_t suppressed = 0;
  int written = 0;
  const auto flood = [&](int lines) {
    written = 0;
    for (int i = 0; i < lines; ++i) {
      uint64_t left_out = 0;
      written += budget.Take(now, left_out) ? 1 : 0;
      suppressed += left_out;
    }
  };
  flood(100);
  EXPECT_EQ(written, LineBudget::kLinesAtOnce);
  now += absl::Milliseconds(500);
  flood(100);
  EXPECT_EQ(written, 0) << "not one line at a time";
  now += absl::Milliseconds(500);
  flood(1);
  EXPECT_EQ(written, 1);
  EXPECT_EQ(suppressed, 80u + 100u);
  flood(100);
  EXPECT_EQ(written, LineBudget::kLinesPerSecond - 1);
  now -= absl::Hours(1);
  flood(10);
  EXPECT_EQ(written, 0);
  now += absl::Hours(2);
  flood(100);
  EXPECT_EQ(written, LineBudget::kLinesAtOnce);
  EXPECT_EQ(suppressed, 180u + 91u + 10u);
}

TEST(LineBudget, WhoKeepsToItIsNeverLeftOut) {
  LineBudget budget;
  absl::Time now = absl::UnixEpoch();
  for (int i = 0; i < 1000; ++i) {
    uint64_t suppressed = 0;
    EXPECT_TRUE(budget.Take(now, suppressed));
    EXPECT_EQ(suppressed, 0u);
    now += absl::Milliseconds(100);
  }
}

}  // namespace
}  // namespace kvtier::log
