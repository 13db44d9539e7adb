// An executor of many lanes without threads: items come last first and lanes in turn.
#pragma once

#include <cstddef>
#include <functional>

#include "tiering/base/executor.h"

namespace kvtier::test_support {

class LanesInTurn : public Executor {
 public:
  explicit LanesInTurn(size_t lanes) : lanes_(lanes) {}
  size_t lanes() const override { return lanes_; }
  void Run(size_t items, const std::function<void(size_t item, size_t lane)>& work) override {
    while (items-- > 0) work(items, items % lanes_);
  }

 private:
  size_t lanes_;
};

}  // namespace kvtier::test_support
