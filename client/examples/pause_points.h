#pragma once

// Named places where a worker can be made to stand still, so that a test kills it exactly there.

#include <cstdio>
#include <optional>
#include <string_view>

namespace kvtier::examples {

enum class PausePoint {
  kReserved,      // chunks are reserved, nothing is stored
  kHalfStored,    // half of the planes are stored
  kBeforeCommit,  // everything is stored, nothing is committed
  kAfterCommit,   // committed
  kLeased,        // a lookup found a prefix and leased it
  // In memory shared with the store only:
  kReservedHalfWritten,  // chunks are reserved, and half of the tokens that go there are written
  kEntered,              // a read section is open, and nothing was looked up in it
  kInsideSection,        // a read section is open, and blocks are about to be read in it
};

const char* PausePointName(PausePoint point);
std::optional<PausePoint> ParsePausePoint(std::string_view name);

// Not thread-safe.
class PausePoints {
 public:
  // Never pauses.
  PausePoints() = default;
  // Pauses each time `point` is reached, the first `skip` times left out. Prints "paused: NAME" to
  // `out`, then waits for one byte on the descriptor `in`. Both must outlive this.
  PausePoints(PausePoint point, size_t skip, int in, std::FILE* out)
      : point_(point), skip_(skip), in_(in), out_(out) {}

  bool Watches(PausePoint point) const { return point_ == point; }
  // At the end of the input whoever steers this process is gone: it ends at once, with status 0.
  void Reach(PausePoint point);

 private:
  std::optional<PausePoint> point_;
  size_t skip_ = 0;
  int in_ = -1;
  std::FILE* out_ = nullptr;
};

}  // namespace kvtier::examples
