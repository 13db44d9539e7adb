#include "tiering/move/move_table.h"

#include <algorithm>

#include "tiering/base/check.h"

namespace kvtier {

void MoveTable::Add(CopyTicket ticket, const Move& move) {
  KVTIER_CHECK(moves_.try_emplace(ticket, move).second);
  KVTIER_CHECK(blocks_.insert(BlockOf(move.row, move.plane)).second);
}

std::optional<Move> MoveTable::Take(CopyTicket ticket) {
  const auto found = moves_.find(ticket);
  if (found == moves_.end()) return std::nullopt;
  const Move move = found->second;
  moves_.erase(found);
  blocks_.erase(BlockOf(move.row, move.plane));
  return move;
}

bool MoveTable::DropSource(RowIndex row, PlaneIndex plane, CopyRef source) {
  if (!Moves(row, plane)) return false;
  for (auto& [ticket, move] : moves_) {
    if (move.row != row || move.plane != plane || move.source != source) continue;
    move.source_dropped = true;
    return true;
  }
  return false;
}

void ByteBudget::Refill(double elapsed_seconds) {
  if (bytes_per_second_ == 0) {
    bytes_ = 0;
    return;
  }
  const double rate = static_cast<double>(bytes_per_second_);
  bytes_ = std::min(bytes_ + rate * elapsed_seconds, rate / 10);
}

}  // namespace kvtier
