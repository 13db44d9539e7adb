#include "tiering/plan/chunk_lru.h"

#include "tiering/base/check.h"

namespace kvtier {
namespace {

// Links followed down from a row to a leaf; further down, a later look goes on.
constexpr int kDescentMax = 64;
// Links followed up to where the last look began: rows that were moved next to one leaf, one after
// the other, lie with every second one of their chain side by side.
constexpr int kAscentMax = 2;
static_assert(kAscentMax <= kDescentMax);

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

void ChunkLru::Descend(RowIndex row, Descent& descent) const {
  Descent own{.row = row, .end = row, .links = 0};
  // A row shortly below the last one is on its way down.
  RowIndex above = row;
  for (int links = 1; links <= kAscentMax; ++links) {
    const RowIndex child = above;
    above = table_->parent(child);
    if (above == kNoRow || table_->first_child(above) != child) break;
    if (above != descent.row) continue;
    own.end = descent.end;
    own.links = descent.links - links;
    break;
  }
  while (own.links < kDescentMax) {
    const RowIndex child = table_->first_child(own.end);
    if (child == kNoRow) break;
    own.end = child;
    ++own.links;
    if (child != descent.row) continue;
    // From there on the way is known, and as much longer than it may be as it was to there.
    own.end = descent.end;
    own.links += descent.links;
    for (; own.links > kDescentMax; --own.links) own.end = table_->parent(own.end);
    break;
  }
  descent = own;
}

void ChunkLru::MoveNextToLeaf(RowIndex row, Descent& last) {
  Descend(row, last);
  const RowIndex leaf = last.end;
  if (leaf == row || !Contains(leaf) || ListOf(leaf) != ListOf(row)) {
    MoveToFront(row);
    return;
  }
  Remove(row);
  InsertInFrontOf(row, leaf);
}

}  // namespace kvtier
