#include "tiering/plan/chunk_lru.h"

#include "tiering/base/check.h"

namespace kvtier {

void ChunkLru::PushFront(RowIndex row, size_t list) {
  KVTIER_CHECK(!Contains(row) && list < lists_.size());
  List& l = lists_[list];
  auto& w = table_->policy_words(row);
  w[0] = 0;            // towards the front: none
  w[1] = l.front + 1;  // towards the back; kNoRow + 1 == 0
  w[2] = (w[2] & kFlagsMask) | static_cast<uint32_t>(list + 1);
  if (l.front != kNoRow) {
    table_->policy_words(l.front)[0] = row + 1;
  } else {
    l.back = row;
  }
  l.front = row;
}

void ChunkLru::Remove(RowIndex row) {
  KVTIER_CHECK(Contains(row));
  List& l = lists_[ListOf(row)];
  auto& w = table_->policy_words(row);
  const RowIndex newer = w[0] - 1, older = w[1] - 1;
  if (newer != kNoRow) {
    table_->policy_words(newer)[1] = w[1];
  } else {
    l.front = older;
  }
  if (older != kNoRow) {
    table_->policy_words(older)[0] = w[0];
  } else {
    l.back = newer;
  }
  w[0] = w[1] = 0;
  w[2] &= kFlagsMask;
}

}  // namespace kvtier
