#include "daemon/copy_check.h"

#include "absl/types/span.h"
#include "proto/wire/checksum.h"

namespace kvtier {

CheckedCopies CheckCopies(EngineHost& host, const ReadTarget& target) {
  CheckedCopies checked;
  for (uint8_t copy = 0; copy < target.copy_count; ++copy) {
    const std::byte* address = target.copies[copy].address;
    if (address == nullptr) continue;
    checked.bytes += target.bytes;
    const auto bytes = absl::MakeConstSpan(address, static_cast<size_t>(target.bytes.count()));
    if (wire::BlockChecksum(bytes) == target.checksum) {
      ++checked.good;
      continue;
    }
    ++checked.bad;
    host.With([&](Engine& engine, absl::Time) { engine.ReportCorrupt(target, copy); });
  }
  return checked;
}

}  // namespace kvtier
