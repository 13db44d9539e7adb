// The daemon's configuration: defaults, then the file, then --set, then what depends on other
// fields.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kvtier/v1/config.pb.h"

namespace kvtier {

// The effective configuration of a file's text (empty: the embedded default). `name` stands before
// the line in errors. Each override is "path.of.field=YAML value". INVALID_ARGUMENT "name:line:
// path: problem and limit". Reads environment and uid for defaults, nothing else; never throws,
// whatever the text.
absl::StatusOr<v1::Config> LoadConfig(absl::string_view yaml, absl::string_view name,
                                      absl::Span<const std::string> overrides = {});

// Reads the file, then as above. NOT_FOUND or PERMISSION_DENIED with the path.
absl::StatusOr<v1::Config> LoadConfigFile(const std::string& path,
                                          absl::Span<const std::string> overrides = {});

// Whoever knows a tenant's salt can compute its chunk keys.
enum class Salts { kShow, kHide };

// The configuration as YAML that LoadConfig reads back to an equal one. Hidden salts are left out,
// with a comment in their place: what is read back then has none.
std::string ConfigToYaml(const v1::Config& config, Salts salts = Salts::kShow);

}  // namespace kvtier
