// The block table: one row a chunk, with its place in the prefix tree and the copies of each of its
// blocks.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "proto/wire/chunk_key.h"
#include "tiering/base/bytes.h"
#include "tiering/base/copy_ref.h"
#include "tiering/base/ids.h"
#include "tiering/base/paged_array.h"
#include "tiering/block/block_index.h"
#include "tiering/block/block_store.h"
#include "tiering/block/chunk_hash.h"
#include "tiering/block/model.h"
#include "tiering/block/residency_observer.h"

namespace kvtier {

// What the table needs to know of a registered model, derived once.
struct ModelLayout {
  TenantId tenant;
  uint32_t chunk_tokens = 0;
  std::vector<Bytes> plane_bytes;
  std::vector<bool> required;
  uint16_t required_count = 0;
  // Planes that are not required but decide by their kind where a prefix can be resumed: the chunks
  // that hold so many of the last tokens need them (a state: 1, so the last chunk).
  struct ResumePlane {
    PlaneIndex plane;
    uint32_t tokens;
  };
  std::vector<ResumePlane> resume_planes;
};

// Not thread-safe; owned by the engine. Rows are dense indices that are reused; a caller that keeps
// one across calls holds a lease (Pin) or compares the generation.
//
// Invariants: a row with a child, a lease or a move in flight is never removed; a visible row has a
// copy of each required plane; a row is in the index unless it was unlinked (forgotten).
class BlockCatalog {
 public:
  static constexpr uint64_t kBlocksMax = 0xfffffffeu;

  // At most `chunks_max` rows, with memory for at most `blocks_max` blocks (a row has one a plane,
  // there or not), which is at most kBlocksMax. Whoever does not know `index_seed` cannot choose
  // keys that fall into one bucket of the index.
  explicit BlockCatalog(uint64_t chunks_max, uint64_t blocks_max = kBlocksMax,
                        uint64_t index_seed = 0);

  // Tells it of every change from now on; it outlives the table. Nobody is told by default.
  void Observe(ResidencyObserver* observer) { observer_ = observer; }

  // Models are added in the order of their ids.
  void AddModel(ModelLayout layout);
  const ModelLayout& layout(ModelId model) const { return models_[model.value()]->layout; }
  size_t plane_count(ModelId model) const { return layout(model).plane_bytes.size(); }

  // --- rows
  // -------------------------------------------------------------------------------------------------
  // kNoRow when there is none.
  RowIndex Find(ModelId model, const wire::ChunkKey& key) const;
  // Finds many: brings buckets and rows into the cache ahead, so that misses overlap. `rows` gets
  // one entry a key.
  void FindAll(ModelId model, absl::Span<const wire::ChunkKey> keys,
               std::vector<RowIndex>& rows) const;
  // Adds a row without copies; `parent` may be kNoRow. kNoRow when chunks_max rows are there, or no
  // memory for its blocks is left of blocks_max. The key must be new.
  RowIndex Create(ModelId model, const wire::ChunkKey& key, RowIndex parent, uint32_t token_count);
  // Takes the row out of the index: no lookup or commit finds it any more.
  void Unlink(RowIndex row);
  // Frees a row that is Droppable and has no copies left.
  void Remove(RowIndex row);

  uint64_t row_count() const { return row_count_; }
  uint64_t block_count() const { return block_count_; }
  uint64_t row_count(TenantId tenant) const;
  uint64_t block_count(TenantId tenant) const;
  // Rows ever used; live ones are those with live(row).
  RowIndex row_end() const { return static_cast<RowIndex>(rows_.size()); }
  bool live(RowIndex row) const { return row < rows_.size() && (rows_[row].flags & kLive) != 0; }

