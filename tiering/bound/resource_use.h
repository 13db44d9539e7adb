// Which resources the blocks of an instance can load at all.
#pragma once

#include <array>

#include "tiering/bound/instance.h"

namespace kvtier::bound {

struct ResourceUse {
  std::array<bool, kResourcesMax> loaded{};  // some option loads it by the byte
  bool recomputes = false;                   // some option recomputes blocks
};

ResourceUse UseOf(const Instance& instance);

}  // namespace kvtier::bound
