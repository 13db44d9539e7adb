// Puts a configuration tree into the Config message, by reflection: every key is a field of the
// same name.
#pragma once

#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kvtier/v1/config.pb.h"
#include "proto/yaml/config_tree.h"

namespace kvtier {

// Where each given field came from: "pools[1].name" -> "kvtierd.yaml:12".
using ConfigOrigins = absl::flat_hash_map<std::string, std::string>;

// Overwrites the fields of `config` that the tree gives; a list that is given replaces the whole
// list. Types and ranges are those of ConfigLimits(). INVALID_ARGUMENT "name:line: path: what is
// wrong (allowed: ...)", without a line where the node has none; `config` is then half-written.
absl::Status MapConfigTree(const ConfigNode& root, absl::string_view name, v1::Config* config,
                           ConfigOrigins* origins);

}  // namespace kvtier
