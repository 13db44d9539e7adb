#include "tiering/move/move_table.h"

#include <algorithm>

#include "tiering/base/check.h"

namespace kvtier {

void MoveTable::Add(CopyTicket ticket, const Move& move) {
  KVTIER_CHECK(moves_.try_emplace(ticket, move).second);
}

std::optional<Move> MoveTable::Take(CopyTicket ticket) {
  const auto found = moves_.find(ticket);
  if (found == moves_.end()) return std::nullopt;
  const Move move = found->second;
  moves_.erase(found);
  return move;
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
