// Verifies the copies of a block where they are, and has the engine drop those that are bad.
#pragma once

#include <cstdint>

#include "daemon/engine_host.h"
#include "tiering/base/bytes.h"
#include "tiering/engine/engine.h"

namespace kvtier {

struct CheckedCopies {
  uint8_t good = 0;
  uint8_t bad = 0;  // dropped and counted
  Bytes bytes;      // that were read
};

// Inside the section that `target` was resolved in. A copy without an address is neither good nor
// bad.
CheckedCopies CheckCopies(EngineHost& host, const ReadTarget& target);

}  // namespace kvtier
