// One value of a configuration tree, read as the kind that its field has.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "daemon/config_limits.h"
#include "proto/yaml/config_tree.h"

namespace kvtier {

// The member that the field's kind calls for is set: text for kText and kChoice, flag for kFlag,
// fraction for kFraction, number for the rest.
struct ScalarValue {
  int64_t number = 0;
  double fraction = 0;
  bool flag = false;
  std::string text;
};

// INVALID_ARGUMENT says what is wrong with the value and what is allowed; the caller adds line and
// field.
absl::Status ReadConfigScalar(const ConfigNode& node, const FieldLimit& limit, ScalarValue* value);

}  // namespace kvtier
