// Any text as a machine, as a model, and line by line as overrides: taken or refused with
// INVALID_ARGUMENT that names the file; what was taken passes its checks.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "sim/spec_fields.h"
#include "sim/spec_reader.h"
#include "tiering/base/check.h"

namespace kvtier::sim {
namespace {

void CheckRefusal(const absl::Status& status) {
  KVTIER_CHECK(absl::IsInvalidArgument(status));
  KVTIER_CHECK(absl::StartsWith(status.message(), "here:"));
}

void Try(const std::string& text) {
  const auto machine = ParseMachine(text, "here");
  if (machine.ok()) {
    KVTIER_CHECK(CheckMachine(*machine).ok());
  } else {
    CheckRefusal(machine.status());
  }
  const auto model = ParseModel(text, "here");
  if (model.ok()) {
    KVTIER_CHECK(CheckModel(*model).ok());
    KVTIER_CHECK(model->PrefillFlops(kPromptTokensMax, 0) <= uint64_t{1} << 62);
    KVTIER_CHECK(model->KvBytesPerToken() * kPromptTokensMax <= uint64_t{1} << 62);
  } else {
    CheckRefusal(model.status());
  }
}

void TryOverrides(const std::string& text) {
  Machine machine = *ReadMachine("2xh100-nvlink");
  ModelSpec model = *ReadModel("deepseek-v2-lite");
  const std::vector<std::string> overrides = absl::StrSplit(text, '\n');
  const absl::Status status = ApplyOverrides(overrides, machine, model);
  KVTIER_CHECK(status.ok() || absl::IsInvalidArgument(status));
  KVTIER_CHECK(CheckMachine(machine).ok() && CheckModel(model).ok());
}

}  // namespace
}  // namespace kvtier::sim

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  kvtier::sim::Try(text);
  kvtier::sim::TryOverrides(text);
  return 0;
}
