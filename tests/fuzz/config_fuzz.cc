// Any text as a configuration: it is refused with INVALID_ARGUMENT and a reason, or it loads, and
// what is written back loads to the same.
#include <google/protobuf/util/message_differencer.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "daemon/config_loader.h"
#include "tiering/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = kvtier::LoadConfig(text, "fuzz.yaml");
  if (!config.ok()) {
    KVTIER_CHECK(config.status().code() == absl::StatusCode::kInvalidArgument);
    KVTIER_CHECK(config.status().message().find("fuzz.yaml") != absl::string_view::npos);
  } else {
    const auto again = kvtier::LoadConfig(kvtier::ConfigToYaml(*config), "written.yaml");
    KVTIER_CHECK(again.ok());
    KVTIER_CHECK(google::protobuf::util::MessageDifferencer::Equals(*config, *again));
  }
  // The same bytes as what --set gives, after a path that exists.
  const std::string override_text = "limits.chunks_max=" + std::string(text.substr(0, 256));
  const auto overridden =
      kvtier::LoadConfig("", "fuzz.yaml", absl::MakeConstSpan(&override_text, 1));
  KVTIER_CHECK(overridden.ok() || overridden.status().code() == absl::StatusCode::kInvalidArgument);
  return 0;
}
