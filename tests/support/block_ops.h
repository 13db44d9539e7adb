// Operations on an engine as small structs that print and perform themselves: drawn from a seed by
// property tests, from bytes by the fuzz target. Every value of every field means something in
// every state, so that any part of a sequence can be left out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "tests/support/op_world.h"
#include "tiering/base/rng.h"

namespace kvtier::test_support {

// Where the fields of operations come from.
class Choices {
 public:
  explicit Choices(uint64_t seed) : rng_(seed) {}
  explicit Choices(absl::Span<const uint8_t> bytes) : rng_(0), bytes_(bytes), from_bytes_(true) {}

  // Bytes have run out; a seed never does.
  bool exhausted() const { return from_bytes_ && bytes_.empty(); }
  // Zero once bytes have run out.
  uint8_t Byte() {
    if (!from_bytes_) return static_cast<uint8_t>(rng_.Next());
    if (bytes_.empty()) return 0;
    const uint8_t byte = bytes_.front();
    bytes_.remove_prefix(1);
    return byte;
  }

 private:
  Rng rng_;
  absl::Span<const uint8_t> bytes_;
  bool from_bytes_ = false;
};

class BlockOp {
 public:
  virtual ~BlockOp() = default;
  virtual std::string ToString() const = 0;
  // Performs it on the engine and checks the answer against the model; what is wrong goes to
  // world.Fail().
  virtual void Perform(OpWorld& world) const = 0;
};

std::unique_ptr<BlockOp> DrawOp(Choices& choices);
std::vector<std::unique_ptr<BlockOp>> DrawOps(Choices& choices, size_t count_max);

// Performs the operations and, after each, the world's checks; ends with OpWorld::Finish(). Stops
// at the first failure and returns how many were performed.
size_t RunOps(OpWorld& world, const std::vector<std::unique_ptr<BlockOp>>& ops);

}  // namespace kvtier::test_support
