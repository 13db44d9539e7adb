// Gives a configuration message the defaults of ConfigLimits().
#pragma once

#include <google/protobuf/message.h>

#include "absl/strings/string_view.h"

namespace kvtier {

// Sets every number, flag, choice and fraction of `message`; texts and lists whose default is
// described in words stay empty. `table_path` is the message's path in the table: "" for Config,
// "pools[]" for a pool.
void ApplyConfigDefaults(absl::string_view table_path, google::protobuf::Message* message);

}  // namespace kvtier