  const wire::ChunkKey& key(RowIndex row) const { return rows_[row].key; }
  ModelId model(RowIndex row) const { return ModelId(rows_[row].model); }
  TenantId tenant(RowIndex row) const { return layout(model(row)).tenant; }
  RowIndex parent(RowIndex row) const { return rows_[row].parent; }
  RowIndex first_child(RowIndex row) const { return rows_[row].first_child; }
  RowIndex next_sibling(RowIndex row) const { return rows_[row].next_sibling; }
  uint32_t token_count(RowIndex row) const { return rows_[row].token_count; }
  uint32_t generation(RowIndex row) const { return rows_[row].generation; }
  bool hidden(RowIndex row) const { return (rows_[row].flags & kHidden) != 0; }
  bool was_visible(RowIndex row) const { return (rows_[row].flags & kWasVisible) != 0; }
  void MarkVisible(RowIndex row) { rows_[row].flags |= kWasVisible; }
  // All required planes have a copy, and nobody forgot it.
  bool Visible(RowIndex row) const { return rows_[row].missing_required == 0 && !hidden(row); }
  // Brings the row into the cache.
  void Prefetch(RowIndex row) const { __builtin_prefetch(&rows_[row]); }

  // --- what keeps a row
  // -------------------------------------------------------------------------------------
  // At most 2^32 - 1 pins of a row at once; the caller's own limits see to it.
  void Pin(RowIndex row);
  void Unpin(RowIndex row);
  uint32_t leases(RowIndex row) const { return rows_[row].leases; }
  void BeginMove(RowIndex row) { ++rows_[row].moves; }
  void EndMove(RowIndex row);
  uint16_t moves(RowIndex row) const { return rows_[row].moves; }
  bool Droppable(RowIndex row) const {
    const Row& r = rows_[row];
    return r.first_child == kNoRow && r.leases == 0 && r.moves == 0;
  }

  // --- copies
  // -----------------------------------------------------------------------------------------------
  const Block& block(RowIndex row, PlaneIndex plane) const {
    const Row& r = rows_[row];
    return models_[r.model]->blocks.At(r.block)[plane.value()];
  }
  // First copy of a block, with its checksum. The block must have none.
  void SetFirst(RowIndex row, PlaneIndex plane, CopyRef copy, uint64_t checksum);
  // A further copy; pools with lower numbers are better. The block must have exactly one.
  void AddCopy(RowIndex row, PlaneIndex plane, CopyRef copy);
  // False when the block has no such copy.
  bool RemoveCopy(RowIndex row, PlaneIndex plane, CopyRef copy);

  // Three words of the row that belong to the placement policy; zero in a new row.
  std::array<uint32_t, 3>& policy_words(RowIndex row) { return rows_[row].policy; }
  const std::array<uint32_t, 3>& policy_words(RowIndex row) const { return rows_[row].policy; }

  Bytes metadata_bytes() const;
  void CheckInvariants() const;

 private:
  static constexpr uint8_t kLive = 1, kHidden = 2, kWasVisible = 4;

  struct Row {
    wire::ChunkKey key;
    RowIndex parent;  // next free row while not live
    RowIndex first_child;
    RowIndex next_sibling;
    RowIndex prev_sibling;
    uint32_t block;  // its group in the model's store
    uint32_t leases;
    std::array<uint32_t, 3> policy;
    uint32_t generation;
    uint16_t token_count;
    uint16_t model;
    uint16_t missing_required;
    uint8_t flags;
    uint8_t moves;
  };
  static_assert(sizeof(Row) == 64, "a row is one cache line");

  struct ModelBlocks {
    ModelBlocks(ModelLayout of, BlockRoom* room)
        : layout(std::move(of)), blocks(static_cast<uint32_t>(layout.plane_bytes.size()), room) {}

    ModelLayout layout;
    uint64_t row_count = 0;
    uint64_t block_count = 0;
    BlockStore blocks;
  };

  Block& mutable_block(const Row& row, PlaneIndex plane) {
    return models_[row.model]->blocks.At(row.block)[plane.value()];
  }
  // Room for a new row's blocks; BlockStore::kNone when blocks_max leaves none.
  uint32_t AddBlocks(ModelBlocks& model);

  uint64_t chunks_max_;
  BlockRoom room_;
  ChunkHash hash_;
  PagedArray<Row, 16384> rows_;
  RowIndex free_row_ = kNoRow;
  uint64_t row_count_ = 0;
  uint64_t block_count_ = 0;
  BlockIndex index_;
  std::vector<std::unique_ptr<ModelBlocks>> models_;
  ResidencyObserver* observer_ = nullptr;
};

}  // namespace kvtier
