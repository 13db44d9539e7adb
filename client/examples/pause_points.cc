#include "client/examples/pause_points.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace kvtier::examples {
namespace {

constexpr struct {
  PausePoint point;
  const char* name;
} kNames[] = {
    {PausePoint::kReserved, "reserved"},
    {PausePoint::kHalfStored, "half_stored"},
    {PausePoint::kBeforeCommit, "before_commit"},
    {PausePoint::kAfterCommit, "after_commit"},
    {PausePoint::kLeased, "leased"},
    {PausePoint::kReservedHalfWritten, "reserved_half_written"},
    {PausePoint::kEntered, "entered"},
    {PausePoint::kInsideSection, "inside_section"},
};

}  // namespace

const char* PausePointName(PausePoint point) {
  for (const auto& row : kNames) {
    if (row.point == point) return row.name;
  }
  return "unknown";
}

std::optional<PausePoint> ParsePausePoint(std::string_view name) {
  for (const auto& row : kNames) {
    if (name == row.name) return row.point;
  }
  return std::nullopt;
}

void PausePoints::Reach(PausePoint point) {
  if (!Watches(point)) return;
  if (skip_ > 0) {
    --skip_;
    return;
  }
  std::fprintf(out_, "paused: %s\n", PausePointName(point));
  std::fflush(out_);
  char byte = 0;
  ssize_t got = 0;
  do {
    got = read(in_, &byte, 1);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) _Exit(0);
}

}  // namespace kvtier::examples
