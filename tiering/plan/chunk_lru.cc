#include "tiering/plan/chunk_lru.h"

#include "tiering/base/check.h"

namespace kvtier {
namespace {

// Links followed down from a row to a leaf; further down, a later look goes on.
constexpr int kDescentMax = 64;

}  // namespace

void ChunkLru::Insert(RowIndex row, size_t list, RowIndex newer, RowIndex older) {
  KVTIER_CHECK(!Contains(row) && list < lists_.size());
  List& l = lists_[list];
  auto& w = table_->policy_words(row);
  w[0] = newer + 1;  // kNoRow + 1 == 0
  w[1] = older + 1;
  w[2] = (w[2] & kFlagsMask) | static_cast<uint32_t>(list + 1);
  if (newer != kNoRow) {
    table_->policy_words(newer)[1] = row + 1;
  } else {
    l.front = row;
  }
  if (older != kNoRow) {
    table_->policy_words(older)[0] = row + 1;
  } else {
    l.back = row;
  }
}

void ChunkLru::PushFront(RowIndex row, size_t list) {
  KVTIER_CHECK(list < lists_.size());
  Insert(row, list, kNoRow, lists_[list].front);
}

void ChunkLru::InsertInFrontOf(RowIndex row, RowIndex other) {
  KVTIER_CHECK(Contains(other));
  Insert(row, ListOf(other), TowardsFront(other), other);
}

void ChunkLru::InsertBehind(RowIndex row, RowIndex other) {
  KVTIER_CHECK(Contains(other));
  Insert(row, ListOf(other), other, TowardsBack(other));
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

void ChunkLru::FileCommit(RowIndex row) {
  List& list = lists_[ListOf(row)];
  const RowIndex parent = table_->parent(row);
  if (parent != kNoRow && Contains(parent)) {
    if (parent == list.committed && ListOf(parent) == ListOf(row)) {
      Remove(row);
      InsertBehind(row, parent);
    } else {
      MoveToFront(parent);
    }
  }
  list.committed = row;
}

void ChunkLru::MoveNextToLeaf(RowIndex row) {
  RowIndex leaf = row;
  for (int step = 0; step < kDescentMax; ++step) {
    const RowIndex child = table_->first_child(leaf);
    if (child == kNoRow) break;
    leaf = child;
  }
  if (leaf == row || !Contains(leaf) || ListOf(leaf) != ListOf(row)) {
    MoveToFront(row);
    return;
  }
  Remove(row);
  InsertInFrontOf(row, leaf);
}

}  // namespace kvtier
