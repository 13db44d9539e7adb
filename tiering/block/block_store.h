// Where the block table keeps the blocks of one model's rows: as many side by side as the model has
// planes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tiering/base/bytes.h"
#include "tiering/base/copy_ref.h"

namespace kvtier {

// State of one block: at most two copies, the better first, and the checksum that both have.
struct Block {
  CopyRef best;
  CopyRef second;
  uint64_t checksum = 0;
};
static_assert(sizeof(Block) == 16, "metadata budget: 16 bytes a block");

// How many blocks several stores may have memory for together, and how many they have.
struct BlockRoom {
  uint64_t blocks_max = 0;  // below 2^32
  uint64_t blocks_allocated = 0;
};

// Groups of `planes` blocks, by number; a group keeps its address while it lives. Memory comes in
// pages of many groups, and a page goes back once its last group does (one empty page is kept, so
// that removing and adding by turns does not allocate). Not thread-safe.
class BlockStore {
 public:
  static constexpr uint32_t kNone = 0xffffffffu;
  // A page never has more blocks than this, or than one group if that is more.
  static constexpr uint32_t kPageBlocks = 4096;

  // The room is shared with other stores and outlives this one.
  BlockStore(uint32_t planes, BlockRoom* room);

  // An empty group; kNone when it takes a new page and the room has no place for one.
  uint32_t Add();
  // The group must be there.
  void Remove(uint32_t group);

  Block* At(uint32_t group) { return pages_[group >> shift_].blocks.get() + Offset(group); }
  const Block* At(uint32_t group) const {
    return pages_[group >> shift_].blocks.get() + Offset(group);
  }

  // Gives the empty page back that may have been kept.
  void ReleaseSpare();

  // Blocks that there is memory for, used or not.
  uint64_t allocated_blocks() const { return allocated_pages_ * page_blocks(); }
  Bytes metadata_bytes() const;

 private:
  struct Page {
    std::unique_ptr<Block[]> blocks;  // null: the number is unused
    uint32_t live = 0;                // groups in use
    uint32_t fresh = 0;               // groups from here on were never used
    uint32_t free = kNone;            // first unused group before those, linked by its checksum
    // In the list of pages with room; of an unused number, the next unused one.
    uint32_t next = kNone;
    uint32_t previous = kNone;
  };

  uint64_t page_blocks() const { return uint64_t{planes_} << shift_; }
  size_t Offset(uint32_t group) const { return size_t{group & mask_} * planes_; }
  bool AddPage();
  void ReleasePage(uint32_t number);
  void Link(uint32_t number);
  void Unlink(uint32_t number);

  const uint32_t planes_;
  BlockRoom* const room_;
  uint32_t shift_ = 0;  // a page has 1 << shift_ groups
  uint32_t mask_ = 0;
  uint64_t allocated_pages_ = 0;
  uint32_t with_room_ = kNone;
  uint32_t unused_numbers_ = kNone;
  uint32_t spare_ = kNone;  // an empty page that is kept
  std::vector<Page> pages_;
};

}  // namespace kvtier
