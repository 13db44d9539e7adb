// Proves that a log line keeps its form whatever a client puts into a field.
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
                       {{"uid", 5u}, {"why", "\"\\\n"}, {"s", absl::OkStatus()}}),
            "{\"time\":\"T\",\"level\":\"warn\",\"event\":\"refused\",\"uid\":\"5\",\"why\":"
            "\"\\\"\\\\\\u000a\",\"s\":\"OK\"}");
}

}  // namespace
}  // namespace kvtier::log
