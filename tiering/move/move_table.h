// Copies in flight, by ticket.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "tiering/base/bytes.h"
#include "tiering/base/copy_ref.h"
#include "tiering/base/ids.h"

namespace kvtier {

// One copy of a block on its way. Until it completes, both slots stay allocated and the row has a
// move counted, so neither can be reused; nothing is published.
struct Move {
  RowIndex row = kNoRow;
  PlaneIndex plane;
  CopyRef source;
  CopyRef destination;
  Bytes bytes;
  bool keep_source = false;
  bool source_dropped = false;  // the block no longer has it: to be retired when the copy ends
};

// At most as many entries as the copy engine takes, and at most one a block. Not thread-safe.
class MoveTable {
 public:
  CopyTicket NextTicket() { return CopyTicket(++last_ticket_); }
  void Add(CopyTicket ticket, const Move& move);
  // Removes and returns the move; nullopt for an unknown ticket.
  std::optional<Move> Take(CopyTicket ticket);
  // Whether a move of this block is under way: a second one could find its source gone.
  bool Moves(RowIndex row, PlaneIndex plane) const { return blocks_.contains(BlockOf(row, plane)); }
  // Notes that the block lost this copy. False when no move reads it. Linear in the copies in
  // flight when one of this block is: bad copies are rare.
  bool DropSource(RowIndex row, PlaneIndex plane, CopyRef source);
  size_t size() const { return moves_.size(); }

 private:
  static uint64_t BlockOf(RowIndex row, PlaneIndex plane) {
    return uint64_t{row} << 16 | plane.value();
  }

  absl::flat_hash_map<CopyTicket, Move> moves_;
  absl::flat_hash_set<uint64_t> blocks_;  // of the moves
  uint64_t last_ticket_ = 0;
};

// A budget of bytes that refills with time; holds at most a tenth of a second's worth, so that an
// idle link does not save up for a burst. Not thread-safe.
class ByteBudget {
 public:
  // 0: no limit.
  explicit ByteBudget(Bytes bytes_per_second) : bytes_per_second_(bytes_per_second.count()) {}

  void Refill(double elapsed_seconds);
  bool available() const { return bytes_per_second_ == 0 || bytes_ > 0; }
  // May go below zero by one move, which the next refills pay for: large blocks must not starve.
  void Spend(Bytes bytes) { bytes_ -= static_cast<double>(bytes.count()); }

 private:
  int64_t bytes_per_second_;
  double bytes_ = 0;
};

}  // namespace kvtier
