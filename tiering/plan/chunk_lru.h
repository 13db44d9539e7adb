// Recency lists of chunks, threaded through the rows themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tiering/base/ids.h"
#include "tiering/block/block_catalog.h"

namespace kvtier {

// A fixed number of doubly linked lists; a row is in at most one. Uses all three policy words of a
// row: links in two, and list number plus a policy's flags in the third, so that touching a row
// that is in the cache costs at most its two neighbours. Front is most recent.
class ChunkLru {
 public:
  // Bits of the third word that are left to the policy.
  static constexpr uint32_t kFlagsMask = 0xff000000u;

  ChunkLru(BlockCatalog* table, size_t list_count) : table_(table), lists_(list_count) {}

  bool Contains(RowIndex row) const { return (words(row)[2] & ~kFlagsMask) != 0; }
  // The list of a row that is in one.
  size_t ListOf(RowIndex row) const { return (words(row)[2] & ~kFlagsMask) - 1; }
  void PushFront(RowIndex row, size_t list);
  // Next to `other`, in its list: one step more recent, or one step less.
  void InsertInFrontOf(RowIndex row, RowIndex other);
  void InsertBehind(RowIndex row, RowIndex other);
  void Remove(RowIndex row);
  void MoveToFront(RowIndex row) {
    const size_t list = ListOf(row);
    if (lists_[list].front == row) return;
    Remove(row);
    PushFront(row, list);
  }
  // A row that is in a list was just committed. A chain that is committed link by link lies in the
  // list as one that is touched does: heads more recent than what hangs on them.
  void FileCommit(RowIndex row);
  // The way down from a row to a leaf. That of rows around it follows from it, for as long as no
  // row comes or goes.
  struct Descent {
    RowIndex row = kNoRow;
    RowIndex end = kNoRow;
    int links = 0;
  };
  // For a row that cannot be dropped yet: it becomes as recent as a chunk that hangs on it and can,
  // or the front of its list when there is none in it. `last` is that of the call before in the
  // same search: what follows each other in a list mostly hangs on each other.
  void MoveNextToLeaf(RowIndex row, Descent& last);
  // kNoRow when the list is empty.
  RowIndex Back(size_t list) const { return lists_[list].back; }
  // The next more recent row; kNoRow at the front.
  RowIndex TowardsFront(RowIndex row) const { return words(row)[0] - 1; }

  bool HasFlag(RowIndex row, uint32_t flag) const { return (words(row)[2] & flag) != 0; }
  void SetFlag(RowIndex row, uint32_t flag, bool on) {
    uint32_t& word = table_->policy_words(row)[2];
    word = on ? word | flag : word & ~flag;
  }

 private:
  struct List {
    RowIndex front = kNoRow;
    RowIndex back = kNoRow;
    RowIndex committed = kNoRow;  // the last one that was filed; only ever compared with
  };
  // Between two neighbours, kNoRow where there is none.
  void Insert(RowIndex row, size_t list, RowIndex newer, RowIndex older);
  // Turns `descent` into that of `row`.
  void Descend(RowIndex row, Descent& descent) const;
  RowIndex TowardsBack(RowIndex row) const { return words(row)[1] - 1; }
  // Links hold row + 1, so that the zero of a new row means "none" and kNoRow comes out of 0 - 1.
  const std::array<uint32_t, 3>& words(RowIndex row) const { return table_->policy_words(row); }

  BlockCatalog* table_;
  std::vector<List> lists_;
};

}  // namespace kvtier
