// gmock matchers for absl::Status and absl::StatusOr, which Abseil 20220623 does not bring.
#pragma once

#include <gmock/gmock.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kvtier::test_support {

inline const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& value) {
  return value.status();
}

// EXPECT_THAT(engine->Release(...), IsOk())
MATCHER(IsOk, "is OK") {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).ok();
}

// EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound))
MATCHER_P(StatusIs, code, std::string("has code ") + absl::StatusCodeToString(code)) {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).code() == code;
}

// EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("limit")))
MATCHER_P2(StatusIs, code, message,
           std::string("has code ") + absl::StatusCodeToString(code) + " and a message that " +
               ::testing::DescribeMatcher<std::string>(message)) {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).code() == code &&
         ::testing::Matches(message)(std::string(StatusOf(arg).message()));
}

}  // namespace kvtier::test_support

#define KVTIER_TEST_CONCAT_INNER(a, b) a##b
#define KVTIER_TEST_CONCAT(a, b) KVTIER_TEST_CONCAT_INNER(a, b)
// ASSERT_OK_AND_ASSIGN(const SessionId session, engine->Attach(tenant, now));
#define ASSERT_OK_AND_ASSIGN(declaration, expression) \
  ASSERT_OK_AND_ASSIGN_IMPL(KVTIER_TEST_CONCAT(kvtier_or_, __LINE__), declaration, expression)
#define ASSERT_OK_AND_ASSIGN_IMPL(holder, declaration, expression) \
  auto holder = (expression);                                      \
  ASSERT_THAT(holder, ::kvtier::test_support::IsOk());             \
  declaration = *std::move(holder)
