#include "tiering/bound/option_table.h"

#include <algorithm>
#include <utility>

#include "tiering/base/check.h"

namespace kvtier::bound {

OptionTable::OptionTable(std::vector<TierSet> states, size_t accesses_max)
    : states_(std::move(states)),
      accesses_max_(accesses_max),
      lists_((accesses_max + 1) * states_.size() * states_.size()) {
  KVTIER_CHECK(!states_.empty() && states_.size() <= kStatesMax);
}

void OptionTable::Add(size_t accesses, StateIndex from, StateIndex to, const Option& option) {
  KVTIER_CHECK(accesses <= accesses_max_ && from < states_.size() && to < states_.size());
  std::vector<Option>& list = lists_[(accesses * states_.size() + from) * states_.size() + to];
  if (std::find(list.begin(), list.end(), option) == list.end()) list.push_back(option);
}

}  // namespace kvtier::bound
