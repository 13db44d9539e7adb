#include "tiering/bound/resource_use.h"

namespace kvtier::bound {
namespace {

void AddTable(const OptionTable& table, size_t resources, ResourceUse& use) {
  const auto states = static_cast<StateIndex>(table.state_count());
  for (size_t accesses = 0; accesses <= table.accesses_max(); ++accesses) {
    for (StateIndex from = 0; from < states; ++from) {
      for (StateIndex to = 0; to < states; ++to) {
        for (const Option& option : table.Options(accesses, from, to)) {
          for (size_t r = 0; r < resources; ++r) {
            use.loaded[r] = use.loaded[r] || option.per_byte[r] > 0;
          }
          use.recomputes = use.recomputes || option.recomputes > 0;
        }
      }
    }
  }
}

}  // namespace

ResourceUse UseOf(const Instance& instance) {
  ResourceUse use;
  for (const OptionTable& table : instance.tables) {
    AddTable(table, instance.resources.size(), use);
  }
  return use;
}

}  // namespace kvtier::bound
